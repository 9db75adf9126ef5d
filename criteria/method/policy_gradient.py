"""The policy gradient of the pair weights, in the order of its formula, and how the policy is trained by it.

    grad E_a[r(a)] = E_a[(r(a) - b) grad log pi(a)]    for any b that does not depend on a  (Williams 1992)

A reward that does not depend on the action therefore has gradient zero on average, whatever it measures.
"""
from dataclasses import dataclass

from torch import Tensor

from utilities.errors import UsageError
from utilities.registry import known_name

BASELINES = ("leave_one_out", "none")
ACTS = ("sample", "expected", "greedy")


@dataclass(frozen=True)
class PolicyTraining:
    """How the policy is trained, and what the network trains with meanwhile.

    samples: K, actions drawn for each decider. baseline: 'leave_one_out' or 'none'.
    mix: share of the batch's mean reward in an anchor's. entropy_bonus: coefficient of the entropy.
    act: which action the network trains with: the policy's mean weight ('expected'), one 'sample', or the most likely
        ('greedy'). The reward scores all K actions without touching the network, whatever it trains with.
    """

    samples: int = 8
    baseline: str = "leave_one_out"
    mix: float = 0.0
    entropy_bonus: float = 0.02
    act: str = "sample"

    def __post_init__(self) -> None:
        known_name(self.baseline, BASELINES, "baseline", "--policy_baseline")
        known_name(self.act, ACTS, "way to act", "--policy_act")
        if self.samples < 1:
            raise UsageError(f"--policy_samples {self.samples}: pass at least one.")

    def terms(self, log_prob: Tensor, entropy: Tensor, reward: Tensor) -> dict[str, Tensor]:
        """What trains the policy: log pi (K, N) of its actions, its entropies (2,), rewards (K, B) -> loss terms."""
        credited = credit(reward, log_prob.shape[1], self.mix)  # (K, N)
        loss = score_function_loss(log_prob, advantage(credited, self.baseline))
        return {"policy": loss, "entropy": -self.entropy_bonus * entropy.sum()}


def credit(reward: Tensor, deciders: int, mix: float) -> Tensor:
    """Rewards of K actions and B images as rewards of N deciders, (K, B) -> (K, N).

    One decider gets the batch's mean; an anchor gets (1 - mix) times its own plus mix times the batch's mean.
    """
    mean = reward.mean(-1, keepdim=True)  # (K, 1)
    if deciders == 1:
        return mean
    return (1 - mix) * reward + mix * mean


def leave_one_out(reward: Tensor) -> Tensor:
    """Reward minus the mean reward of the other K - 1 actions, (K, N): unbiased, since that mean is independent."""
    number = len(reward)
    return (reward - reward.mean(0)) * (number / (number - 1))


def standardise(advantage: Tensor, floor: float = 0.01) -> Tensor:
    """Advantage divided by its spread over all K x N entries, so that the step does not depend on the AP's scale.

    A spread below `floor` (AP) counts as the floor: where every action does equally well, as on the first batches and
    on solved ones, the differences are noise, and dividing by their spread would have the policy learn it.
    """
    spread = advantage.square().mean().sqrt()
    return advantage / spread.clamp(min=floor)


def advantage(reward: Tensor, baseline: str) -> Tensor:
    """Rewards (K, N) against the baseline 'leave_one_out', standardised; with 'none' as they are."""
    if baseline == "none":
        return reward
    return standardise(leave_one_out(reward))


def score_function_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """-mean(advantage log pi): its gradient is minus the policy gradient. log_prob, advantage (K, N) -> scalar."""
    return -(advantage.detach() * log_prob).mean()
