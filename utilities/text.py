"""Text of unknown origin, such as the name of a file, as a terminal may show it."""


def printable(text: object) -> str:
    r"""The text on one line: line ends, control characters and bytes that are not UTF-8 become \n, \x1b, \udcff."""
    return "".join(map(_escaped, str(text)))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
