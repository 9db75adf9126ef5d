"""`python -m evaluation.embed NETWORK SOURCE` saves the embeddings of a folder of images.

It writes embeddings.npy, (N, D) float32 unit rows; labels.csv with the columns path,label,class, a
line for each row, in the same order; and embeddings.json, which says how they were made. NETWORK is
a checkpoint, or a library's model as --arch of main.py names it, such as timm.resnet18: then the
rows are its own features. SOURCE is a folder as `--dataset image_folder` takes it, or any folder of
images, whose classes are then the folders that they are in; or a .npy file of features with a
labels.csv beside it, as `--dataset embeddings` takes it, which go through what follows the
backbone. An interrupted call continues when it is given again. With --add only images that have no
row yet are embedded, and appended.
"""
import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from architectures.network import OWN_POOLING, POOLINGS, Network
from datasets import ImageDataset, ImageList
from datasets.decode import ImageError, decode
from datasets.embeddings import is_row_file
from datasets.folders import refuse_within
from evaluation import evaluate, parse_metric
from evaluation.embed import library
from evaluation.embed.adding import BEFORE, Existing, check_network, new_images, read_existing
from evaluation.embed.collect import collect, fingerprint
from evaluation.embed.embedder import Embedder, open_embedder
from evaluation.embed.embedding import DAMAGED, Tolerant, embedded
from evaluation.embed.files import LABELS, WRITTEN, read_description, write_set
from evaluation.embed.seen import notes_on_classes
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
from utilities.cells import metric_table
from utilities.command_line import Parser, command_parser
from utilities.device import AMP, choose_device
from utilities.errors import RunError, UsageError, answer, reason
from utilities.interruption import Interruption
from utilities.labels import plain
from utilities.lock import Lock
from utilities.ranges import non_negative_int, positive_int
from utilities.text import counted, printable

METRICS = ("e_recall@1", "e_recall@4", "e_recall@8", "mAP_r")


def run(opt: Namespace) -> None:
    """Embed the images of a folder; a setting that is not given is that of the network's run."""
    out = Path(opt.out or default_out(opt.checkpoint, opt.source, opt.split, opt.eval_context))
    refuse_within("--out", out, opt.source)
    existing = existing_rows(opt, out)
    made = existing.description if existing else {}
    settings = made.get("model") or model_settings(opt)
    opt.metrics = METRICS if opt.metrics is None else opt.metrics
    for name in opt.metrics:
        parse_metric(name, "--metrics")
    images = images_to_embed(opt, existing)
    if not len(images.paths):
        print(f"All images of {opt.source} have a row in {out}; there is nothing to add.")
        return
    device = choose_device(opt.device)
    if device.type == "cpu":
        keep_freed_memory()
    embedder = open_embedder(opt.checkpoint, device, geometry=made.get("preprocessing"),
                             side=opt.image_size, bs=opt.bs,
                             amp=opt.amp or made.get("precision"), settings=settings)
    if existing:
        check_network(embedder, existing, out)
    if is_row_file(Path(opt.source)):
        refuse_width(embedder.network, images, opt)
    if settings is None:
        tested = images.class_names if opt.split == "test" and not existing else ()
        for note in notes_on_classes(opt.checkpoint, images.class_names, tested):
            print(printable(note), file=sys.stderr)
    try:
        with output_folder(out):
            rows = embed_into(out, embedder, images, existing, opt)
    except OSError as error:
        raise RunError(f"--out {out} cannot be written ({reason(error)}); free space, or name "
                       "another folder.") from None
    print_end(opt, images, rows, existing)
    print(f"Written to {out}")


def existing_rows(opt: Namespace, out: Path) -> Existing | None:
    """The rows that --add appends to; without the flag there may be none."""
    if opt.add:
        refuse_with_add(opt)
        return read_existing(out)
    if any((out / name).exists() for name in WRITTEN) and not is_begun(out):
        raise UsageError(f"{out}: there are embeddings or labels already, which are never "
                         "overwritten; name another folder by --out, or pass --add for the images "
                         "that are new.")
    return None


def images_to_embed(opt: Namespace, existing: Existing | None) -> ImageList:
    """The images of the folder, or those without a row."""
    source = Path(opt.source)
    images = collect(source, opt.split)
    refuse_lost_names(images.class_names)
    if opt.eval_context:
        check_neighbours(opt.eval_context, len(images.paths))
    return new_images(images, source, existing) if existing else images


