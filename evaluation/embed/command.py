"""`python -m evaluation.embed CHECKPOINT SOURCE` saves the embeddings of a folder of images.

It writes embeddings.npy, (N, D) float32 unit rows; labels.csv with the columns path,label,class, a
line for each row, in the same order; and embeddings.json, which says how they were made. SOURCE is
a folder as `--dataset image_folder` takes it, or any folder of images, whose classes are then the
folders that they are in. An interrupted call continues when it is given again.
"""
import contextlib
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from datasets import ImageList
from datasets.decode import ImageError, decode
from evaluation.embed.collect import collect, fingerprint
from evaluation.embed.embedder import Embedder, open_embedder
from evaluation.embed.embedding import DAMAGED, Tolerant, embedded
from evaluation.embed.files import WRITTEN, write_set
from evaluation.embed.seen import trained_on
from evaluation.embed.unfinished import (
    ROWS,
    begin_or_continue,
    is_begun,
    read_rows,
    remove_unfinished,
)
from evaluation.ranking import check_neighbours
from parameters import add_context_flags, with_context_flags
from utilities.allocator import keep_freed_memory
from utilities.bars import new_bar
from utilities.command_line import Formatter, Parser
from utilities.device import AMP, choose_device
from utilities.errors import RunError, Stopped, UsageError, answer, reason
from utilities.interruption import NUMBERS, Interruption
from utilities.lock import Lock
from utilities.ranges import non_negative_int, positive_int
from utilities.text import printable


def run(opt: Namespace) -> None:
    """Embed the images of a folder; a setting that is not given is that of the network's run."""
    source = Path(opt.source)
    context = (opt.eval_context, opt.eval_context_power)
    out = Path(opt.out or default_out(opt.checkpoint, opt.source, opt.split, opt.eval_context))
    if any((out / name).exists() for name in WRITTEN) and not is_begun(out):
        raise UsageError(f"{out}: there are embeddings or labels already, which are never "
                         "overwritten; name another folder by --out.")
    geometry = {"image_size": opt.image_size} if opt.image_size else None
    device = choose_device(opt.device)
    if device.type == "cpu":
        keep_freed_memory()
    embedder = open_embedder(opt.checkpoint, device, geometry=geometry, bs=opt.bs, amp=opt.amp)
    images = collect(source, opt.split)
    if opt.eval_context:
        check_neighbours(opt.eval_context, len(images.paths))
    if note := trained_on(opt.checkpoint, images.class_names):
        print(printable(note), file=sys.stderr)
    try:
        with output_folder(out):
            rows = embed_images(embedder, images, out, workers=opt.kernels, strict=opt.strict)
            is_damaged = np.isinf(rows[:, 0])  # (N,)
            report_damaged(images, is_damaged, strict=opt.strict)
            if is_damaged.all():
                remove_unfinished(out)
                raise RunError("None of the images can be decoded; nothing was written.")
            write_set(out, embedder, images, source, rows, is_damaged, context)
            remove_unfinished(out)
    except OSError as error:
        raise RunError(f"--out {out} cannot be written ({reason(error)}); free space, or name "
                       "another folder.") from None
    kept = np.array(images.labels)[~is_damaged]
    print(f"{len(kept)} images of {len(set(kept))} classes embedded in {rows.shape[1]} dimensions, "
          f"{is_damaged.sum()} skipped. {context_words(*context)}Written to {out}")


def context_words(neighbours: int, power: float) -> str:
    """A sentence about the context of the rows, if they have one."""
    if not neighbours:
        return ""
    return f"Each holds the context of {neighbours} neighbours (power {power:g}). "


def default_out(checkpoint: str, source: str, split: str, context: int = 0) -> Path:
    """A folder beside the checkpoint, under the names of checkpoint, source, split and context."""
    path = Path(checkpoint)
    name = path.name if path.is_dir() else path.stem
    name += "-" + (Path(source).resolve().name or "images")
    if split != "all":
        name += f"-{split}"
    if context:
        name += f"-context{context}"
    return path.with_name(name)


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[None]:
    """Keep other processes out of the folder; leave nothing where no image was embedded."""
    out.mkdir(parents=True, exist_ok=True)
    occupied = (f"{out}: another process is writing embeddings there; wait for it, or name "
                "another --out.")
    with Lock(out, occupied):
        try:
            yield
        finally:
            if is_begun(out) and not (out / ROWS).stat().st_size:
                remove_unfinished(out)
            with contextlib.suppress(OSError):
                out.rmdir()


