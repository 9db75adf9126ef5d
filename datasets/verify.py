"""The check of a data set on disk: counts, disjoint classes, every image decodable, no image in
two splits.
"""
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datasets import DATASETS
from datasets.base import ImageList, check
from datasets.benchmarks import BENCHMARKS, Counts, known_counts, wrong_counts
from datasets.decode import ImageError, try_to_decode
from datasets.files import possible_folders
from datasets.folders import images_below
from datasets.workers import computed
from utilities.bars import new_bar
from utilities.digest import md5
from utilities.errors import UsageError

# one of these exists where the data set is, even if damaged
MARKS = {"cars196": ("images", "car_ims"), "cub200": ("images",), "in_shop": ("img", "Img", "Eval"),
         "online_products": ("Info_Files", "Ebay_train.txt")}


class Report(NamedTuple):
    """What a check found: the rows of the table by split, problems, and notes on what may be as
    it is.
    """

    rows: dict[str, dict[str, str]]
    problems: list[str]
    notes: list[str]


class Finding(NamedTuple):
    """What is known of one image: the MD5 sum of its file, or why it cannot be decoded; and what
    the decoder warns of.
    """

    md5: str | None = None
    problem: str | None = None
    warning: str | None = None


def find(name: str, source: Path) -> Path | None:
    """The folder that holds a data set, whole or damaged; None where there is nothing of it."""
    if name not in BENCHMARKS:
        return source if source.is_dir() else None
    for place in possible_folders(source, BENCHMARKS[name].FOLDERS):
        if any((place / mark).exists() for mark in MARKS[name]):
            return place
    return None


def verify(name: str, source: Path, workers: int = 0) -> Report:
    """Check the data set `name` in `source`, in so many worker processes; nothing is written.

    When its lists or folders are too damaged to give splits, at least the images that exist are
    checked. Raises UsageError where there is nothing of the data set.
    """
    parts, problems = _splits(name, source)
    known = known_counts(name)
    counts = {split: part.counts() for split, part in parts.items()}
    owners = [(split, path) for split, images in parts.items() for path in images.paths]
    paths = [path for _, path in owners] or images_below(find(name, source))
    findings = examine(paths, workers)
    problems += [f"{line}." for line in wrong_counts(counts, known)]
    problems += [finding.problem for finding in findings if finding.problem]
    notes = _in_no_split(name, source, paths) if parts else []
    notes += _perhaps_damaged(paths, findings) + _shared(owners, findings)
    return Report(_rows(counts, known), problems, notes)


def examine(paths: Sequence[Path], workers: int = 0) -> list[Finding]:
    """Decode every image, in their order."""
    findings = computed(_examined, paths, workers)
    return list(new_bar(findings, desc="check", total=len(paths), unit="image"))


def _examined(path: Path) -> Finding:
    """The finding of one image."""
    try:
        warning = try_to_decode(path)
    except ImageError as error:
        return Finding(problem=str(error))
    return Finding(md5=md5(path), warning=warning)


# --------------------------------------------------------------------------------- what is compared


def _splits(name: str, source: Path) -> tuple[dict[str, ImageList], list[str]]:
    """The splits by name, and what is wrong with them; none where they cannot be read."""
    parts = {}
    problems = []
    try:
        splits = DATASETS[name](source)
        parts = splits.present()
        check(splits)
    except UsageError as error:
        if find(name, source) is None:
            raise
        problems.append(str(error))
    return parts, problems


def _rows(counts: Counts, known: Counts) -> dict[str, dict[str, str]]:
    """The table: what is there, and what is known to be in the whole data set."""
    rows = {split: {"images": "-", "classes": "-"} for split in known | counts}
    for split, (images, classes) in counts.items():
        rows[split] = {"images": f"{images:,}", "classes": f"{classes:,}"}
    for split, (images, classes) in known.items():
        rows[split]["expected"] = f"{images:,} in {classes:,}"
    return rows


def _in_no_split(name: str, source: Path, paths: list[Path]) -> list[str]:
    """Images beside those of the splits, which nobody reads."""
    folder = source
    if not paths:
        return []
    if name in BENCHMARKS:
        folder = Path(os.path.commonpath([path.parent for path in paths]))
    used = set(paths)
    unused = [path for path in images_below(folder) if path not in used]
    if not unused:
        return []
    return [f"{folder}: {len(unused):,} images are in no split, the first is {unused[0]}."]


def _perhaps_damaged(paths: list[Path], findings: list[Finding]) -> list[str]:
    """Images of which the decoder warns: some are sound, of others a part is grey or shifted."""
    return [f"{path}: look at this image, which may be damaged within ({finding.warning})."
            for path, finding in zip(paths, findings) if finding.warning]


def _shared(owners: list[tuple[str, Path]], findings: list[Finding]) -> list[str]:
    """Files of the same content in more than one split: what was trained on is then tested on."""
    holders = defaultdict(list)
    for owner, finding in zip(owners, findings):
        if finding.md5:
            holders[finding.md5].append(owner)
    shared = []
    for same in holders.values():
        if len({split for split, _ in same}) > 1:
            named = [f"{path} ({split})" for split, path in same]
            shared.append(f"The same image is {' and '.join(named)}.")
    return shared