def refuse_lost_names(class_names: list[str]) -> None:
    """A UsageError where two classes would have one name in the table."""
    first: dict[str, str] = {}
    for name in class_names:
        other = first.setdefault(plain(name), name)
        if other != name:
            raise UsageError(f"The classes {other!a} and {name!a} would be one in {LABELS}, which drops "
                             "spaces around names and spells accents in one way: rename one of them.")


def embed_into(out: Path, embedder: Embedder, images: ImageList, existing: Existing | None,
               opt: Namespace) -> np.ndarray:
    """Embed the images and write the files; rows (N, D), infinite where an image is damaged."""
    if existing and read_description(out) != existing.description:
        raise RunError(f"{out}: another process has added images; give the command again.")
    before = {BEFORE: len(existing.rows)} if existing else {}
    rows = embed_images(embedder, images, out, before, workers=opt.kernels, strict=opt.strict)
    is_damaged = np.isinf(rows[:, 0])  # (N,)
    report_damaged(images, is_damaged, strict=opt.strict)
    if is_damaged.all() and not existing:
        remove_unfinished(out)
        raise RunError("None of the images can be decoded; nothing was written.")
    context = (opt.eval_context, opt.eval_context_power)
    write_set(out, embedder, images, Path(opt.source), rows, is_damaged, context,
              existing and existing[:2])
    remove_unfinished(out)
    return rows


def print_end(opt: Namespace, images: ImageList, rows: np.ndarray,
              existing: Existing | None) -> None:
    """The metrics of the rows (N, D), and how many images were embedded, on a begun line."""
    is_damaged = np.isinf(rows[:, 0])  # (N,)
    kept = np.array(images.labels)[~is_damaged]
    if existing:
        print(f"{counted(len(kept), 'image')} added to {len(existing.rows)}, {is_damaged.sum()} skipped.",
              end=" ")
        return
    print_metrics(opt, rows[~is_damaged], kept)
    context = ""
    if opt.eval_context:
        neighbours = counted(opt.eval_context, "neighbour")
        context = f" Each holds the context of {neighbours} (power {opt.eval_context_power:g})."
    number = f"{counted(len(kept), 'image')} of {counted(len(set(kept)), 'class')}"
    print(f"{number} embedded in {counted(rows.shape[1], 'dimension')}, {is_damaged.sum()} skipped."
          f"{context}", end=" ")


def refuse_width(network: Network, images: ImageList, opt: Namespace) -> None:
    """A UsageError where the rows of a file are no features of this network."""
    width = images.paths.file.values.shape[1]
    if width != network.feature_dim:
        raise UsageError(f"{opt.source}: the rows have {width} numbers, and {opt.checkpoint} takes "
                         f"features of {network.feature_dim}: give rows of the network that it was "
                         "trained on.")


def refuse_with_add(opt: Namespace) -> None:
    """A UsageError for a flag that would embed the new images otherwise."""
    for flag in ("image_size", "amp", "eval_context", "metrics", *library.SETTINGS):
        if getattr(opt, flag):
            raise UsageError(f"--{flag}: --add embeds new images as the others were; leave it out.")
    if is_row_file(Path(opt.source)):
        raise UsageError(f"{opt.source}: --add takes a folder of images, no rows; embed the whole file "
                         "anew.")


def model_settings(opt: Namespace) -> dict[str, Any] | None:
    """The settings of a library's model; None for a checkpoint, which takes none."""
    given = {name: getattr(opt, name) for name in library.SETTINGS if getattr(opt, name)}
    for name in given.keys() & {"weights", "weights_dir"}:
        # a search may be started elsewhere
        given[name] = os.path.abspath(given[name])
    if library.is_name(opt.checkpoint):
        if "weights" in given and given.keys() & {"weights_dir", "not_pretrained"}:
            raise UsageError("--weights says where the weights come from: pass it alone, without "
                             "--weights_dir and --not_pretrained.")
        return {"pooling": OWN_POOLING} | given
    if given:
        raise UsageError(f"--{next(iter(given))} is for a library's model, such as timm.resnet18, "
                         f"and {opt.checkpoint} is none: leave it out.")
    return None


def print_metrics(opt: Namespace, rows: np.ndarray, labels: np.ndarray) -> None:
    """A table of metrics of rows (N, D), where they have several classes and one has two images."""
    classes, counts = np.unique(labels, return_counts=True)
    if not opt.metrics or len(classes) < 2 or counts.max() < 2:
        return
    metrics = evaluate(torch.from_numpy(rows), torch.from_numpy(labels), opt.metrics,
                       context=opt.eval_context, context_power=opt.eval_context_power)
    print(metric_table({Path(opt.checkpoint).name: metrics}))


