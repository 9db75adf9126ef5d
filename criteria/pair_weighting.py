"""How the images of a batch relate to each other, and how strongly their pairs count.

`BatchRelation` reads the batch as a whole and gives every image a context; `PairWeighting` turns the context and the
statistics of the batch into a distribution over actions, and actions into pair weights.
"""
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from criteria.base import PairWeights
from utilities.errors import UsageError
from utilities.pairwise import average_precision, masked_softmax, negative_mask, positive_mask, similarity, unit
from utilities.seed import RandomStream

SHARPNESS_POSITIVE = (-20.0, -5.0, 0.0, 2.0, 5.0, 10.0, 20.0, 40.0)
SHARPNESS_NEGATIVE = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)


class BatchRelation(nn.Module):
    """Inter-sample relation: a context for every image, from the whole batch.

    kind 'gru': a bidirectional GRU over the batch as one sequence; 'attention': one self-attention layer.
    order 'permuted' shuffles the batch before the GRU and undoes it after, so that the position says nothing of the
    class; 'batch' leaves it as the sampler made it (as published; leaks the class of grouped batches).
    hidden: width of the state, 0 = that of the feature. share_projection: the context goes through the projection of
    the embedding instead of one of its own (as published; needs hidden = feature width).

    feature (B, F) -> context logits u (B, D), with c = sigmoid(u), and state (B, hidden).
    """

    def __init__(self, feature_dim: int, embed_dim: int, kind: str = "gru", hidden: int = 512,
                 order: str = "permuted", share_projection: bool = False, seed: int = 0):
        super().__init__()
        hidden = hidden or feature_dim
        if share_projection and hidden != feature_dim:
            raise UsageError(f"--relation_share_projection needs states as wide as the feature ({feature_dim}), not "
                             f"{hidden}: pass --relation_hidden 0.")
        self.kind, self.order, self.state_dim = kind, order, hidden
        self.stream = RandomStream(seed)
        if kind == "gru":
            self.encoder: nn.Module = nn.GRU(feature_dim, hidden, bidirectional=True)
        else:
            self.encoder = nn.Sequential(nn.Linear(feature_dim, hidden),
                                         nn.TransformerEncoderLayer(hidden, 4, hidden, dropout=0.0))
        self.projection = None if share_projection else nn.Linear(hidden, embed_dim)

    def forward(self, feature: Tensor, projection: nn.Module) -> tuple[Tensor, Tensor]:
        """feature (B, F), the network's projection -> context logits (B, D), states (B, hidden)."""
        order = torch.arange(len(feature), device=feature.device)
        if self.order == "permuted":
            order = torch.randperm(len(feature), generator=self.stream.on(feature.device), device=feature.device)
        undo = order.argsort()                                                     # (B,)
        if self.kind == "gru":
            both = self.encoder(feature[order])[0].unflatten(-1, (2, self.state_dim))[undo]  # (B, 2, hidden)
            state, mean = both[:, 0], both.mean(1)                                 # forward state; mean of both
        else:
            state = mean = self.encoder(feature[order])[undo]                      # (B, hidden)
        return (self.projection or projection)(mean), state

    def get_extra_state(self) -> dict:
        """The random stream's state, part of the module's state dict."""
        return self.stream.state_dict()

    def set_extra_state(self, state: dict) -> None:
        """Restore the random stream."""
        self.stream.load_state_dict(state)


class Actions(NamedTuple):
    """K actions for each of N deciders (N = 1: the batch; N = B: every anchor), as indices into the two grids."""

    positive: Tensor
    negative: Tensor


class Decision(NamedTuple):
    """Log-probabilities of the two grids, (N, A+) and (N, A-): what the policy decided on one batch."""

    positive: Tensor
    negative: Tensor

    def log_prob(self, actions: Actions) -> Tensor:
        """log pi of the joint action, (K, N)."""
        return (self.positive.gather(1, actions.positive.T) + self.negative.gather(1, actions.negative.T)).T

    def entropy(self) -> Tensor:
        """Entropy in nats of the two distributions, (N, 2)."""
        return torch.stack([-(p.exp() * p).sum(-1) for p in self], -1)


