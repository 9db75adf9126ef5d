"""Images a second from the loader beside the plain PIL pipeline: decoded, and from the caches.

    python benchmarks/loader.py [--size WxH ...] [--detail X ...] [--workers N ...] [--rounds N]
                                [--images N]

The images are generated once into a temporary folder: noise at every scale, each octave weaker than
the one before by the factor `detail`, as JPEG of quality 90. Detail decides the size of the files
and how much time decoding takes at least; their mean size is printed. They are in the page cache,
so no disk is measured.

plain      PIL: open, convert; torchvision v1: RandomResizedCrop(224), flip, ToTensor, Normalize, or
           for evaluation Resize(256), CenterCrop(224), ToTensor, Normalize; in a DataLoader
ours       make_loader with the transforms `base` and that of evaluation: batches of uint8, which
           the device normalises; "+ CPU" adds this where the device is the CPU
ram, disk  the same from a cache of the default side, 384

The competitors take turns, one pass over the images each a round. The numbers are medians of images
a second and worker (0 workers: the process itself). "waiting" is the fraction of the time that a
loop waits whose step takes --step_ms for a batch of 32. Memory: USS is what a worker holds alone,
PSS adds its share of what processes have in common.
"""
import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision import transforms as v1  # noqa: E402

from architectures.backbones import IMAGENET_MEAN as MEAN  # noqa: E402
from architectures.backbones import IMAGENET_STD as STD  # noqa: E402
from benchmarks.turns import median_seconds, parser_of  # noqa: E402
from datasets import ImageList, batches, make_loader  # noqa: E402
from datasets.cache import open_cache  # noqa: E402
from datasets.crops import Shrink  # noqa: E402
from datasets.decode import decode_for  # noqa: E402
from datasets.transforms import cache_side, eval_transform, train_transform  # noqa: E402
from utilities.cells import markdown  # noqa: E402

BATCH = 32
NORMALISE = (v1.ToTensor(), v1.Normalize(MEAN, STD))
PLAIN = {
    "training": v1.Compose([v1.RandomResizedCrop(224), v1.RandomHorizontalFlip(), *NORMALISE]),
    "evaluation": v1.Compose([v1.Resize(256), v1.CenterCrop(224), *NORMALISE]),
}
OURS = {
    "training": train_transform("base", 224, MEAN, STD),
    "evaluation": eval_transform(224, MEAN, STD),
}


@dataclass
class PlainImages(Dataset):
    """The usual data set of image files."""

    paths: list[Path]
    transform: Callable

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[row]).convert("RGB"))


