"""The loss of v, or of the context alone, where it shares nothing with that of u."""
from torch import Tensor, nn

from batchminer.base import Miner, Triplets
from criteria.base import Criterion, PairWeights


class SecondLoss(nn.Module):
    """weight L(v; w) by a criterion with parameters of its own (proxies, boundaries), as published.

    Its triplets are mined from v. The miner, None for a loss over the whole batch, draws from a stream of its own.
    """

    def __init__(self, criterion: Criterion, miner: Miner | None = None, weight: float = 1.0):
        super().__init__()
        self.criterion = criterion
        self.miner = miner
        self.weight = weight

    def forward(self, v: Tensor, label: Tensor, weight: PairWeights | None = None,
                triplets: Triplets | None = None) -> Tensor:
        """v (B, D), label (B,) -> scalar; the triplets of u are not used."""
        triplets = self.miner(v, label) if self.miner else None
        return self.weight * self.criterion(v, label, triplets, weight)

    def get_extra_state(self) -> dict | None:
        """The miner's random stream, part of the module's state dict."""
        return self.miner.state_dict() if self.miner else None

    def set_extra_state(self, state: dict | None) -> None:
        """Restore it."""
        if self.miner:
            self.miner.load_state_dict(state)
