"""Query images, embedded by the network that made the set."""
import sys
from pathlib import Path

import torch
from torch import Tensor

from evaluation.embed import embedded
from evaluation.embed.embedder import Embedder, one_set, open_embedder
from evaluation.search.embedded_set import EmbeddedSet
from utilities.errors import UsageError


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


def embed_queries(embedder: Embedder, paths: list[Path]) -> Tensor:
    """(Q, D): each image embedded alone, so that its row does not depend on the others."""
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path}: there is no such image.")
    loader = embedder.loader(one_set(paths))
    batches = embedded(embedder.network, loader, embedder.device, amp=embedder.amp)
    return torch.cat([rows for rows, *_ in batches])