class PairWeighting(nn.Module):
    """The policy over pair weights: two categorical distributions, one for positive and one for negative pairs.

    action 'sharpness': w_ij = softmax_j(-b_p s_ij) over the positives of anchor i and softmax_j(b_n s_ij) over its
    negatives, times their number (so that the mean is one), with b_p, b_n from the grids. 'weight' (as published): one
    factor of {1..A}/A per anchor and sign; scale 'mean' divides it by its batch mean, 'none' leaves it.
    granularity 'batch': one action for the batch, 'anchor': one per image.
    input: 'state' (the relation's state), 'statistics' (label-aware pair statistics) or 'both'.
    All inputs are detached: the policy learns from its reward alone.
    """

    def __init__(self, state_dim: int, action: str = "sharpness", granularity: str = "batch", input: str = "both",
                 levels: int = 64, scale: str = "mean", seed: int = 0):
        super().__init__()
        if action == "weight" and granularity == "batch" and scale == "mean":
            raise UsageError("--policy_action weight with --policy_granularity batch has no effect, since one factor "
                             "for the whole batch divided by its mean is one: pass --policy_granularity anchor.")
        self.action, self.granularity, self.input, self.scale = action, granularity, input, scale
        grids = (SHARPNESS_POSITIVE, SHARPNESS_NEGATIVE)
        if action == "weight":
            grids = (tuple((i + 1) / levels for i in range(levels)),) * 2
        self.register_buffer("grid_positive", torch.tensor(grids[0]), persistent=False)
        self.register_buffer("grid_negative", torch.tensor(grids[1]), persistent=False)
        statistics = 4 if granularity == "batch" else 8
        width = state_dim * (input != "statistics") + statistics * (input != "state")
        self.head_positive, self.head_negative = (nn.Linear(width, len(grid)) for grid in grids)
        for head in (self.head_positive, self.head_negative):                      # start from the uniform policy
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.stream = RandomStream(seed)

    def forward(self, state: Tensor | None, z: Tensor, label: Tensor) -> Decision:
        """state (B, H) of the relation or None, combined embedding z (B, D), label (B,) -> Decision."""
        parts = []
        if self.input != "statistics":
            pooled = state.detach().mean(0, keepdim=True) if self.granularity == "batch" else state.detach()
            parts.append(unit(layer_norm(pooled, pooled.shape[-1:])))              # (N, H), rows of length one
        if self.input != "state":
            compute = batch_statistics if self.granularity == "batch" else anchor_statistics
            parts.append(compute(unit(z.detach()), label))                         # (N, 4 or 8)
        x = torch.cat(parts, -1)
        return Decision(self.head_positive(x).log_softmax(-1), self.head_negative(x).log_softmax(-1))

    def sample(self, decision: Decision, number: int) -> Actions:
        """Draw `number` actions from the decision, (K, N) indices each. Two are drawn where one is asked for: a single
        draw would make the host wait for a check of the probabilities."""
        generator, draws = self.stream.on(decision.positive.device), max(number, 2)
        return Actions(*(torch.multinomial(p.detach().exp(), draws, replacement=True, generator=generator).T[:number]
                         for p in decision))

    def random(self, number: int, deciders: int) -> Actions:
        """Actions drawn uniformly: the control that learns nothing, (K, N) indices each."""
        device = self.grid_positive.device
        return Actions(*(torch.randint(len(grid), (number, deciders), generator=self.stream.on(device), device=device)
                         for grid in (self.grid_positive, self.grid_negative)))

    def weights(self, actions: Actions, z: Tensor, label: Tensor) -> PairWeights:
        """The pair weights of K actions on embedding z (B, D): (K, B, B) for sharpness, (K, B, 1) for weight."""
        return self.weights_of(self.grid_positive[actions.positive], self.grid_negative[actions.negative], z, label)

    def weights_of(self, positive: Tensor, negative: Tensor, z: Tensor, label: Tensor, anchors: int | None = None
                   ) -> PairWeights:
        """As `weights`, of action values instead of indices: positive, negative (K, deciders). With `anchors` A, the
        rows of z after the first A are only compared with: (K, A, N) or (K, A, 1)."""
        if self.action == "weight":
            return PairWeights(*(self._factors(value, len(z[:anchors])) for value in (positive, negative)))
        z = unit(z.detach())
        s = similarity(z[:anchors], z)                                             # (A, N)
        return PairWeights(sharpness_weights(-positive[..., None] * s, positive_mask(label, anchors)),
                           sharpness_weights(negative[..., None] * s, negative_mask(label, anchors)))

    def expected_weights(self, decision: Decision, z: Tensor, label: Tensor, anchors: int | None = None) -> PairWeights:
        """The policy's mean weight, E_a[w(a)], with one leading axis of length one."""
        rows = []
        for sign, (grid, log_p) in enumerate(zip((self.grid_positive, self.grid_negative), decision)):
            value = grid[:, None].expand(-1, len(log_p))                           # (A, N)
            weight = self.weights_of(value, value, z, label, anchors)[sign]        # (actions, A, N or 1)
            rows.append((log_p.detach().exp().T[..., None] * weight).sum(0, keepdim=True))
        return PairWeights(*rows)

    def _factors(self, value: Tensor, rows: int) -> Tensor:
        factor = value.expand(len(value), rows)                                    # (K, B)
        return (factor / factor.mean(-1, keepdim=True) if self.scale == "mean" else factor)[..., None]  # (K, B, 1)

    def get_extra_state(self) -> dict:
        """The random stream's state, part of the module's state dict."""
        return self.stream.state_dict()

    def set_extra_state(self, state: dict) -> None:
        """Restore the random stream."""
        self.stream.load_state_dict(state)


