"""Cross-batch memory: pairs with the embeddings of past batches."""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from batchminer.base import Miner
from criteria.base import Criterion, PairWeights
from utilities.errors import UsageError

Weigh = Callable[[Tensor, Tensor, int], PairWeights | None]


class CrossBatchMemory(nn.Module):
    """Cross-batch memory (Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020, section 3.3).

        L = L(batch) + weight L(batch against batch and memory)

    The memory holds the last `size` embeddings, without gradient: they drift slowly enough to stand for what the
    network gives now. It joins the loss after `start` steps, once that holds. The batch's images are the anchors of
    both terms, so pair weights apply to both. Deviations: an image that is in the batch is left out of the memory (by
    its index; the authors compare it with its own past), and pairs within the batch keep their gradient in both terms.

    A miner, if the base criterion needs triplets, draws from a stream of its own. Memory: size x (4 D + 16) bytes and,
    in the loss, a batch x size matrix. Leaving images out fixes a shape, for which a GPU is waited on once a step.
    """

    def __init__(self, base: Criterion, embed_dim: int, size: int, start: int = 1000, weight: float = 1.0,
                 miner: Miner | None = None):
        super().__init__()
        if not base.takes_references:
            raise UsageError(f"{type(base).__name__} takes no reference rows, so a cross-batch memory cannot serve "
                             "it: pass --xbm_size 0.")
        self.size = size
        self.start = start
        self.weight = weight
        self.miner = miner
        self.steps = 0
        self.seen = 0
        self.register_buffer("row", torch.zeros(size, embed_dim))  # (M, D)
        self.register_buffer("label", torch.zeros(size, dtype=torch.long))  # (M,)
        # which image it was
        self.register_buffer("index", torch.full((size,), -1))  # (M,)

    def forward(self, base: Criterion, z: Tensor, label: Tensor, index: Tensor, weigh: Weigh) -> Tensor:
        """The second term for embeddings z (B, D), labels (B,) and image indices (B,), then remember them -> scalar.

        weigh(rows, labels, anchors) gives the pair weights of the batch against all rows, or None.
        """
        if index is None:
            raise UsageError("The cross-batch memory leaves out images that are in the batch: pass their numbers as "
                             "`index`.")
        self.steps += 1
        past, past_label = self.references(index)
        loss = z.new_zeros(())
        if self.steps > self.start and len(past):
            rows = torch.cat([z, past.to(z.dtype)])  # (B + M, D)
            labels = torch.cat([label, past_label])  # (B + M,)
            triplets = self.miner(rows, labels, len(z)) if self.miner else None
            weights = weigh(rows, labels, len(z))
            loss = self.weight * base(rows, labels, triplets, weights, len(z))
        self.remember(z, label, index)
        return loss

    def references(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """What is remembered of images that are not in `index`: rows (M', D) and labels (M',)."""
        filled = min(self.seen, self.size)
        keep = (self.index[:filled, None] != index).all(-1)  # (filled,)
        return self.row[:filled][keep], self.label[:filled][keep]

    @torch.no_grad()
    def remember(self, z: Tensor, label: Tensor, index: Tensor) -> None:
        """Put the batch in the place of the oldest rows."""
        rows = z[-self.size:]
        place = (self.seen + torch.arange(len(rows), device=z.device)) % self.size  # (B,)
        self.row[place] = rows.to(self.row.dtype)
        self.label[place] = label[-self.size:].long()
        self.index[place] = index[-self.size:].long()
        self.seen += len(rows)

    def get_extra_state(self) -> dict:
        """Counters and the miner's random stream, part of the module's state dict."""
        miner = self.miner.state_dict() if self.miner else None
        return {"steps": self.steps, "seen": self.seen, "miner": miner}

    def set_extra_state(self, state: dict) -> None:
        """Restore them."""
        self.steps = state["steps"]
        self.seen = state["seen"]
        if self.miner:
            self.miner.load_state_dict(state["miner"])
