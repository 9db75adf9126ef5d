"""How the images of a batch relate to each other, and how strongly their pairs count.

`BatchRelation` reads the batch as a whole and gives every image a context; `PairWeighting` turns the context and the
statistics of the batch into a distribution over actions, and actions into pair weights.
"""
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from criteria.base import PairWeights
from criteria.decisions import Actions, Decision, NormalDecision
from criteria.pair_statistics import anchor_statistics, batch_statistics, pair_statistics
from utilities.errors import UsageError
from utilities.pairwise import masked_softmax, negative_mask, positive_mask, similarity, unit
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


class PairWeighting(nn.Module):
    """The policy over pair weights: two distributions over actions, one for positive and one for negative pairs.

    action 'sharpness': w_ij = softmax_j(-b_p s_ij) over the positives of anchor i and softmax_j(b_n s_ij) over its
    negatives, times their number (so that the mean is one), with b_p, b_n from the grids. 'continuous': the same with
    b_p = 5 sinh(a_p), b_n = 40 exp(a_n) and normally distributed a of learned mean and spread. 'weight' (as published):
    one factor of {1..A}/A per anchor and sign, or per pair; scale 'mean' divides it by its mean over the batch, or over
    the anchor's pairs of that sign; 'none' leaves it.
    granularity 'batch': one action for the batch, 'anchor': one per image, 'pair': one per pair of images.
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
        outputs = (2, 2) if action == "continuous" else map(len, grids)
        self.head_positive, self.head_negative = (
            PairHead(width, 3 * (input != "state"), n) if granularity == "pair" else zero_linear(width, n)
            for n in outputs)
        self.stream = RandomStream(seed)

    def forward(self, state: Tensor | None, z: Tensor, label: Tensor) -> Decision:
        """state (B, H) of the relation or None, combined embedding z (B, D), label (B,) -> Decision."""
        x = self.look(state, z, label)                                             # (N, W)
        if self.granularity != "pair":
            return self.judge(x)
        pair = pair_statistics(unit(z.detach()), label) if self.input != "state" else None  # (B, B, 3)
        applies = torch.stack([positive_mask(label), negative_mask(label)], -1).flatten(0, 1)  # (B B, 2)
        return self.judge(x, pair, applies=applies)

    def look(self, state: Tensor | None, z: Tensor, label: Tensor) -> Tensor:
        """What the policy sees of the batch (1, W), or of every image (B, W)."""
        parts = []
        if self.input != "statistics":
            pooled = state.detach().mean(0, keepdim=True) if self.granularity == "batch" else state.detach()
            parts.append(unit(layer_norm(pooled, pooled.shape[-1:])))              # (N, H), rows of length one
        if self.input != "state":
            compute = batch_statistics if self.granularity == "batch" else anchor_statistics
            parts.append(compute(unit(z.detach()), label))                         # (N, 4 or 8)
        return torch.cat(parts, -1)

    def judge(self, *seen: Tensor | None, applies: Tensor | None = None) -> Decision:
        """What the heads decide on what was seen; `applies` as in Decision."""
        return self.decision(self.head_positive(*seen), self.head_negative(*seen), applies)

    def decision(self, positive: Tensor, negative: Tensor, applies: Tensor | None = None) -> Decision:
        """The heads' outputs (N, A) as a decision."""
        if self.action == "continuous":
            grids = (self.grid_positive / 5).asinh(), (self.grid_negative / 40).log()
            return NormalDecision(positive, negative, applies, grids)
        return Decision(positive.log_softmax(-1), negative.log_softmax(-1), applies)

    def sample(self, decision: Decision, number: int) -> Actions:
        """Draw `number` actions from the decision, (K, N) each."""
        return decision.draw(number, self.stream.on(decision.positive.device))

    def random(self, number: int, deciders: int) -> Actions:
        """Actions of the policy as it starts, uniform or standard normal: the control that learns nothing, (K, N)."""
        zeros = (grid.new_zeros(deciders, 2 if self.action == "continuous" else len(grid))
                 for grid in (self.grid_positive, self.grid_negative))
        return self.sample(self.decision(*zeros), number)

    def deciders(self, images: int) -> int:
        """How many actions a batch of so many images gets."""
        return {"batch": 1, "anchor": images, "pair": images ** 2}[self.granularity]

    def values(self, actions: Actions) -> tuple[Tensor, Tensor]:
        """What the actions mean: sharpness b_p and b_n, or factors, (K, N) each."""
        if self.action == "continuous":
            return 5 * actions.positive.sinh(), 40 * actions.negative.exp()
        return self.grid_positive[actions.positive], self.grid_negative[actions.negative]

    def weights(self, actions: Actions, z: Tensor, label: Tensor) -> PairWeights:
        """The pair weights of K actions on embedding z (B, D): (K, B, B), or (K, B, 1) for one weight an anchor."""
        return self.weights_of(*self.values(actions), z, label)

    def weights_of(self, positive: Tensor, negative: Tensor, z: Tensor, label: Tensor, anchors: int | None = None
                   ) -> PairWeights:
        """As `weights`, of action values instead of actions: positive, negative (K, deciders). With `anchors` A, the
        rows of z after the first A are only compared with: (K, A, N) or (K, A, 1)."""
        rows = len(z[:anchors])
        if self.granularity == "pair" and positive.shape[1] > 1:
            positive, negative = (value.unflatten(1, (rows, len(z))) for value in (positive, negative))  # (K, A, N)
        else:
            positive, negative = positive[..., None], negative[..., None]          # (K, 1 or A, 1)
        masks = positive_mask(label, anchors), negative_mask(label, anchors)       # (A, N) each
        if self.action == "weight":
            return PairWeights(*(self._factors(value, rows, mask) for value, mask in zip((positive, negative), masks)))
        z = unit(z.detach())
        s = similarity(z[:anchors], z)                                             # (A, N)
        return PairWeights(sharpness_weights(-positive * s, masks[0]), sharpness_weights(negative * s, masks[1]))

    def expected_weights(self, decision: Decision, z: Tensor, label: Tensor, anchors: int | None = None) -> PairWeights:
        """The policy's mean weight E_a[w(a)], or the weight of its mean factor, with one leading axis of length one."""
        if self.action == "weight":
            means = ((log_p.detach().exp() * grid).sum(-1)[None]
                     for grid, log_p in zip((self.grid_positive, self.grid_negative), decision.signs))
            return self.weights_of(*means, z, label, anchors)
        rows = []
        for sign, (grid, log_p) in enumerate(zip((self.grid_positive, self.grid_negative), decision.signs)):
            value = grid[:, None].expand(-1, len(log_p))                           # (A, N)
            weight = self.weights_of(value, value, z, label, anchors)[sign]        # (actions, A, N or 1)
            rows.append((log_p.detach().exp().T[..., None] * weight).sum(0, keepdim=True))
        return PairWeights(*rows)

    def _factors(self, value: Tensor, rows: int, mask: Tensor) -> Tensor:
        """Factors (K, 1 or A, 1) or (K, A, N) as weights, (K, A, 1) or (K, A, N)."""
        value = value.expand(len(value), rows, -1)
        if self.scale == "none":
            return value
        if value.shape[-1] == 1:
            return value / value.mean(1, keepdim=True)
        return value * mask.sum(-1, keepdim=True) / (value * mask).sum(-1, keepdim=True).clamp(min=1e-6)

    def get_extra_state(self) -> dict:
        """The random stream's state, part of the module's state dict."""
        return self.stream.state_dict()

    def set_extra_state(self, state: dict) -> None:
        """Restore the random stream."""
        self.stream.load_state_dict(state)


class PairHead(nn.Module):
    """A linear head over pairs (i, j), of what is known of i, of j and of the pair, which starts at zero."""

    def __init__(self, image_dim: int, pair_dim: int, outputs: int):
        super().__init__()
        self.anchor, self.other = zero_linear(image_dim, outputs), zero_linear(image_dim, outputs)
        self.pair = zero_linear(pair_dim, outputs) if pair_dim else None

    def forward(self, image: Tensor, pair: Tensor | None) -> Tensor:
        """image (B, W), pair (B, B, P) or None -> (B B, outputs), row i B + j for the pair (i, j)."""
        both = self.anchor(image)[:, None] + self.other(image)                     # (B, B, outputs)
        return (both if pair is None else both + self.pair(pair)).flatten(0, 1)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts at zero: a policy over a grid is then uniform."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def sharpness_weights(logit: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the pairs of a row, times their number: mean one; zero where there is no pair, (..., B, B)."""
    return masked_softmax(logit, mask) * mask.sum(-1, keepdim=True)
