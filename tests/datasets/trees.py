"""Tiny trees and archives in the formats of the real data sets, with their traps: what parsers and
`datasets.prepare` are tested on.

Every maker of a tree takes the folder to write into and returns the data set's own folder within
it. Pictures are JPEGs of 40 x 30 pixels, of one colour a class with noise, the same for the same
arguments. `backwards` writes the files in the reverse order, for tests that nothing depends on the
file system's order.
"""
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

# width, height
SIZE = (40, 30)
BIRDS = (
    "Black_footed_Albatross",
    "Laysan_Albatross",
    "Sooty_Albatross",
    "Groove_billed_Ani",
    "Crested_Auklet",
    "Least_Auklet",
    "Parakeet_Auklet",
    "Rhinoceros_Auklet",
)
CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Acura TL Sedan 2012", "Acura "
                                                                                    "Integra Type "
                                                                                    "R 2001",
        "Ram C/V Cargo Van Minivan 2012", "Rolls-Royce Ghost Sedan 2012", "Volvo C30 Hatchback "
                                                                          "2012",
        "smart fortwo Convertible 2012")
PRODUCTS = (
    "bicycle",
    "cabinet",
    "chair",
    "coffee_maker",
    "fan",
    "kettle",
    "lamp",
    "mug",
    "sofa",
    "stapler",
    "table",
    "toaster",
)
CLOTHES = ("MEN/Denim", "WOMEN/Blouses_Shirts", "WOMEN/Dresses", "WOMEN/Jackets_Coats")
TRAPS = ("grey", "cmyk", "rotated", "truncated", "spaces", "stray", "missing_class", "empty_class")
STRAY = ("._stray.jpg", "._Thumbs.db", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt")


# ----------------------------------------------------------------------------------------- pictures


def save_jpeg(path: Path, label: int = 0, seed: int = 0, kind: str = "rgb") -> Path:
    """A JPEG of the colour of `label` with noise. kind: rgb, grey, cmyk, rotated (by EXIF), or
    truncated.
    """
    random = np.random.default_rng([label, seed])
    colour = np.random.default_rng(label).integers(40, 216, 3)
    noise = random.normal(0, 20, (SIZE[1], SIZE[0], 3))
    image = Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8))
    if kind in ("grey", "cmyk"):
        image = image.convert({"grey": "L", "cmyk": "CMYK"}[kind])
    exif = Image.Exif()
    if kind == "rotated":
        # stored lying, to be shown upright
        exif[0x0112] = 6
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=90, exif=exif)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-path.stat().st_size // 3])
    return path


