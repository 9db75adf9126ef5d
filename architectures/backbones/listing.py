"""The lists of `python main.py --list`, with those that only a library can give."""
from architectures.backbones import LIBRARIES, weight_files
from architectures.weights import Source, digits_of
from utilities import listing


def names(what: str) -> dict[str, str]:
    """The names of any list, each with its description."""
    if what in listing.FLAGS:
        return listing.names(what)
    if what == "weights":
        sources = weight_files()
        return {source.files[0]: description(name, source) for name, source in sources.items()}
    _, library_names = LIBRARIES[what]
    return {f"{what}.{name}": "" for name in library_names()}


def description(backbone: str, source: Source) -> str:
    """What a file of weights is for, how it is checked and where it is."""
    digits = digits_of(source.files[0])
    checksum = f"SHA-256 begins with {digits}; " if digits else ""
    return f"{backbone}; {checksum}{source.url}"
