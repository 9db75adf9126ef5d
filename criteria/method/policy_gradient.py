"""The policy gradient of the pair weights, in the order of its formula; nothing else.

    grad E_a[r(a)] = E_a[(r(a) - b) grad log pi(a)]    for any b that does not depend on a  (Williams 1992)

A reward that does not depend on the action therefore has gradient zero on average, whatever it measures.
"""
from torch import Tensor


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
