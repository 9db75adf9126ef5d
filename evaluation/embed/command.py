"""Embeddings of a whole set of images, and the command that saves them.

`python -m evaluation.embed CHECKPOINT SOURCE` writes embeddings.npy, (N, D) float32 unit rows; labels.csv with the
columns path,label,class, one line a row, in the same order; and embeddings.json, which says how they were made. SOURCE
is a folder as `--dataset image_folder` takes it, or any folder of images, whose classes are then the folders that they
lie in. A call that was ended, by whatever, continues when it is given again.
"""
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset
from tqdm import tqdm

from datasets import ImageList
from datasets.decode import ImageError, decode
from evaluation.embed.collect import collect, fingerprint
from evaluation.embed.embedder import Embedder, open_embedder
from evaluation.embed.embedding import DAMAGED, Tolerant, embedded
from evaluation.embed.files import WRITTEN, write_set
from evaluation.embed.parts import Parts, begun
from utilities.command_line import Formatter, Parser, non_negative_int, positive_int
from utilities.device import AMP, choose_device
from utilities.errors import RunError, Stopped, UsageError, answer
from utilities.interruption import NUMBERS, Interruption


def run(opt: Namespace) -> None:
    """Embed the images of a folder by the network of a checkpoint; every setting that is not given is the run's."""
    source, out = Path(opt.source), Path(opt.out or default_out(opt.checkpoint, opt.source, opt.split))
    if any((out / name).exists() for name in WRITTEN) and not begun(out):
        raise UsageError(f"{out}: there are embeddings or labels already, which are never overwritten; name another "
                         "folder by --out.")
    geometry = {"image_size": opt.image_size} if opt.image_size else None
    embedder = open_embedder(opt.checkpoint, choose_device(opt.device), geometry=geometry, bs=opt.bs, amp=opt.amp)
    images = collect(source, opt.split)
    try:
        with Parts(out, work_of(embedder, images)) as parts:
            embed_parts(embedder, images, parts, workers=opt.kernels, strict=opt.strict)
            damaged = report_damaged(images, parts, strict=opt.strict)
            write_set(out, embedder, images, source, parts)
            parts.remove()
    except OSError as error:
        raise RunError(f"--out {out} cannot be written ({error.strerror or error}); free space, or name another "
                       "folder.") from None
    kept = [label for i, label in enumerate(images.labels) if i not in damaged]
    print(f"{len(kept)} images of {len(set(kept))} classes embedded in {embedder.network.embed_dim} dimensions, "
          f"{len(damaged)} skipped. Written to {out}")


def default_out(checkpoint: str, source: str, split: str) -> Path:
    """The folder for the embeddings of a source: beside the checkpoint, under the names of both."""
    path = Path(checkpoint)
    name = path.name if path.is_dir() else path.stem
    parts = [name, Path(source).resolve().name or "images", *([split] if split != "all" else [])]
    return path.with_name("-".join(parts))


def work_of(embedder: Embedder, images: ImageList) -> dict[str, Any]:
    """What the rows follow from, to the last bit; a call that continues must have the same."""
    device = embedder.device.type
    return {"checkpoint": embedder.digests[0], "images": fingerprint(images), "preprocessing": embedder.geometry,
            "batch size": embedder.bs, "precision": embedder.amp, "device": device,
            "threads": torch.get_num_threads() if device == "cpu" else None, "torch": torch.__version__}


def embed_parts(embedder: Embedder, images: ImageList, parts: Parts, *, workers: int, strict: bool) -> None:
    """Embed the images that the parts lack. Stopped by a signal, after the batch at hand."""
    loader = embedder.loader(images, workers)
    dataset = loader.dataset if strict else Tolerant(loader.dataset)
    loader = loader.over(Subset(dataset, range(parts.done, len(dataset))))
    with Interruption().catch_signals() as interruption, tqdm(total=len(dataset), initial=parts.done, desc="embed",
                                                      unit="image", leave=False) as bar:
        try:
            for rows, label, index in embedded(embedder.network, loader, embedder.device, amp=embedder.amp):
                parts.add(rows.numpy(), (label == DAMAGED).numpy())
                bar.update(len(index))
                if interruption.signal is not None:
                    break
        except RunError:
            if interruption.signal is None:   # else Ctrl-C has reached the loader's workers first
                raise
    if interruption.signal is not None:
        raise Stopped(f"Stopped by {NUMBERS[interruption.signal]}; the same command continues from here.",
                      128 + interruption.signal)


def report_damaged(images: ImageList, parts: Parts, *, strict: bool) -> set[int]:
    """The images that could not be decoded, each named; a RunError where none could, or at the first if `strict`."""
    parts.write()
    for i in parts.damaged:
        try:
            decode(images.paths[i])
        except ImageError as error:
            if strict:
                raise
            print(f"skipped: {error}", file=sys.stderr)
    if len(parts.damaged) == len(images.paths):
        parts.remove()
        raise RunError("None of the images can be decoded; nothing was written.")
    return set(parts.damaged)


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.embed", formatter_class=Formatter, allow_abbrev=False,
                    description="Embed the images of a folder by the network of a checkpoint.")
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT",
        help="last.pt or best_*.pt of a run, or the folder of a safetensors export")
    add("source", metavar="SOURCE", help="folder of images, in class folders, with a labels.csv, or any other")
    add("--out", default=None, metavar="FOLDER",
        help="Where the files are written; default: beside the checkpoint, under its name and the source's.")
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
