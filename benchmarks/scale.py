"""Time, memory and page size of every command at the size of Stanford Online Products.

    python benchmarks/scale.py [--share X] [--folder FOLDER] [--only STAGE ...]

The data: 59,551 training images of 11,318 classes and 60,502 test images of 11,316, JPEGs of
16 x 16 pixels in 12 super-classes, drawn from a seed, with a labels.csv. --share X takes this share
of images and classes.

Each stage is a command of its own, run once, in the order of the table. Seconds are by the clock,
"CPU s" those of the processor, in all threads. Memory: the most that the process held. Page: the
file that a reader opens. --folder keeps data and results, which a later call with --only takes up.
"""
import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.processes import cost_of  # noqa: E402
from utilities.cells import markdown  # noqa: E402

# images and classes of each split
SPLITS = {"train": (59_551, 11_318), "test": (60_502, 11_316)}
SUPER_CLASSES = 12
SIDE = 16  # pixels
SAMPLERS = ("random", "hierarchical", "greedy_coreset", "disthist_batchmatch")
METRICS = (
    "e_recall@1", "c_recall@10", "e_recall@1000", "precision@10", "r_precision", "mrr", "mAP",
    "mAP_r", "mAP_1000", "mAP_lim", "mAP_c", "nmi", "f1", "ami", "dists@intra", "dists@inter",
    "rho_spectrum@0", "fnmr@0.001",
)


class Stage(NamedTuple):
    """Words after `python`, and the page that they write."""

    words: list[str]
    page: Path | None = None


class Places(NamedTuple):
    """Where data and results lie."""

    data: Path
    runs: Path
    cache: Path

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.runs / "image_folder" / name


def rows_of(split: str, share: float) -> Iterator[tuple[str, int, str]]:
    """Path, class and super-class of each image; sizes of two classes differ by one at most."""
    images, classes = (max(2, round(share * number)) for number in SPLITS[split])
    images = max(images, 2 * classes)
    for image in range(images):
        number = image % classes
        name = f"{split}{number:05}"
        yield f"{name}/{image // classes:02}.jpg", number, f"{split}{number % SUPER_CLASSES:02}"


def draw(folder: Path, share: float, seed: int = 0) -> None:
    """Write the images, and labels.csv last. An image is the colours of its class and noise."""
    import numpy as np
    from PIL import Image
    rng = np.random.RandomState(seed)
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "super_label", "split"])
        for split, (_, classes) in SPLITS.items():
            colours = rng.randint(0, 256, (classes, 2, 2, 3))
            for path, number, super_name in rows_of(split, share):
                table.writerow([path, path.partition("/")[0], super_name, split])
                pixels = colours[number].repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
                pixels = pixels + rng.randint(-40, 40, (SIDE, SIDE, 3))
                (folder / path).parent.mkdir(exist_ok=True)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / path)


def training(places: Places, name: str, *flags: str) -> list[str]:
    """The words of a run of 20 steps."""
    return [
        "main.py", "--dataset", "image_folder", "--source_path", str(places.data),
        "--arch", "convnet_normalize", "--image_size", str(SIDE), "--augmentation", "shift",
        "--bs", "112", "--steps_per_epoch", "20", "--n_epochs", "1", "--device", "cpu",
        "--cache", "disk", "--cache_path", str(places.cache), "--save_path", str(places.runs),
        "--savename", name, "--evaluation_metrics", "e_recall@1", *flags,
    ]


def stages(places: Places, share: float) -> dict[str, Stage]:
    """Every stage by its name, in order."""
    run = places.run("plain")
    network = str(run / "last.pt")
    embedded = places.runs / "embedded"
    data = str(places.data)
    query = str(places.data / next(rows_of("test", share))[0])
    files = [str(embedded / "embeddings.npy"), str(embedded / "labels.csv"), data]
    whole = embedded / "all.html"
    sample = embedded / "sample.html"
    explorer = ["-m", "evaluation.explorer", *files]
    all_images = str(SPLITS["test"][0])
    return {
        "draw": Stage([__file__, "--draw", data, "--share", str(share)]),
        "prepare": Stage(["-m", "datasets.prepare", "image_folder", "--source_path", data]),
        "train": Stage(training(places, "plain", "--no-figures")),
        **{name: Stage(training(places, name, "--no-figures", "--data_sampler", name))
           for name in SAMPLERS},
        "resume": Stage(
            ["main.py", "--resume", str(run), "--n_epochs", "2", "--figures"],
            run / "explorer.html",
        ),
        "evaluate": Stage(training(places, "evaluated", "--evaluate_only", "--checkpoint", network)
                          + ["--evaluation_metrics", *METRICS]),
        "report": Stage(["-m", "evaluation.report", str(run)], run / "report.html"),
        "embed": Stage(["-m", "evaluation.embed", network, data, "--split", "test", "--device",
                        "cpu", "--out", str(embedded)]),
        "search": Stage(["-m", "evaluation.search", str(embedded), query, "--device", "cpu"]),
        "explorer": Stage([*explorer, "--out", str(sample)], sample),
        "explorer of all": Stage(
            [*explorer, "--out", str(whole), "--explorer_images", all_images], whole,
        ),
    }


def cells_of(stage: Stage) -> dict[str, str]:
    """Run a stage; its cells of the table."""
    cost = cost_of(stage.words)
    cells = {
        "seconds": f"{cost.seconds:.1f}",
        "CPU s": f"{cost.cpu_seconds:.1f}",
        "MiB": f"{cost.peak_mib:.0f}",
    }
    if stage.page:
        cells["page MiB"] = f"{stage.page.stat().st_size / 2**20:.1f}"
    return cells


def measure(folder: Path, share: float, only: list[str] | None) -> dict[str, dict[str, str]]:
    """The cells of every stage, or of those named."""
    places = Places(folder / "data", folder / "runs", folder / "cache")
    places.data.mkdir(parents=True, exist_ok=True)
    cells = {}
    for name, stage in stages(places, share).items():
        if only and name not in only:
            continue
        cells[name] = cells_of(stage)
        print(name, *cells[name].values(), file=sys.stderr)
    return cells


def main() -> None:
    """Draw, or run the stages and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--share", type=float, default=1.0, help="share of images and classes")
    add("--folder", type=Path, help="kept; default: one in the temporary folder, deleted")
    add("--only", nargs="+", metavar="STAGE", help="stages to run; default: all")
    add("--draw", type=Path, metavar="FOLDER", help="only write the images there, here")
    opt = parser.parse_args()
    if opt.draw:
        draw(opt.draw, opt.share)
        return
    with tempfile.TemporaryDirectory() as temporary:
        cells = measure((opt.folder or Path(temporary)).resolve(), opt.share, opt.only)
    print(markdown(cells))


if __name__ == "__main__":
    main()
