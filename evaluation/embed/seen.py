"""What a network has seen of the images that it is to embed."""
from collections.abc import Collection
from pathlib import Path

from architectures.exported import describe
from utilities import checkpoint
from utilities.files import section
from utilities.text import counted


def trained_on(path: str | Path, classes: Collection[str]) -> str | None:
    """A note on those of the classes that the network of a checkpoint or an export was trained on.

    None where there are none, or where the file does not say. Classes are told by their names.
    """
    known = _training_classes(Path(path))
    if not isinstance(known, list):
        return None
    seen = sorted({name for name in known if isinstance(name, str)} & set(classes))
    if not seen:
        return None
    return (f"note: {len(seen)} of {counted(len(set(classes)), 'class')} have the name of one that the network "
            f"was trained on, such as {seen[0]}; numbers of these are not of unseen classes.")


def _training_classes(path: Path) -> object:
    """The names of the training classes; anything else where the file does not say."""
    if path.is_dir():
        return section(describe(path), "classes").get("trained_on")
    return section(checkpoint.load(path), "classes").get("train")
