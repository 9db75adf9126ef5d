"""The policy over pair weights: from what it sees of a batch to a distribution over actions."""
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from criteria.base import PairWeights
from criteria.method.decision import Actions, Decision
from criteria.method.pairs import Pairs
from criteria.method.statistics import anchor_statistics, batch_statistics
from criteria.method.weighting import Factor, Weighting, grid_tensors
from utilities.errors import UsageError
from utilities.pairwise import unit
from utilities.registry import known_name
from utilities.seed import RandomStream

GRANULARITIES = ("batch", "anchor")
INPUTS = ("state", "statistics", "both")
STATES = ("unit", "raw")
INITS = ("zero", "unweighted", "default")
# probability of the unweighted action in a policy that starts there
START = 0.9


class Policy(nn.Module):
    """Two linear heads, one for positive and one for negative pairs, that start at the uniform distribution.

    weighting: what an action means.
    granularity: 'batch', one action for the batch, or 'anchor', one for each image.
    input: 'state' (of the relation), 'statistics' (of the pairs, which know the labels) or 'both'. All of it is
        detached: the policy learns from its reward alone.
    state: 'unit' rows after a layer norm, or 'raw' (as published).
    init: the linear layers start at 'zero', so that the first policy is uniform; 'unweighted', so that it takes the
        loss as it is, b = 0, with probability 0.9 for each sign; or at the library's 'default' (as published).
    """

    def __init__(self, state_dim: int, weighting: Weighting, granularity: str = "batch", input: str = "both",
                 state: str = "unit", init: str = "zero", seed: int = 0):
        super().__init__()
        known_name(granularity, GRANULARITIES, "granularity", "--policy_granularity")
        known_name(input, INPUTS, "input", "--policy_input")
        known_name(state, STATES, "state", "--policy_state")
        known_name(init, INITS, "first policy", "--policy_init")
        if init == "unweighted" and isinstance(weighting, Factor):
            raise UsageError("--policy_init unweighted starts at the action that leaves the loss as it is, and "
                             "--policy_action weight has none: pass --policy_init zero.")
        one_factor = isinstance(weighting, Factor) and granularity == "batch"
        if one_factor and weighting.scale == "mean":
            raise UsageError("--policy_action weight with --policy_granularity batch has no effect, since one factor "
                             "for the whole batch divided by its mean is one: pass --policy_granularity anchor.")
        self.weighting = weighting
        self.granularity = granularity
        self.input = input
        self.state = state
        positive, negative = grid_tensors(weighting)
        self.register_buffer("grid_positive", positive, persistent=False)
        self.register_buffer("grid_negative", negative, persistent=False)
        width = self.input_width(state_dim)
        self.head_positive = nn.Linear(width, len(positive))
        self.head_negative = nn.Linear(width, len(negative))
        if init != "default":
            for parameter in self.parameters():
                nn.init.zeros_(parameter)
        if init == "unweighted":
            for head, grid in ((self.head_positive, positive), (self.head_negative, negative)):
                odds = (len(grid) - 1) * START / (1 - START)
                head.bias.data.masked_fill_(grid == 0, math.log(odds))
        self.stream = RandomStream(seed)

    @property
    def grids(self) -> tuple[Tensor, Tensor]:
        """The values that the actions stand for, (G+) and (G-)."""
        return self.grid_positive, self.grid_negative

    def input_width(self, state_dim: int) -> int:
        """Numbers that a decider sees."""
        width = 0
        if self.input != "statistics":
            width += state_dim
        if self.input != "state":
            width += 4 if self.granularity == "batch" else 8
        return width

    def forward(self, state: Tensor | None, pairs: Pairs) -> Decision:
        """state (B, H) of the relation or None, the batch's pairs -> Decision of 1 or B deciders."""
        x = self.observe(state, pairs).to(self.head_positive.weight.dtype)  # (N, W)
        return Decision(self.head_positive(x).log_softmax(-1), self.head_negative(x).log_softmax(-1))

    def observe(self, state: Tensor | None, pairs: Pairs) -> Tensor:
        """What the policy sees of the batch (1, W), or of every image (B, W)."""
        parts = []
        if self.input != "statistics":
            states = state.detach()  # (B, H)
            if self.granularity == "batch":
                states = states.mean(0, keepdim=True)  # (1, H)
            if self.state == "unit":
                states = unit(layer_norm(states, states.shape[-1:]))
            parts.append(states)
        if self.input != "state":
            statistics = batch_statistics if self.granularity == "batch" else anchor_statistics
            parts.append(statistics(pairs))
        return torch.cat(parts, -1)  # (N, W)

    def uniform_decision(self, images: int) -> Decision:
        """The decision of a policy that has learned nothing, for a batch of so many images."""
        deciders = 1 if self.granularity == "batch" else images
        return Decision(*(grid.new_zeros(deciders, len(grid)).log_softmax(-1) for grid in self.grids))

    def values(self, actions: Actions) -> tuple[Tensor, Tensor]:
        """What the actions stand for: b_p and b_n, or factors, (K, N) each."""
        return self.grid_positive[actions.positive], self.grid_negative[actions.negative]

    def weights(self, values: tuple[Tensor, Tensor], pairs: Pairs) -> PairWeights:
        """The pair weights under the values (K, N) of K actions, (K, A, 1 or N) each."""
        weights = [self.weighting.weights(value, sign, pairs) for sign, value in enumerate(values)]
        return PairWeights(*weights)

    def mean_weights(self, decision: Decision, pairs: Pairs) -> PairWeights:
        """The pair weights in the mean over the decision's actions, (1, A, 1 or N) each, without gradient."""
        weights = []
        for sign, (log_p, grid) in enumerate(zip(decision, self.grids)):
            weights.append(self.weighting.mean_weights(log_p.detach().exp(), grid, sign, pairs))
        return PairWeights(*weights)

    def get_extra_state(self) -> dict:
        """The random stream's state, part of the module's state dict."""
        return self.stream.state_dict()

    def set_extra_state(self, state: dict) -> None:
        """Restore the random stream."""
        self.stream.load_state_dict(state)
