"""Text of unknown origin, numbers and values, as a terminal may show them."""


def printable(text: object) -> str:
    r"""The text on one line: a line end, a control character, a byte that is not UTF-8 are escaped.

    They become \n, \x1b or \udcff.
    """
    return "".join(map(_escaped, str(text)))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 image, 0 images, 1,200 queries."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        noun = f"{noun[:-1]}ie"
    elif noun.endswith("s"):
        noun = f"{noun}e"
    return f"{number:,} {noun}s"


def shown(value: object) -> str:
    """What a function was given or gave: its type, and the shape of a tensor or an array."""
    shape = f" {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return type(value).__name__ + shape
