"""Text of unknown origin, such as the name of a file, as a terminal may show it."""


def printable(text: object) -> str:
    r"""The text on one line: a line end, a control character, a byte that is not UTF-8 are escaped.

    They become \n, \x1b or \udcff.
    """
    return "".join(map(_escaped, str(text)))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