def picture(width: int, height: int, detail: float, seed: int) -> Image.Image:
    """Coloured noise at eight scales, each with `detail` times the strength of the one before."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), dtype=np.float32)
    colours = np.array([[1, 0.8, 0.7], [0.1, 0.6, 0.1], [0, 0.1, 0.5]], dtype=np.float32)
    for octave in range(8):
        cells = 2 ** (octave + 1)
        rows = max(2, cells * height // width)
        grid = generator.standard_normal((rows, cells, 3)).astype(np.float32) @ colours
        for channel in range(3):
            plane = Image.fromarray(grid[..., channel])
            plane = plane.resize((width, height), Image.Resampling.BICUBIC)
            total[..., channel] += detail**octave * np.asarray(plane)
    pixels = 118 + 55 * total / total.std()
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def generate(folder: Path, size: tuple[int, int], detail: float, number: int) -> list[Path]:
    """The files, of quality 90."""
    paths = [folder / f"{i:04d}.jpg" for i in range(number)]
    for seed, path in enumerate(paths):
        picture(*size, detail, seed).save(path, quality=90)
    return paths


def competitors(paths: list[Path], kind: str, workers: int, caches: dict) -> dict[str, Iterable]:
    """What gives the batches of one pass."""
    images = ImageList(paths, [0] * len(paths), ["one"])
    plain = PlainImages(paths, PLAIN[kind])
    loaders = {
        "plain": DataLoader(plain, BATCH, num_workers=workers, persistent_workers=workers > 0)
    }
    for name, cache in {"ours": None, **caches}.items():
        loaders[name] = make_loader(
            images, OURS[kind], batch_size=BATCH, workers=workers, cache=cache
        )
    return {**loaders, "ours + CPU": Normalised(loaders["ours"])}


@dataclass
class Normalised:
    """The batches of a loader, normalised by this process."""

    loader: DataLoader

    def __iter__(self):
        return batches(self.loader)


def rates(passes: dict[str, Callable], images: int, rounds: int) -> dict[str, float]:
    """Images a second of each pass."""
    seconds = median_seconds(passes, rounds)
    return {name: images / value for name, value in seconds.items()}


def exhaust(batch_of: Iterable) -> None:
    """One pass."""
    for _ in batch_of:
        pass


def decode_all(decode: Callable, paths: list[Path]) -> None:
    """Decode every file."""
    for path in paths:
        decode(path)


def decoding(paths: list[Path]) -> dict[str, Callable]:
    """Passes that only decode: in PIL, and here at full size and for an evaluation at 224."""
    decoders = {
        "PIL": lambda path: Image.open(path).load(),
        "ours, full size": partial(decode_for, plan=Shrink(10_000)),
        "ours, evaluation": partial(decode_for, plan=OURS["evaluation"].plan),
    }
    return {name: partial(decode_all, decode, paths) for name, decode in decoders.items()}


def memory_of(loader: Iterable) -> dict[str, str]:
    """PSS and USS of the loader's first worker (MiB); nothing where it has none."""
    if not isinstance(loader, DataLoader):
        return {}
    process = loader._iterator._workers[0].pid
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    own = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"PSS": str(kib["Pss"] // 1024), "USS": str(own // 1024)}


def waiting(batch_of: Iterable, step: float) -> float:
    """The fraction of the time that a loop waits for its batches; a step takes `step` seconds."""
    begin = time.perf_counter()
    worked = 0.0
    for _ in batch_of:
        fetched = time.perf_counter()
        time.sleep(step)
        worked += time.perf_counter() - fetched
    return 1 - worked / (time.perf_counter() - begin)


def report(title: str, found: dict[str, float], workers: int, further: dict[str, dict]) -> None:
    """A table: images a second and worker, the ratio to the first, and further cells by name."""
    first = next(iter(found.values()))
    rows = {}
    for name, rate in found.items():
        rows[name] = {"images / s": f"{rate / max(1, workers):.0f}", "ratio": f"{rate / first:.2f}"}
        rows[name] |= further.get(name, {})
    print(f"\n**{title}**\n\n{markdown(rows)}", flush=True)


def measure(paths: list[Path], title: str, caches: dict, opt: argparse.Namespace) -> None:
    """All tables of one set of images."""
    report(f"{title}, decoding alone", rates(decoding(paths), len(paths), opt.rounds), 0, {})
    for kind, workers in itertools.product(PLAIN, opt.workers):
        loaders = competitors(paths, kind, workers, caches)
        passes = {name: partial(exhaust, loader) for name, loader in loaders.items()}
        found = rates(passes, len(paths), opt.rounds)
        further = {}
        for name, loader in loaders.items() if workers else ():
            waited = waiting(loader, opt.step_ms / 1000)
            further[name] = {"waiting": f"{100 * waited:.0f} %", **memory_of(loader)}
        report(f"{title}, {kind}, {workers} worker(s)", found, workers, further)


def run() -> None:
    """Generate, measure, print."""
    parser = parser_of(
        __doc__,
        size=["500x375", "1200x900"],
        detail=[0.5, 0.8],
        workers=[0, 1, 2],
        rounds=5,
        images=192,
        step_ms=100.0,
    )
    opt = parser.parse_args()
    torch.set_num_threads(1)
    for size, detail in itertools.product(opt.size, opt.detail):
        with tempfile.TemporaryDirectory() as folder:
            width, height = map(int, size.split("x"))
            paths = generate(Path(folder), (width, height), detail, opt.images)
            kib = statistics.mean(path.stat().st_size for path in paths) / 1024
            caches = {}
            for kind in ("ram", "disk"):
                caches[kind] = open_cache(kind, paths, cache_side(224), Path(folder) / "cache")
            measure(paths, f"{size}, {kib:.0f} KiB a file", caches, opt)


if __name__ == "__main__":
    run()
