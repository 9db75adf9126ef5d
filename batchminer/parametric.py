"""Negatives from a distribution over distances that a policy adjusts to the validation metrics."""
import math

import torch
from torch import Tensor, nn

from batchminer.base import ClassBlocks, Miner, admissible, draw
from batchminer.distance import sphere_square
from utilities.errors import UsageError
from utilities.pairwise import negative_mask
from utilities.ranges import NonNegative, Positive, PositiveInt, Width
from utilities.registry import lookup
from utilities.seed import RandomStream, preserved_randomness

# first and last distance that is drawn at first
STARTS = {
    "uniform": (0.0, math.inf),
    "semihards": (0.3, 0.7),
    "hards": (0.0, 0.5),
    "veryhards": (0.0, 0.3),
}
# log-mass of the bins that are not drawn at first
START_FLOOR = math.log(1e-15)
# log-mass beyond which no bin falls or rises, as it is before the masses are made to sum to one
LIMIT = math.log(1e25)


class Parametric(Miner):
    """PADS, policy-adapted sampling (Roth, Milbich and Ommer, "PADS: Policy-Adapted Sampling for
    Visual Similarity Learning", CVPR 2020): the positive uniformly, the negative with probability

        P(n | a) ~ mass[bin(d_an)]      over the negatives of a, d of the normalised rows

    There are n_support - 1 equal bins of support_lim; distances outside belong to the end bins. At
    first the mass is uniform on the distances of `mode` ('semihards': 0.3 to 0.7) and 1e-15 of it
    elsewhere. As in the authors' code, a bin stands for the distance 2 / n_support beyond its lower
    edge. Every `every` steps a policy network multiplies each bin by alpha, 1 or beta, between
    1e-25 and 1e25. Its reward is the sign of the change in the mean of recall@1 and nmi.

    With self_regularise the negative is drawn from the whole batch, and the anchor may be its own
    positive, as in the authors' runs, which lost notably without it. Deviations: policy gradient
    with a moving baseline instead of PPO with a critic; lr 1e-3 instead of 1e-2, at which the
    policy settles before it has learned; a state without a list of past metrics.
    """

    mode: str = "semihards"
    n_support: Width = 30
    support_lim: tuple[NonNegative, ...] = (0.1, 1.4)
    self_regularise: bool = False
    alpha: Positive = 0.8
    beta: Positive = 1.25
    every: PositiveInt = 30
    lr: NonNegative = 1e-3

    adapts = True
    metrics = ("e_recall@1", "nmi", "dists@intra", "dists@inter")
    horizons = (2, 8, 16, 32)
    hidden = 128
    momentum = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = self.support_lim
        if self.n_support < 3 or len(limits) != 2 or not 0 <= limits[0] < limits[1]:
            raise UsageError(f"--miner_parametric_support_lim {limits} must be two rising "
                             f"distances, and --miner_parametric_n_support {self.n_support} at "
                             "least 3.")
        if self.self_regularise:
            self.negative_class = "any"
        low, high = lookup(STARTS, self.mode, "start", "--miner_parametric_mode")
        support = torch.linspace(*limits, self.n_support, dtype=torch.float64)  # (K + 1,)
        self.edges = support[1:-1].square()  # (K - 1,)
        distance = support[:-1] + 2 / self.n_support  # (K,)
        start = (distance >= low) & (distance <= high)  # (K,)
        mass = torch.zeros_like(distance).masked_fill(~start, START_FLOOR)  # (K,)
        self.log_mass = mass.log_softmax(0)  # (K,)
        factor = torch.tensor([self.alpha, 1, self.beta], dtype=torch.float64)
        self.log_factor = factor.log()  # (3,)
        self.choices = RandomStream(self.seed)
        inputs = len(self.horizons) * len(self.metrics) + len(start) + 1
        self.policy = self.new_policy(inputs, 3 * len(start))
        weights = self.policy.parameters()
        self.optimizer = torch.optim.Adam(weights, lr=self.lr)
        self.past = {
            "history": torch.zeros(0, len(self.metrics), dtype=torch.float64),
            "baseline": 0.0,
            "input": torch.zeros(inputs, dtype=torch.float64),
            "action": torch.zeros(len(start)).long(),
        }

    def new_policy(self, inputs: int, outputs: int) -> nn.Module:
        """The policy network, in float64."""
        with preserved_randomness():
            torch.manual_seed(self.seed)
            network = nn.Sequential(
                nn.Linear(inputs, self.hidden),
                nn.ReLU(),
                nn.Linear(self.hidden, self.hidden),
                nn.ReLU(),
                nn.Linear(self.hidden, outputs),
            )
        return network.double()

    def mine(self, x, label, generator, anchors):
        """x (N, D), label (N,) -> Triplets."""
        blocks = ClassBlocks(label, anchors)
        square = sphere_square(x, anchors)  # (A, N)
        place = torch.bucketize(square, self.edges.to(square))  # (A, N)
        logit = self.log_mass.to(square)[place]  # (A, N)
        if self.self_regularise:
            whole_batch = torch.ones_like(logit, dtype=torch.bool)  # (A, N)
            negative, found = draw(whole_batch, generator, logit)  # (A,) each
            return admissible(found, blocks.draw_member(generator), negative)
        negative, found = draw(negative_mask(label, anchors), generator, logit)  # (A,) each
        positive = blocks.draw_positive(generator)  # (A,)
        return admissible((blocks.positives > 0) & found, positive, negative)

    def adapt(self, metrics: dict | Tensor, progress: float = 0.0) -> None:
        """Learn from the last action, then take the next one; call it every `every` steps.

        metrics: validation metrics by the names of `self.metrics` (recall@1 and NMI, which are
        rewarded, and the mean distances within and between classes), or a tensor of them in that
        order. progress: share of the training done.
        """
        if isinstance(metrics, dict):
            metrics = [metrics[name] for name in self.metrics]
        now = torch.as_tensor(metrics).double().cpu()  # (M,)
        past = self.past
        history = past["history"]
        if len(history):
            last = history[-1]  # (M,)
            change = now[:2].mean() - last[:2].mean()
            self.learn(change.sign().item())
        history = torch.cat([history, now[None]])
        history = history[-max(self.horizons):]  # (<= 32, M)
        means = [history[-h:].mean(0) for h in self.horizons]  # (M,) each
        done = torch.tensor([progress]).double()
        past["history"] = history
        past["input"] = torch.cat([*means, self.log_mass.softmax(0), done])
        with torch.no_grad():
            chance = self.action_logits(past["input"]).exp()  # (K, 3)
        generator = self.choices.on(chance.device)
        action = chance.multinomial(1, generator=generator).squeeze(-1)  # (K,)
        past["action"] = action
        moved = self.log_mass + self.log_factor[action]  # (K,)
        self.log_mass = moved.clamp(-LIMIT, LIMIT)

    @torch.enable_grad()
    def learn(self, reward: float) -> None:
        """One step of the policy gradient for the last action.

            -(r - baseline) mean_k log pi(a_k | input)
        """
        past = self.past
        logits = self.action_logits(past["input"])  # (K, 3)
        chosen = logits.gather(1, past["action"][:, None])  # (K, 1)
        loss = (past["baseline"] - reward) * chosen.mean()
        past["baseline"] += self.momentum * (reward - past["baseline"])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def action_logits(self, state: Tensor) -> Tensor:
        """log pi(action | state) of every bin: to decrease, keep or increase its mass, (K, 3)."""
        logits = self.policy(state).unflatten(0, (-1, 3))  # (K, 3)
        return logits.log_softmax(-1)

    def state_dict(self) -> dict:
        """Random streams, distribution, policy, optimizer, and what the next `adapt` reads."""
        return {
            "draws": super().state_dict(),
            "choices": self.choices.state_dict(),
            "log_mass": self.log_mass,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "past": dict(self.past),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue drawing and learning where `state_dict` was taken."""
        super().load_state_dict(state["draws"])
        self.choices.load_state_dict(state["choices"])
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.log_mass = state["log_mass"].cpu()
        self.past = dict(state["past"])