def work_of(embedder: Embedder, images: ImageList) -> dict[str, Any]:
    """What decides the rows to the last bit; a call that continues must have the same."""
    device = embedder.device.type
    return {
        "checkpoint": embedder.digests[0],
        "images": fingerprint(images),
        "preprocessing": embedder.geometry,
        "batch size": embedder.bs,
        "precision": embedder.amp,
        "device": device,
        "threads": torch.get_num_threads() if device == "cpu" else None,
        "torch": torch.__version__,
    }


def embed_images(embedder: Embedder, images: ImageList, out: Path, *, workers: int,
                 strict: bool) -> np.ndarray:
    """Rows (N, D) of all images, infinite where an image is damaged.

    A signal stops it after the current batch, which raises Stopped; what is done stays in `out`.
    """
    dimensions = embedder.network.embed_dim
    done = begin_or_continue(out, work_of(embedder, images), dimensions, embedder.bs)
    loader = embedder.loader(images, workers)
    dataset = loader.dataset if strict else Tolerant(loader.dataset)
    size = len(dataset)
    loader = loader.over(Subset(dataset, range(done, size)))
    bar = new_bar(total=size, initial=done, desc="embed", unit="image", leave=False)
    with Interruption().catch_signals() as interruption, bar, open(out / ROWS, "ab") as file:
        try:
            for rows, label, _ in embedded(embedder.network, loader, embedder.device,
                                           amp=embedder.amp):
                rows[label == DAMAGED] = torch.inf
                file.write(rows.numpy().astype("<f4").tobytes())
                file.flush()
                bar.update(len(rows))
                if interruption.signal is not None:
                    break
        except RunError:
            # after Ctrl-C, a worker of the loader may have stopped first
            if interruption.signal is None:
                raise
    if interruption.signal is not None:
        raise Stopped(f"Stopped by {NUMBERS[interruption.signal]}; the same command continues "
                      "from here.", 128 + interruption.signal)
    return read_rows(out, dimensions)


def report_damaged(images: ImageList, is_damaged: np.ndarray, *, strict: bool) -> None:
    """Name the images that could not be decoded; with `strict`, raise ImageError at the first."""
    for i in is_damaged.nonzero()[0]:
        try:
            decode(images.paths[i])
        except ImageError as error:
            if strict:
                raise
            print(f"skipped: {error}", file=sys.stderr)


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(prog="python -m evaluation.embed", formatter_class=Formatter,
                    allow_abbrev=False,
                    description="Embed the images of a folder by the network of a checkpoint.")
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT",
        help="last.pt or best_*.pt of a run, or the folder of a safetensors export")
    add("source", metavar="SOURCE",
        help="folder of images, in class folders, with a labels.csv, or any other")
    add("--out", metavar="FOLDER",
        help="Where the files are written; default: beside the checkpoint, under its name and the "
             "source's.")
    add("--split", default="all", choices=["all", "train", "val", "test"],
        help="The images of one split, as --dataset image_folder divides the folder, or all.")
    add("--strict", action="store_true",
        help="Stop at an image that cannot be decoded instead of skipping it.")
    add("--bs", type=positive_int, metavar="IMAGES",
        help="Images in a batch; default: as in the run.")
    add("--image_size", type=positive_int, metavar="PIXELS",
        help="Side of the square input image; default: as in the run.")
    add("--amp", choices=list(AMP),
        help="Precision of the backbone; default: as in the run.")
    add("--device", default="auto", choices=["auto", "cpu", "cuda"], help="Where to compute.")
    add("--kernels", type=non_negative_int, default=0, metavar="N",
        help="Worker processes that load images; 0 loads in the main process.")
    add("--debug", action="store_true",
        help="Show the traceback of an error instead of one sentence.")
    add_context_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for wrong usage, 1 for what failed while running."""
    opt = with_context_flags(build_parser(), argv)
    return answer("evaluation.embed", lambda: run(opt), debug=opt.debug)