def save_jpegs(images: Iterable[tuple[Path, int]], backwards: bool = False) -> None:
    """A picture for each path and label; their contents do not depend on the order."""
    numbered = [(path, label, seed) for seed, (path, label) in enumerate(images)]
    for path, label, seed in reversed(numbered) if backwards else numbered:
        save_jpeg(path, label, seed)


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def add_stray_files(folder: Path) -> None:
    """What operating systems and people leave behind, in this folder and every folder below."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in STRAY:
            (place / name).write_bytes(b"no image")
    save_jpeg(folder / "__MACOSX" / "._001.jpg")


# ---------------------------------------------------------------------------------------------- CUB


def cub_names(classes: int, images: int, traps: Collection[str] = ()) -> list[tuple[str, str]]:
    """Class folder and file name of each image, in the order of images.txt."""
    folders = [
        f"{c + 1:03d}.{BIRDS[c] if c < len(BIRDS) else f'Bird_{c + 1}'}" for c in range(classes)
    ]
    named = [(folder, f"{folder[4:].title()}_{i + 1:04d}_{796100 + 10 * c + i}.jpg")
             for c, folder in enumerate(folders) for i in range(images)]
    if "spaces" in traps:
        named[1] = (named[1][0], named[1][1].replace("_", " "))
    return named


def cub_official(root: Path, classes: int = 8, images: int = 4, traps: Collection[str] = (),
                 backwards: bool = False) -> Path:
    """<root>/CUB_200_2011 as the archive has it; see set_traps."""
    folder = root / "CUB_200_2011"
    names = cub_names(classes, images, traps)
    folders = list(dict.fromkeys(name for name, _ in names))
    label = [folders.index(name) for name, _ in names]
    save_jpegs(
        [(folder / "images" / name / file, of) for (name, file), of in zip(names, label)], backwards
    )
    write_lines(
        folder / "images.txt",
        [f"{i} {name}/{file}" for i, (name, file) in enumerate(names, start=1)],
    )
    write_lines(
        folder / "image_class_labels.txt", [f"{i} {of + 1}" for i, of in enumerate(label, start=1)]
    )
    write_lines(folder / "train_test_split.txt", [f"{i} {i % 2}" for i in range(1, len(names) + 1)])
    write_lines(folder / "classes.txt", [f"{c} {name}" for c, name in enumerate(folders, start=1)])
    set_traps([folder / "images" / name / file for name, file in names], traps)
    return folder


def cub_base(root: Path, classes: int = 8, images: int = 4, traps: Collection[str] = (),
             backwards: bool = False) -> Path:
    """<root>/cub200 with a folder for each class under images/."""
    folder = root / "cub200"
    names = cub_names(classes, images, traps)
    files = [folder / "images" / name / file for name, file in names]
    save_jpegs([(path, int(path.parent.name[:3]) - 1) for path in files], backwards)
    set_traps(files, traps)
    return folder


def set_traps(files: list[Path], traps: Collection[str]) -> None:
    """Change images of a tree with class folders, given in order of their classes.

    grey, cmyk, rotated, truncated: what the first four images become, each its own. stray: files
    that are no images in every folder. missing_class: the second class folder is gone; empty_class:
    it is empty. spaces: see cub_names.
    """
    unknown = set(traps) - set(TRAPS)
    if unknown:
        raise ValueError(f"no such trap: {unknown}")
    for path, kind in zip(files, ("grey", "cmyk", "rotated", "truncated")):
        if kind in traps:
            save_jpeg(path, kind=kind)
    if "stray" in traps:
        add_stray_files(files[0].parent.parent)
    second = list(dict.fromkeys(path.parent for path in files))[1]
    if {"missing_class", "empty_class"} & set(traps):
        for path in second.iterdir():
            path.unlink()
    if "missing_class" in traps:
        second.rmdir()


# --------------------------------------------------------------------------------------------- CARS


def cars_official(root: Path, classes: int = 8, images: int = 4, backwards: bool = False) -> Path:
    """<root>/cars196 with car_ims/ and cars_annos.mat, as the two downloads unpacked beside each
    other.
    """
    folder = root / "cars196"
    label = [c for c in range(classes) for _ in range(images)]
    names = [f"car_ims/{i:06d}.jpg" for i in range(1, len(label) + 1)]
    save_jpegs([(folder / name, of) for name, of in zip(names, label)], backwards)
    save_cars_annotations(folder / "cars_annos.mat", names, label, car_names(classes))
    return folder


def car_names(classes: int) -> list[str]:
    """The names of the first classes; not in alphabetical order, and one with a slash."""
    return [CARS[c] if c < len(CARS) else f"Car {c + 1} Sedan 2012" for c in range(classes)]


def save_cars_annotations(
    path: Path, names: list[str], label: list[int], class_names: list[str]
) -> Path:
    """A .mat of the real structure: struct array `annotations`, classes from 1, and cell array
    `class_names`.
    """
    from scipy.io import savemat
    fields = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    annotations = np.empty((1, len(names)), dtype=[(field, object) for field in fields])
    for i, (name, of) in enumerate(zip(names, label)):
        box = [np.uint16([[edge]]) for edge in (1, 1, *SIZE)]
        annotations[0, i] = (name, *box, np.uint8([[of + 1]]), np.uint8([[i % 2]]))
    cells = np.empty((1, len(class_names)), dtype=object)
    cells[0] = class_names
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": annotations, "class_names": cells}, do_compression=True)
    return path


def cars_base(root: Path, classes: int = 8, images: int = 4, backwards: bool = False) -> Path:
    """<root>/cars196 with a folder for each class under images/, the slash of a name replaced."""
    folder = root / "cars196"
    files = [(folder / "images" / name.replace("/", "-") / f"{images * c + i + 1:06d}.jpg", c)
             for c, name in enumerate(car_names(classes)) for i in range(images)]
    save_jpegs(files, backwards)
    return folder


# ------------------------------------------------------------------------- Stanford Online Products


def sop_rows(supers: int, classes: int, images: int) -> dict[str, list[tuple[int, int, int, str]]]:
    """The rows of Ebay_train.txt and Ebay_test.txt: image, class and super-class from 1, and
    path. `classes` is for each super-class and split; numbers go on from train to test.
    """
    rows: dict[str, list[tuple[int, int, int, str]]] = {"train": [], "test": []}
    image = of = 0
    for split in rows:
        for super_class, name in enumerate(PRODUCTS[:supers], start=1):
            for _ in range(classes):
                of += 1
                for i in range(images):
                    image += 1
                    rows[split].append(
                        (image, of, super_class, f"{name}_final/{111085122000 + of}_{i}.JPG")
                    )
    return rows


def sop_official(
    root: Path, supers: int = 4, classes: int = 2, images: int = 4, backwards: bool = False
) -> Path:
    """<root>/Stanford_Online_Products as the archive has it; `classes` of each super-class in
    either split.
    """
    folder = root / "Stanford_Online_Products"
    _save_sop(folder, folder, sop_rows(supers, classes, images), backwards)
    return folder


def sop_base(
    root: Path, supers: int = 4, classes: int = 2, images: int = 4, backwards: bool = False
) -> Path:
    """<root>/online_products with images/ and Info_Files/."""
    folder = root / "online_products"
    _save_sop(
        folder / "images", folder / "Info_Files", sop_rows(supers, classes, images), backwards
    )
    return folder


def _save_sop(
    images: Path, lists: Path, rows: dict[str, list[tuple[int, int, int, str]]], backwards: bool
) -> None:
    """Images and the three lists."""
    whole = rows["train"] + rows["test"]
    save_jpegs([(images / path, of) for _, of, _, path in whole], backwards)
    for name, part in (*rows.items(), ("info", whole)):
        write_lines(lists / f"Ebay_{name}.txt",
                    ["image_id class_id super_class_id "
                     "path", *(" ".join(map(str, row)) for row in part)])


# ------------------------------------------------------------------------------------------ In-Shop


def in_shop_rows(items: int = 4, images: int = 4, queries: int = 2) -> list[tuple[str, str, str]]:
    """Rows of list_eval_partition.txt: image, item, status. `items` train and as many others are
    tested, each of these with `queries` queries, the rest in the gallery.
    """
    rows = []
    for item in range(2 * items):
        for i in range(images):
            status = "train" if item < items else "query" if i < queries else "gallery"
            identity = f"id_{item + 1:08d}"
            view = ("front", "side", "back", "full", "additional")[i % 5]
            rows.append(
                (
                    ""
                    f"img/{CLOTHES[item % len(CLOTHES)]}/{identity}/{i // 5 + 1:02d}_{i + 1}_{view}.jpg",
                    identity,
                    status,
                )
            )
    return rows


def in_shop_official(
    root: Path,
    rows: list[tuple[str, str, str]] | None = None,
    at_root: bool = False,
    backwards: bool = False,
) -> Path:
    """<root>/in_shop with Img/img/ and Eval/list_eval_partition.txt, or img/ and the list right
    in it (at_root).
    """
    folder = root / "in_shop"
    rows = in_shop_rows() if rows is None else rows
    images, lists = (folder, folder) if at_root else (folder / "Img", folder / "Eval")
    save_jpegs([(images / image, int(item[3:])) for image, item, _ in rows], backwards)
    write_lines(lists / "list_eval_partition.txt",
                [str(len(rows)), "image_name item_id evaluation_status",
                 *(f"{image:<71} {item:<12} {status:<10}" for image, item, status in rows)])
    return folder


# ----------------------------------------------------------------------------------------- archives


def make_tgz(folder: Path, path: Path) -> Path:
    """A .tgz of a folder, its own name first in every member."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(folder, arcname=folder.name)
    return path