def sharpness_weights(logit: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the pairs of a row, times their number: mean one; zero where there is no pair, (..., B, B)."""
    return masked_softmax(logit, mask) * mask.sum(-1, keepdim=True)


def batch_statistics(z: Tensor, label: Tensor) -> Tensor:
    """Mean AP, mean positive and negative similarity, and length of the mean embedding of unit rows z, (1, 4)."""
    s, positive, negative = similarity(z), positive_mask(label), negative_mask(label)
    return torch.stack([average_precision(s, positive).mean(), _mean(s, positive), _mean(s, negative),
                        z.mean(0).norm()])[None]


def anchor_statistics(z: Tensor, label: Tensor) -> Tensor:
    """What each anchor's pairs look like, standardised over the batch, (B, 8).

    Mean, minimum and maximum positive similarity; mean and maximum negative similarity; hardest negative minus hardest
    positive; AP; share of negatives above the worst positive.
    """
    s, positive, negative = similarity(z), positive_mask(label), negative_mask(label)
    lowest = s.masked_fill(~positive, torch.inf).amin(-1).nan_to_num(posinf=0.0)   # (B,)
    highest = s.masked_fill(~positive, -torch.inf).amax(-1).nan_to_num(neginf=0.0)
    hardest = s.masked_fill(~negative, -torch.inf).amax(-1).nan_to_num(neginf=0.0)
    above = _mean((s > lowest[:, None]).to(s.dtype), negative, dim=-1)
    rows = torch.stack([_mean(s, positive, -1), lowest, highest, _mean(s, negative, -1), hardest, hardest - lowest,
                        average_precision(s, positive), above], -1)                # (B, 8)
    return (rows - rows.mean(0)) / rows.std(0).clamp(min=1e-6)


def _mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of x where mask is true; zero where it never is."""
    dims = tuple(range(x.ndim)) if dim is None else dim
    return (x * mask).sum(dims) / mask.sum(dims).clamp(min=1)