def default_out(checkpoint: str, source: str, split: str, context: int = 0) -> Path:
    """A folder beside the checkpoint, under the names of checkpoint, source, split and context."""
    path = Path(checkpoint)
    name = path.stem if path.is_file() else path.name
    name += "-" + (Path(source).resolve().name.removesuffix(".npy") or "images")
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
    pixels = embedder.network.preprocessing
    return {
        "checkpoint": embedder.digests[0],
        "pooling": (embedder.settings or {}).get("pooling"),  # of a checkpoint it is in the file
        "images": fingerprint(images),
        "preprocessing": embedder.geometry,
        "pixels": pixels | {"mean": list(pixels["mean"]), "std": list(pixels["std"])},
        "batch size": embedder.bs,
        "precision": embedder.amp,
        "device": device,
        "threads": torch.get_num_threads() if device == "cpu" else None,
        "torch": torch.__version__,
    }


def embed_images(embedder: Embedder, images: ImageList, out: Path, more: dict[str, Any], *,
                 workers: int, strict: bool) -> np.ndarray:
    """Rows (N, D) of all images, infinite where an image is damaged. more: what else `work` holds.

    A signal stops it after the current batch, which raises Stopped; what is done stays in `out`.
    """
    dimensions = embedder.network.embed_dim
    work = work_of(embedder, images) | more
    done = begin_or_continue(out, work, dimensions, embedder.bs)
    loader = embedder.loader(images, workers)
    has_files = isinstance(loader.dataset, ImageDataset)
    dataset = Tolerant(loader.dataset) if has_files and not strict else loader.dataset
    size = len(dataset)
    loader = loader.over(Subset(dataset, range(done, size)))
    bar = new_bar(total=size, initial=done, desc="embed", unit="image")
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
        raise interruption.stopped("the same command continues from here")
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
    parser = command_parser("evaluation.embed", "Embed the images of a folder by the network of a "
                            "checkpoint, or by a model of a library.")
    add = parser.add_argument
    add("checkpoint", metavar="NETWORK",
        help="last.pt or best_*.pt of a run, the folder of a safetensors export, or a model as "
             "--arch of main.py names it: timm.NAME, torchvision.NAME, resnet50 ...")
    add("source", metavar="SOURCE",
        help="folder of images, in class folders, with a labels.csv, or any other; or a .npy file of "
             "features with a labels.csv beside it")
    add("--out", metavar="FOLDER",
        help="Where the files are written; default: beside the checkpoint (of a library's "
             "model: in this folder), under its name and the source's.")
    add("--add", action="store_true",
        help="Embed only the images without a row in --out, and append them.")
    add("--split", default="all", choices=["all", "train", "val", "test"],
        help="The images of one split, as --dataset image_folder divides the folder, or all.")
    add("--strict", action="store_true",
        help="Stop at an image that cannot be decoded instead of skipping it.")
    add("--bs", type=positive_int, metavar="IMAGES",
        help="Images in a batch; default: as in the run, 32 for a library's model.")
    add("--image_size", type=positive_int, metavar="PIXELS",
        help="Side of the square input image; default: as in the run, or that of the library's "
             "model.")
    add("--amp", choices=list(AMP),
        help="Precision of the backbone; default: as in the run, none for a library's model.")
    add("--metrics", nargs="*", default=None, metavar="METRIC",
        help="Metrics that are printed where the images have classes; without a name: none.")
    add_library_flags(parser)
    add("--device", default="auto", choices=["auto", "cpu", "cuda"], help="Where to compute.")
    add("--kernels", type=non_negative_int, default=0, metavar="N",
        help="Worker processes that load images; 0 loads in the main process.")
    add_context_flags(parser)
    return parser


def add_library_flags(parser: Parser) -> None:
    """The flags of a library's model."""
    group = parser.add_argument_group("a library's model", "As the flags of main.py.")
    group.add_argument("--weights_dir", metavar="FOLDER",
                       help="Folder that is searched for the library's weights before a download.")
    group.add_argument("--weights", metavar="FILE",
                       help="Weights in the place of the library's.")
    group.add_argument("--pooling", choices=list(POOLINGS),
                       help="How the map becomes a feature; default: own, as the library does it.")
    group.add_argument("--not_pretrained", action="store_true", help="Random weights.")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, or 2 for wrong usage, 1 for what failed while running."""
    opt = with_context_flags(build_parser(), argv)
    return answer("evaluation.embed", lambda: run(opt), debug=opt.debug)
