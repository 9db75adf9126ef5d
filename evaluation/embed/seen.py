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

    tested: the names of all classes of a test split.
    """
    for note in (trained_on(path, classes), left_out(path, tested)):
        if note:
            yield note


def trained_on(path: str | Path, classes: Collection[str]) -> str | None:
    """A note on those of the classes that the network of a checkpoint or an export was trained on.

    None where there are none, or where the file does not say. Classes are told by their names.
    """
    seen = sorted(_classes(Path(path), "train", "trained_on") & set(classes))
    if not seen:
        return None
    return (f"note: {len(seen)} of {counted(len(set(classes)), 'class')} have the name of one that the network "
            f"was trained on, such as {seen[0]}; numbers of these are not of unseen classes.")


def left_out(path: str | Path, classes: Collection[str]) -> str | None:
    """A note on classes that the run of a checkpoint tested and that are not among these, the ones
    that are tested now.

    None where none of these was tested then: it is another data set.
    """
    tested = _classes(Path(path), "test")
    missing = sorted(tested - set(classes))
    if not missing or not tested & set(classes):
        return None
    return (f"note: {len(missing)} of the {counted(len(tested), 'class')} that the run tested are not tested here, "
            f"such as {missing[0]}; a folder without its training classes is halved anew.")


def _classes(path: Path, *keys: str) -> set[str]:
    """The names of the classes of a split of a run, by its name in a checkpoint or in an export;
    empty where the file does not say."""
    named = section(describe(path) if path.is_dir() else checkpoint.load(path), "classes")
    lists = [named[key] for key in keys if isinstance(named.get(key), list)]
    return {name for one in lists for name in one if isinstance(name, str)}
