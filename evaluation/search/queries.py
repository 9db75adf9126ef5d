"""Query images, embedded by the network that made the set."""
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from datasets.decode import ImageError, to_pixels
from datasets.formats import Content
from evaluation.embed import DAMAGED, Tolerant, embedded
from evaluation.embed.embedder import Embedder, one_set, open_embedder
from evaluation.search.embedded_set import EmbeddedSet
from utilities.errors import UsageError, in_brief


def network_of(gallery: EmbeddedSet, checkpoint: str | None, device: torch.device) -> Embedder:
    """The network that made the embeddings, or that of another checkpoint, with a note.

    Raises UsageError where the network is unknown, has moved, or has changed.
    """
    made_by = gallery.description.get("checkpoint", {})
    path = checkpoint or made_by.get("path")
    if path is None:
        raise UsageError(f"{gallery.file.parent} does not say which network made its embeddings: "
                         "pass --checkpoint.")
    settings = None if checkpoint else gallery.description.get("model")
    if checkpoint is None and settings is None and not Path(path).exists():
        raise UsageError(f"{path}, which made the embeddings, is not there any more; pass "
                         "--checkpoint with its new place.")
    embedder = open_embedder(path, device, geometry=gallery.description.get("preprocessing"), bs=1,
                             amp=gallery.description.get("precision"), settings=settings)
    if made_by and not set(embedder.digests) & set(made_by["sha256"]):
        if settings is not None:
            raise UsageError(f"{path} has other weights now than those that made the embeddings: "
                             "embed the images again.")
        if checkpoint is None:
            raise UsageError(f"{path} has changed since it made the embeddings; embed the images "
                             f"again, or pass --checkpoint {path} to take it as it is.")
        print(f"note: {checkpoint} is not the checkpoint that made the embeddings (their SHA-256 "
              "differ).", file=sys.stderr)
    return embedder


# An image as a program may have it: a file, its content, an image of Pillow, (H, W, 3) uint8.
Picture = str | Path | Content | Image.Image | np.ndarray


def embed_queries(embedder: Embedder, images: Sequence[Picture], *, strict: bool = True) -> Tensor:
    """(Q, D): each image embedded alone, so that its row does not depend on the others.

    An image that cannot be decoded raises ImageError; without `strict` its row is infinite.
    """
    loader = embedder.loader(one_set([source_of(image, strict) for image in images]))
    if not strict:
        loader = loader.over(Tolerant(loader.dataset))
    batches = embedded(embedder.network, loader, embedder.device, amp=embedder.amp)
    rows = []
    for row, label, _ in batches:
        row[label == DAMAGED] = torch.inf
        rows.append(row)
    return torch.cat(rows)


def source_of(image: Picture, strict: bool = True) -> Path | Content | Tensor:
    """An image as `datasets.decode` takes it; pixels (3, H, W) where it is decoded already.

    Raises UsageError where there is no such file, if `strict`, or the array is no image.
    """
    if isinstance(image, Content):
        return image
    if isinstance(image, str | Path):
        if strict and not Path(image).is_file():
            raise UsageError(f"{image}: there is no such image.")
        return Path(image)
    if isinstance(image, np.ndarray):
        return _pixels_of(image)
    if not isinstance(image, Image.Image):
        raise UsageError(f"A query is a path, an image of Pillow or an array, and this is of type "
                         f"{type(image).__name__}.")
    return _source_of_pillow(image)


def _pixels_of(array: np.ndarray) -> Tensor:
    """(H, W, 3) -> (3, H, W)"""
    is_image = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8 and array.size
    if not is_image:
        raise UsageError(f"An array as a query is (H, W, 3) of type uint8, RGB; this is "
                         f"{array.shape} of type {array.dtype}.")
    # neither a reversed view nor one that cannot be written to is a tensor
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


def _source_of_pillow(image: Image.Image) -> Content | Tensor:
    if isinstance(image, JpegImageFile) and image.tile and image.fp:
        # not decoded yet: a large one is scaled down while it is, as by its path
        image.fp.seek(0)
        return Content(image.fp.read(), str(image.filename or "the image"))
    try:
        image.load()
        return to_pixels(image)
    # a damaged file raises nearly any type
    except Exception as error:
        raise ImageError(f"The image cannot be decoded ({in_brief(error)}); give another "
                         "one.") from None
