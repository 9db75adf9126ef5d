"""Images a second from the loader beside the plain PIL pipeline: decoded afresh, and from the caches.

    python benchmarks/loader.py [--size WxH ...] [--detail X ...] [--workers N ...] [--rounds N] [--images N]

The images are generated once into a temporary folder: noise at every scale, each octave weaker than the one before by
the factor `detail`, as JPEG of quality 90. Detail decides the size of the files and how much of the time is decoding
that nobody can save; their mean size is printed. They lie in the page cache, so that no disk is measured.

plain      PIL: open, convert; torchvision v1: RandomResizedCrop(224), flip, ToTensor, Normalize, or for evaluation
           Resize(256), CenterCrop(224), ToTensor, Normalize; in a DataLoader
ours       make_loader with the transforms `base` and that of evaluation: batches of uint8, whose normalisation is the
           device's; "+ CPU" adds it where the device is this CPU
ram, disk  the same from a cache of the default side, 384

Competitors take turns, one pass over the images each a round; medians of images a second and worker (0 workers: the
process itself). The waiting share is that of a loop whose step takes --step_ms for a batch of 32. Memory: USS is what a
worker holds alone, PSS adds its share of what processes have in common.
"""
import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision import transforms as v1  # noqa: E402

from architectures.backbones import IMAGENET_MEAN as MEAN  # noqa: E402
from architectures.backbones import IMAGENET_STD as STD  # noqa: E402
from datasets import ImageList, batches, make_loader  # noqa: E402
from datasets.cache import open_cache  # noqa: E402
from datasets.crops import Shrink  # noqa: E402
from datasets.decode import decode_for  # noqa: E402
from datasets.transforms import cache_side, eval_transform, train_transform  # noqa: E402
from utilities.cells import markdown  # noqa: E402

BATCH = 32
PLAIN = {
    "training": v1.Compose([v1.RandomResizedCrop(224), v1.RandomHorizontalFlip(), v1.ToTensor(),
                            v1.Normalize(MEAN, STD)]),
    "evaluation": v1.Compose([v1.Resize(256), v1.CenterCrop(224), v1.ToTensor(), v1.Normalize(MEAN, STD)]),
}
OURS = {"training": train_transform("base", 224, MEAN, STD), "evaluation": eval_transform(224, MEAN, STD)}


class PlainImages(Dataset):
    """The usual data set of image files."""

    def __init__(self, paths: list[Path], transform: Callable):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[row]).convert("RGB"))


