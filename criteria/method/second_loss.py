"""The loss of v where it shares nothing with that of u."""
from torch import Tensor, nn

from batchminer.base import Miner
from criteria.base import Criterion, PairWeights


class SecondLoss(nn.Module):
    """L(v; w) by a criterion with parameters of its own (proxies, boundaries), on triplets mined from v, as published.

    The miner, None for a loss over the whole batch, draws from a stream of its own.
    """

    def __init__(self, criterion: Criterion, miner: Miner | None = None):
        super().__init__()
        self.criterion = criterion
        self.miner = miner

    def forward(self, v: Tensor, label: Tensor, weight: PairWeights | None) -> Tensor:
        """v (B, D), label (B,) -> scalar."""
        triplets = self.miner(v, label) if self.miner else None
        return self.criterion(v, label, triplets, weight)

    def get_extra_state(self) -> dict | None:
        """The miner's random stream, part of the module's state dict."""
        return self.miner.state_dict() if self.miner else None

    def set_extra_state(self, state: dict | None) -> None:
        """Restore it."""
        if self.miner:
            self.miner.load_state_dict(state)
