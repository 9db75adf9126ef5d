"""Embeddings of a whole set of images, and the command that saves them.

`python -m evaluation.embed CHECKPOINT SOURCE --out FOLDER` writes embeddings.npy, (N, D) float32 unit rows, and
labels.csv with the columns path,label,class: one line a row, in the same order. SOURCE is a folder as `--dataset
image_folder` takes it, or any folder of images, whose classes are then the folders that they lie in.
"""
import csv
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

import architectures
from datasets import DATASETS, ImageList, batches, make_loader
from datasets.base import image_list
from datasets.decode import ImageError, decode
from datasets.files import IMAGE_SUFFIXES, images_below
from datasets.loader import Loader
from datasets.transforms import eval_transform, sides
from parameters import Formatter, Parser, non_negative_int, positive_int
from utilities import distributed
from utilities.device import AMP, autocast, choose_device
from utilities.errors import RunError, UsageError, answer

DAMAGED = -1   # the class of an image that cannot be decoded


@torch.no_grad()
def embed(network, loader: Loader, device: torch.device, *, amp: str = "none") -> tuple[Tensor, Tensor]:
    """Unit embeddings (N, D) in float32 and labels (N,) of a loader's images, on the CPU, in the data set's order.

    Row i depends on image i alone; the network's mode is left as it was. amp: precision of the backbone, as in
    training. Under torch.distributed each process embeds every world-size-th image and all receive all rows. Memory:
    the result, once; with several processes once more on the device while they exchange it.
    """
    rank, world = distributed.rank(), distributed.world()
    size = len(loader.dataset)
    rows, labels = torch.zeros(size, network.embed_dim), torch.zeros(size, dtype=torch.long)
    if world > 1:
        loader = loader.over(Subset(loader.dataset, range(rank, size, world)))
    for image, label, index in tqdm(batches(loader, device), total=len(loader), desc="embed", unit="batch",
                                    leave=False, disable=rank > 0):
        with autocast(device, amp):
            found = network.embed(image, index)
        index = index.cpu()
        rows[index], labels[index] = found.float().cpu(), label.cpu()
    if world > 1:   # each row is held by one and zero in the others: their sum is exact, without padding to remove
        rows, labels = rows.to(device), labels.to(device)
        distributed.sum_([rows, labels])
    return rows.cpu(), labels.cpu()


class Tolerant(Dataset):
    """An ImageDataset that gives a black image of class DAMAGED for one that cannot be decoded."""

    def __init__(self, strict: Dataset):
        self.strict = strict

    def __len__(self) -> int:
        return len(self.strict)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        try:
            return self.strict[row]
        except ImageError:
            return self.strict.transform(torch.zeros(3, 32, 32, dtype=torch.uint8)), DAMAGED, row


# ----------------------------------------------------------------------------------------------------- the command


def collect(source: Path, split: str = "all") -> ImageList:
    """The images of a folder: those of one split as `--dataset image_folder` divides it, or all of them."""
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder; give one that holds images.")
    if split != "all":
        images = getattr(DATASETS["image_folder"](source), split)
        if images is None or not images.paths:
            raise UsageError(f"--split {split}: {source} has no such images; choose another split.")
        return images
    if (source / "labels.csv").is_file():
        parts = [part for part in DATASETS["image_folder"](source) if part is not None]
        named = [(path, part.class_names[label]) for part in parts for path, label in zip(part.paths, part.labels)]
    else:
        named = [(path, _folder_name(path.parent, source)) for path in images_below(source)]
    if not named:
        raise UsageError(f"{source}: no images found; expected endings {' '.join(sorted(IMAGE_SUFFIXES))}.")
    return image_list(*map(list, zip(*named)))


def _folder_name(folder: Path, source: Path) -> str:
    """The class of the images that lie in a folder: its path within the source, or the source's own name."""
    return source.resolve().name if folder == source else folder.relative_to(source).as_posix()


