"""Search as a part of a program: one folder of embeddings, its network, and queries of any kind."""
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from evaluation.embed.embedder import Embedder
from evaluation.metrics.verification import distance_at_fmr
from evaluation.search.embedded_set import read_set
from evaluation.search.nearest import Hit, SearchResult, find
from evaluation.search.queries import Picture, embed_queries, network_of
from utilities import ranges
from utilities.device import choose_device
from utilities.errors import UsageError


class Searcher:
    """Finds images in a folder that evaluation.embed wrote, or in its embeddings.npy.

        searcher = Searcher("embeddings")
        for hit in searcher.find("photo.jpg", k=5, min_similarity=0.7):
            print(hit.path, hit.class_name, hit.similarity)

    checkpoint: the network of the queries; None: the one that made the embeddings. images: the
    folder that paths start from; None: the one that was embedded. device: "auto", "cpu" or "cuda".
    eval_context, eval_context_power: as of `evaluation.evaluate`; 0: rows as they are. The
    embeddings are read at once, the network at the first query, each once. Raises UsageError or
    RunError where they do not fit.
    """

    def __init__(self, folder: str | Path, *, checkpoint: str | Path | None = None,
                 images: str | Path | None = None, device: str = "auto", eval_context: int = 0,
                 eval_context_power: float = 3.0):
        self.gallery = read_set(str(folder), images, eval_context, eval_context_power)
        self._checkpoint = checkpoint
        self._device = device
        self._embedder: Embedder | None = None

    def __len__(self) -> int:
        return len(self.gallery.rows)

    def open(self) -> Embedder:
        """The network, and how it takes images; opened at the first call."""
        if self._embedder is None:
            device = choose_device(self._device)
            self._embedder = network_of(self.gallery, self._checkpoint, device)
        return self._embedder

    def find(self, image: Picture, k: int = 12, min_similarity: float | None = None) -> list[Hit]:
        """The k images nearest to one, nearest first, without those of less similarity.

        image: a path, an image of Pillow, or an array (H, W, 3) uint8. An image of the folder,
        given by its path, does not find itself. Similarity is the cosine of the two rows.
        """
        return self.find_all([image], k, min_similarity)[0].hits

    def find_all(self, images: Sequence[Picture], k: int = 12,
                 min_similarity: float | None = None) -> list[SearchResult]:
        """As `find` for several images, in their order."""
        paths = [Path(image) if isinstance(image, str | Path) else None for image in images]
        return self.search(self.embed(images), paths, k, min_similarity)

    def embed(self, images: Sequence[Picture], *, strict: bool = True) -> Tensor:
        """The rows (Q, D) of images; without `strict` infinite where one cannot be decoded."""
        if not len(images):
            return torch.empty(0, self.gallery.rows.shape[1])  # (0, D)
        return embed_queries(self.open(), images, strict=strict)

    def search(self, rows: Tensor, paths: Sequence[Path | None], k: int = 12,
               min_similarity: float | None = None,
               query_class: str | None = None) -> list[SearchResult]:
        """What rows (Q, D) of `embed` find; paths: their files, None for what is none."""
        if rows.ndim != 2 or len(rows) != len(paths):
            raise UsageError(f"A search takes rows (Q, D) and a path or None for each, not rows of shape "
                             f"{tuple(rows.shape)} and {len(paths)} of these.")
        if min_similarity is not None and not ranges.cosine.has(min_similarity):
            raise UsageError(f"--min_similarity: {ranges.cosine.problem(min_similarity)}.")
        if not len(rows):
            return []
        return find(self.gallery, rows, paths, k, query_class, min_similarity)

    def threshold(self, rate: float = 0.001) -> float:
        """The least similarity that accepts the share `rate` of the pairs of two classes here.

        It is the threshold of the metric fnmr@<rate>, as a cosine: 1 - T^2 / 2 for unit rows of
        distance T. Rows with context have their own.
        """
        if not ranges.share.has(rate):
            raise UsageError(f"rate: {ranges.share.problem(rate)}.")
        context = self.gallery.context
        rows = context[-1] if context else self.gallery.rows  # (N, D)
        numbers = {}
        labels = [numbers.setdefault(self.gallery.class_of(row), len(numbers))
                  for row in range(len(self))]
        rows = torch.nn.functional.normalize(rows.double(), dim=1)
        return 1 - distance_at_fmr(rows, torch.tensor(labels), rate)**2 / 2
