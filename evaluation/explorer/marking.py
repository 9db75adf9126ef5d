"""What explorer.html needs to mark images and to save them as a table of labels."""
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evaluation.explorer.data import Explorer
from evaluation.pages import clean, fingerprint, shorten


def marking(explorer: Explorer, root: Path | None) -> dict:
    """What the marks need: the pictures of their table, its root, and where the browser keeps them.

    full: the names of classes that the page shows shortened, or that several classes have.
    """
    listed = len(explorer.paths) if explorer.gallery is None else len(explorer.neighbour)
    paths = explorer.paths[:listed]
    root = common_folder(paths) if root is None else root.as_posix()
    names = [clean(line.name) for line in explorer.classes]
    known = [list(map(str, paths)), explorer.label[:listed].tolist(), names]
    return {
        "listed": listed,
        "root": clean("" if root == "." else root),
        "store": f"marks {fingerprint(json.dumps(known))}",
        "full": full_names(names),
    }


def common_folder(paths: Sequence[Path]) -> str:
    """The deepest folder that holds all of the files."""
    return Path(os.path.commonpath([path.parent for path in paths])).as_posix()


def full_names(names: Sequence[str]) -> dict[int, str]:
    """A different name for each class, by number, where it is not the one that is shown."""
    count = Counter(names)
    full = {}
    for number, name in enumerate(names):
        distinct = name if count[name] == 1 else f"{name} #{number}"
        if distinct != shorten(name):
            full[number] = distinct
    return full
