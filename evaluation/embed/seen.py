"""What a network has seen of the images that it is to embed."""
from collections.abc import Collection, Iterator
from pathlib import Path

from architectures.exported import describe
from utilities import checkpoint
from utilities.files import section
from utilities.text import counted


def notes_on_classes(
    path: str | Path, classes: Collection[str], tested: Collection[str] = ()
) -> Iterator[str]:
    """What there is to say of the classes of images for the network of a checkpoint or an export.

    Nothing where the file does not name its classes. tested: the names of all classes of a test
    split; of another data set, none of them was tested by the run.
    """
    path = Path(path)
    named = section(describe(path) if path.is_dir() else checkpoint.load(path), "classes")
    seen = sorted(_names(named, "train", "trained_on") & set(classes))
    if seen:
        yield (f"note: {len(seen)} of {counted(len(set(classes)), 'class')} have the name of one that the network "
               f"was trained on, such as {seen[0]}; numbers of these are not of unseen classes.")
    before = _names(named, "test")
    missing = sorted(before - set(tested))
    if missing and before & set(tested):
        yield (f"note: {len(missing)} of the {counted(len(before), 'class')} that the run tested are not tested here, "
               f"such as {missing[0]}; a folder without its training classes is halved anew.")


def _names(named: dict, *keys: str) -> set[str]:
    """The classes under these keys; the file may hold anything there."""
    lists = [named[key] for key in keys if isinstance(named.get(key), list)]
    return {name for one in lists for name in one if isinstance(name, str)}