def run(opt: Namespace) -> None:
    """Embed the images of a folder by the network of a checkpoint; every setting that is not given is the run's."""
    out = Path(opt.out)
    if any((out / name).exists() for name in ("embeddings.npy", "labels.csv")):
        raise UsageError(f"--out {out}: there are embeddings or labels already, which are never overwritten; name "
                         "another folder.")
    network, trained = architectures.restore(opt.checkpoint)
    device, source = choose_device(opt.device), Path(opt.source)
    images = collect(source, opt.split)
    size = {"image_size": opt.image_size} if opt.image_size else {
        flag: trained.get(flag) for flag in ("image_size", "crop_size", "augmentation")}
    architectures.check_side(network, trained["arch"], sides(**size).input)
    network.to(device, memory_format=torch.channels_last)
    transform = eval_transform(**size, **network.preprocessing)
    loader = make_loader(images, transform, batch_size=opt.bs or trained["bs"], workers=opt.kernels, device=device)
    if not opt.strict:
        loader = loader.over(Tolerant(loader.dataset))
    rows, labels = embed(network, loader, device, amp=opt.amp or trained.get("amp", "none"))
    kept = (labels != DAMAGED).nonzero()[:, 0].tolist()
    _report(images, (labels == DAMAGED).nonzero()[:, 0].tolist())
    _save(out, rows[kept].numpy(), [(images.paths[i].relative_to(source).as_posix(), images.labels[i],
                                     images.class_names[images.labels[i]]) for i in kept])
    print(f"{len(kept)} images of {len({images.labels[i] for i in kept})} classes embedded in {rows.shape[1]} "
          f"dimensions, {len(images.paths) - len(kept)} skipped. Written to {out}")


def _report(images: ImageList, damaged: list[int]) -> None:
    """Name the images that could not be decoded; a RunError where none could."""
    for i in damaged:
        try:
            decode(images.paths[i])
        except ImageError as error:
            print(f"skipped: {error}", file=sys.stderr)
    if len(damaged) == len(images.paths):
        raise RunError("None of the images can be decoded; nothing was written.")


def _save(out: Path, rows: np.ndarray, lines: list[tuple[str, int, str]]) -> None:
    """embeddings.npy and labels.csv."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label", "class"), *lines])
        np.save(out / "embeddings.npy", rows, allow_pickle=False)
    except OSError as error:
        raise RunError(f"--out {out} cannot be written ({error.strerror or error}); free space, or name another "
                       "folder.") from None


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.embed", formatter_class=Formatter, allow_abbrev=False,
                    description="Embed the images of a folder by the network of a checkpoint.")
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="last.pt or best_*.pt of a run")
    add("source", metavar="SOURCE", help="folder of images, in class folders, with a labels.csv, or any other")
    add("--out", required=True, metavar="FOLDER", help="Where embeddings.npy and labels.csv are written.")
    add("--split", default="all", choices=["all", "train", "val", "test"],
        help="The images of one split, as --dataset image_folder divides the folder, or all.")
    add("--strict", action="store_true", help="Stop at an image that cannot be decoded instead of skipping it.")
    add("--bs", type=positive_int, default=None, metavar="IMAGES", help="Images in a batch; default: as in the run.")
    add("--image_size", type=positive_int, default=None, metavar="PIXELS",
        help="Side of the square input image; default: as in the run.")
    add("--amp", default=None, choices=list(AMP), help="Precision of the backbone; default: as in the run.")
    add("--device", default="auto", choices=["auto", "cpu", "cuda"], help="Where to compute.")
    add("--kernels", type=non_negative_int, default=0, metavar="N",
        help="Worker processes that load images; 0 loads in the main process.")
    add("--debug", action="store_true", help="Show the traceback of an error instead of one sentence.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    opt = build_parser().parse_args(argv)
    return answer("evaluation.embed", lambda: run(opt), debug=opt.debug)


if __name__ == "__main__":
    sys.exit(main())