def picture(width: int, height: int, detail: float, seed: int) -> Image.Image:
    """Coloured noise at eight scales, each with `detail` times the strength of the one before."""
    generator, total = np.random.default_rng(seed), np.zeros((height, width, 3), dtype=np.float32)
    colours = np.array([[1, 0.8, 0.7], [0.1, 0.6, 0.1], [0, 0.1, 0.5]], dtype=np.float32)
    for octave in range(8):
        cells = 2 ** (octave + 1)
        grid = generator.standard_normal((max(2, cells * height // width), cells, 3)).astype(np.float32) @ colours
        planes = [Image.fromarray(grid[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        total += detail ** octave * np.stack([np.asarray(plane) for plane in planes], axis=2)
    return Image.fromarray((118 + 55 * total / total.std()).clip(0, 255).astype(np.uint8))


def generate(folder: Path, size: tuple[int, int], detail: float, number: int) -> list[Path]:
    """The files, of quality 90."""
    paths = [folder / f"{i:04d}.jpg" for i in range(number)]
    for seed, path in enumerate(paths):
        picture(*size, detail, seed).save(path, quality=90)
    return paths


def competitors(paths: list[Path], kind: str, workers: int, caches: dict) -> dict[str, Iterable]:
    """What gives the batches of one pass."""
    images = ImageList(paths, [0] * len(paths), ["one"])
    plain = DataLoader(PlainImages(paths, PLAIN[kind]), batch_size=BATCH, num_workers=workers,
                       persistent_workers=workers > 0)
    ours = {name: make_loader(images, OURS[kind], batch_size=BATCH, workers=workers, cache=cache)
            for name, cache in {"ours": None, **caches}.items()}
    return {"plain": plain, **ours, "ours + CPU": Normalised(ours["ours"])}


class Normalised:
    """The batches of a loader, normalised by this process."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        return batches(self.loader)


def rates(passes: dict[str, Callable], images: int, rounds: int) -> dict[str, float]:
    """Images a second of each pass, medians over the rounds; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(rounds + 1):
        for name, run in passes.items():
            begin = time.perf_counter()
            run()
            if number:
                found[name].append(images / (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in found.items()}


def exhaust(batch_of: Iterable) -> None:
    """One pass."""
    for _ in batch_of:
        pass


def decoding(paths: list[Path]) -> dict[str, Callable]:
    """Passes that only decode: in PIL, and here at full size and for an evaluation at 224."""
    def pil():
        for path in paths:
            Image.open(path).load()

    def by(plan):
        def run():
            for path in paths:
                decode_for(path, plan)
        return run
    return {"PIL": pil, "ours, full size": by(Shrink(10_000)), "ours, evaluation": by(OURS["evaluation"].plan)}


def memory_of(loader: Iterable) -> dict[str, str]:
    """PSS and USS of the loader's first worker (MiB)."""
    if not isinstance(loader, DataLoader):
        return {"PSS": "-", "USS": "-"}
    process = loader._iterator._workers[0].pid
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"PSS": str(kib["Pss"] // 1024), "USS": str((kib["Private_Clean"] + kib["Private_Dirty"]) // 1024)}


def waiting(batch_of: Iterable, step: float) -> float:
    """The share of the time that a loop waits for its batches, each of which it then takes `step` seconds with."""
    begin, waited, rest = time.perf_counter(), 0.0, iter(batch_of)
    while True:
        asked = time.perf_counter()
        if next(rest, None) is None:
            return waited / (time.perf_counter() - begin)
        waited += time.perf_counter() - asked
        time.sleep(step)


def report(title: str, found: dict[str, float], workers: int = 0, further: dict | None = None) -> None:
    """A table: images a second and worker, and the ratio to the first."""
    first = next(iter(found.values()))
    print(f"\n**{title}**\n")
    print(markdown({name: {"images / s": f"{rate / max(1, workers):.0f}", "ratio": f"{rate / first:.2f}"}
                    | (further or {}).get(name, {}) for name, rate in found.items()}), flush=True)


def measure(paths: list[Path], title: str, caches: dict, opt: argparse.Namespace) -> None:
    """All tables of one set of images."""
    report(f"{title}, decoding alone", rates(decoding(paths), len(paths), opt.rounds))
    for kind in PLAIN:
        for workers in opt.workers:
            loaders = competitors(paths, kind, workers, caches)
            found = rates({name: lambda one=one: exhaust(one) for name, one in loaders.items()}, len(paths), opt.rounds)
            further = {}
            if workers:
                further = {name: {"waiting": f"{100 * waiting(one, opt.step_ms / 1000):.0f} %"} | memory_of(one)
                           for name, one in loaders.items()}
            report(f"{title}, {kind}, {workers} worker(s)", found, workers, further)


def run() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", default=["500x375", "1200x900"])
    parser.add_argument("--detail", type=float, nargs="+", default=[0.5, 0.8])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--step_ms", type=float, default=100)
    opt = parser.parse_args()
    torch.set_num_threads(1)
    for size in opt.size:
        for detail in opt.detail:
            with tempfile.TemporaryDirectory() as folder:
                paths = generate(Path(folder), tuple(map(int, size.split("x"))), detail, opt.images)
                kib = sum(path.stat().st_size for path in paths) / len(paths) / 1024
                caches = {kind: open_cache(kind, paths, cache_side(224), Path(folder) / "cache")
                          for kind in ("ram", "disk")}
                measure(paths, f"{size}, {kib:.0f} KiB a file", caches, opt)


if __name__ == "__main__":
    run()
