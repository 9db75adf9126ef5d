"""The check of a data set on disk: counts, disjoint classes, every image decodable, no image in two splits."""
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets import DATASETS, cars196, cub200, in_shop, online_products
from datasets.base import ImageList, check
from datasets.decode import ImageError, decode
from datasets.files import images_below
from datasets.workers import one_sentence
from utilities.digest import md5
from utilities.errors import UsageError

BENCHMARKS = {"cars196": cars196, "cub200": cub200, "in_shop": in_shop, "online_products": online_products}
MARKS = {"cars196": ("images", "car_ims"), "cub200": ("images",), "in_shop": ("img", "Img", "Eval"),
         "online_products": ("Info_Files", "Ebay_train.txt")}                      # one is there, even if damaged


class Report(NamedTuple):
    """What a check found: the rows of the table by split, problems, and what one should know but may be as it is."""

    rows: dict[str, dict[str, str]]
    problems: list[str]
    notes: list[str]


class Finding(NamedTuple):
    """What is known of one image: the MD5 sum of its file, and why it cannot be decoded."""

    md5: str | None = None
    problem: str | None = None


def find(name: str, source: Path) -> Path | None:
    """The folder that holds a data set, whole or damaged; None where there is nothing of it."""
    if name not in BENCHMARKS:
        return source if source.is_dir() else None
    places = [*(source / folder for folder in BENCHMARKS[name].FOLDERS), source]
    if source.absolute().name == "images":
        places.append(source.absolute().parent)
    return next((place for place in places if any((place / mark).exists() for mark in MARKS[name])), None)


def verify(name: str, source: Path, workers: int = 0) -> Report:
    """Check the data set `name` in `source`, in so many worker processes; nothing is written.

    When its lists or folders are too damaged to give splits, at least the images that are there are checked. A
    UsageError where there is nothing of the data set.
    """
    parts, problems = _splits(name, source)
    counts = getattr(BENCHMARKS.get(name), "COUNTS", {})
    owners = [(split, path) for split, images in parts.items() for path in images.paths]
    paths = [path for _, path in owners] or images_below(find(name, source))
    findings = examine(paths, workers)
    if parts:
        problems += _wrong_counts(parts, counts)
    problems += [finding.problem for finding in findings if finding.problem]
    return Report(_rows(parts, counts), problems, [*_in_no_split(name, source, parts), *_shared(owners, findings)])


def examine(paths: Sequence[Path], workers: int = 0) -> list[Finding]:
    """Decode every image, in their order."""
    loader = DataLoader(_Examined(paths), batch_size=32, num_workers=workers, collate_fn=list,
                        generator=torch.Generator())   # else it would draw from the global stream
    findings: list[Finding] = []
    with one_sentence(), tqdm(desc="check", total=len(paths), unit="image", leave=False) as bar:
        for batch in loader:
            findings += batch
            bar.update(len(batch))
    return findings


class _Examined(Dataset):
    """The findings of a list of images."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Finding:
        try:
            decode(self.paths[row])
            return Finding(md5=md5(self.paths[row]))
        except ImageError as error:
            return Finding(problem=str(error))


# ---------------------------------------------------------------------------------------------------- what is compared


def _splits(name: str, source: Path) -> tuple[dict[str, ImageList], list[str]]:
    """The splits by name, and what stands against them; none where they cannot be read."""
    parts: dict[str, ImageList] = {}
    try:
        splits = DATASETS[name](source)
        parts = {split: images for split, images in splits._asdict().items() if images is not None}
        check(splits)
    except UsageError as error:
        if find(name, source) is None:
            raise
        return parts, [str(error)]
    return parts, []


def _rows(parts: dict[str, ImageList], counts: dict[str, tuple[int, int]]) -> dict[str, dict[str, str]]:
    """The table: what is there, and what is known to be in the whole data set."""
    rows: dict[str, dict[str, str]] = {split: {"images": "-", "classes": "-"} for split in {**counts, **parts}}
    for split, images in parts.items():
        rows[split] = {"images": f"{len(images.paths):,}", "classes": f"{len(set(images.labels)):,}"}
    for split, (images, classes) in counts.items():
        rows[split]["expected"] = f"{images:,} in {classes:,}"
    return rows


def _wrong_counts(parts: dict[str, ImageList], counts: dict[str, tuple[int, int]]) -> list[str]:
    """Each number that differs from the known one."""
    found = {split: (len(images.paths), len(set(images.labels))) for split, images in parts.items()}
    return [f"{split}: {there:,} {what} instead of {known:,}."
            for split, numbers in counts.items()
            for what, there, known in zip(("images", "classes"), found[split], numbers) if there != known]


def _in_no_split(name: str, source: Path, parts: dict[str, ImageList]) -> list[str]:
    """Images beside those of the splits, which nobody reads."""
    used = {path for images in parts.values() for path in images.paths}
    if not used:
        return []
    folder = Path(os.path.commonpath([path.parent for path in used])) if name in BENCHMARKS else source
    unused = [path for path in images_below(folder) if path not in used]
    return [f"{folder}: {len(unused):,} images are in no split, the first is {unused[0]}."] if unused else []


def _shared(owners: list[tuple[str, Path]], findings: list[Finding]) -> list[str]:
    """Files of the same content in more than one split: what was trained on is then tested on."""
    holders = defaultdict(list)
    for owner, finding in zip(owners, findings):
        if finding.md5:
            holders[finding.md5].append(owner)
    return [f"The same image is {' and '.join(f'{path} ({split})' for split, path in same)}."
            for same in holders.values() if len({split for split, _ in same}) > 1]
