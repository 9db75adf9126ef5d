"""CARS196 (Krause et al., 3D Object Representations for Fine-Grained Categorization, 3dRR 2013):
cars of 196 models.
"""
import re
from pathlib import Path

import numpy as np

from datasets.base import Splits, split_in_halves
from datasets.files import class_halves, inner_path, listed_files, read_layout
from utilities.errors import UsageError, in_brief

# images, classes
COUNTS = {"train": (8054, 98), "test": (8131, 98)}
FOLDERS = ("cars196",)
ANNOTATIONS = "cars_annos.mat"



def cars196(source_path: str | Path) -> Splits:
    """The first half of the class numbers for training, the second for testing, as is usual for
    retrieval.

    The split of cars_annos.mat shares classes and is not used. Layouts: car_ims/ and cars_annos.mat
    beside each other, or the base framework's images/<class>/. Its classes are in the order of
    their numbers where all have one (014.Audi TTS Coupe 2012), else in alphabetical order.
    """
    return read_layout("cars196", source_path, FOLDERS, {
        ("car_ims", ANNOTATIONS): _official, ("images",): class_halves})


def _official(root: Path) -> Splits:
    """The two downloads."""
    source = root / ANNOTATIONS
    names, classes, in_order = read_annotations(source)
    paths = listed_files(source, root, names)
    return split_in_halves(source, list(zip(paths, classes)), classes=in_order)


def read_annotations(path: Path) -> tuple[list[str], list[str], list[str]]:
    """From cars_annos.mat of the complete set, a MATLAB file of version 5: path and class of each
    image; all classes in the order of their numbers. A UsageError for any other file.
    """
    from scipy.io import loadmat
    try:
        # Version 5 holds arrays, text and structs: scipy turns them into arrays and neither
        # unpickles nor evaluates anything. Only the two variables are read, and appendmat=False
        # keeps scipy from opening another file.
        held = loadmat(path, appendmat=False, variable_names=["annotations", "class_names"],
                       squeeze_me=True, struct_as_record=True)
        rows = np.atleast_1d(held["annotations"])
        numbered = enumerate(np.atleast_1d(held["class_names"]), start=1)
        names = [class_name(number, str(name)) for number, name in numbered]
        paths = [inner_path(str(name)) for name in rows["relative_im_path"]]
        numbers = [int(number) for number in rows["class"]]
    # damage raises nearly any type, by where it is
    except Exception as error:
        raise UsageError(f"{path}: this is not the table of CARS196 ({in_brief(error)}); fetch "
                         "it again.") from None
    unnamed = sorted(set(numbers) - set(range(1, len(names) + 1)))
    if unnamed:
        raise UsageError(f"{path}: class {unnamed[0]} has no name among the {len(names)} given; "
                         "fetch the file again.")
    return paths, [names[number - 1] for number in numbers], names


def class_name(number: int, name: str) -> str:
    """The name of a class, and of its folder in a prepared set: its number first, slashes
    replaced.
    """
    safe = re.sub(r"[/\\\0]", "-", name)
    return f"{number:03d}.{safe}"