def make_zip(folder: Path, path: Path) -> Path:
    """A .zip of a folder, its own name first in every member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, (Path(folder.name) / file.relative_to(folder)).as_posix())
    return path


def _tar_member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    """The header of one member."""
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    member.mode = mode
    return member


HOSTILE_TAR: dict[str, list[tarfile.TarInfo]] = {
    "parent": [_tar_member("set/../../outside.jpg")],
    "absolute": [_tar_member("/outside.jpg")],
    "symlink": [_tar_member("set/link", tarfile.SYMTYPE, "/etc")],
    "through_symlink": [
        _tar_member("set/link", tarfile.SYMTYPE, "../.."),
        _tar_member("set/link/outside.jpg"),
    ],
    "hardlink": [_tar_member("set/passwd", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [_tar_member("set/null", tarfile.CHRTYPE)],
    "pipe": [_tar_member("set/pipe", tarfile.FIFOTYPE)],
    "setuid": [_tar_member("set/run.jpg", mode=0o4755)],
}


def hostile_tgz(path: Path, kind: str) -> Path:
    """A .tgz with one good image and then what HOSTILE_TAR[kind] lists."""
    with tarfile.open(path, "w:gz") as archive:
        for member in [_tar_member("set/good.jpg"), *HOSTILE_TAR[kind]]:
            content = b"content" if member.isreg() else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _link(name: str) -> zipfile.ZipInfo:
    """The header of a symbolic link."""
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


HOSTILE_ZIP: dict[str, Callable[[], tuple[str | zipfile.ZipInfo, bytes]]] = {
    "parent": lambda: ("set/../../outside.jpg", b"content"),
    "absolute": lambda: ("/outside.jpg", b"content"),
    "backslash": lambda: ("set\\..\\..\\outside.jpg", b"content"),
    "drive": lambda: ("C:/outside.jpg", b"content"),
    "symlink": lambda: (_link("set/link"), b"/etc"),
    "lying": lambda: ("set/large.jpg", bytes(2**20)),
    "bomb": lambda: ("set/bomb.jpg", bytes(32 * 2**20)),
}


def hostile_zip(path: Path, kind: str) -> Path:
    """A .zip with one good image and one hostile member: with a name that leads outside, a link,
    `lying` (1 MiB where both headers say 100 bytes), or `bomb` (32 MiB of zeros, about a
    thousandth of it packed).
    """
    name, content = HOSTILE_ZIP[kind]()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/good.jpg", b"content")
        archive.writestr(name, content)
    if kind == "lying":
        true = struct.pack("<I", len(content))
        said = struct.pack("<I", 100)
        path.write_bytes(path.read_bytes().replace(true, said))
    return path
