"""What a policy is worth, in numbers: read at logging steps and on held-out classes, never trained on."""
import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from architectures.network import Network
from batchminer.base import Miner, Triplets
from criteria.base import PairWeights
from criteria.method.decision import Actions, Decision
from criteria.method.lm_metric import LMMetric, Related
from criteria.method.pairs import Pairs, pairs_of
from criteria.method.policy_gradient import credit, leave_one_out
from criteria.method.rewards import Lookahead, batch_ap
from utilities.device import autocast


@torch.no_grad()
def policy_record(method: LMMetric, related: Related, label: Tensor, triplets: Triplets | None) -> dict:
    """The policy on one batch, as plain numbers.

    Reward, spread of the advantage, advantage over uniform weights, entropies (nats), mean action probabilities, mean
    actions and `weight_correlation`. Synchronises with the host; draws from a copy of the policy's stream, so that
    training does not notice.
    """
    pairs = pairs_of(related.z, label)
    with unchanged_streams(method):
        decision, actions = draw(method, related, pairs)
    weights = method.policy.weights(method.policy.values(actions), pairs)
    reward = method.reward(method.base, related.z, label, triplets, weights, pairs)  # (K, B)
    credited = credit(reward, len(decision.positive), method.policy_training.mix)  # (K, N)
    record = {
        "reward": reward.mean().item(),
        "advantage_spread": leave_one_out(credited).std().item(),
        "advantage_over_uniform": advantage_over_uniform(method, related, label, triplets, weights, pairs).item(),
    }
    entropy = decision.entropy()  # (2,)
    probability = decision.probability()  # (G,) each
    expected = [(p * grid).sum() for p, grid in zip(probability, method.policy.grids)]
    record |= {
        "entropy_positive": entropy[0].item(),
        "entropy_negative": entropy[1].item(),
        "expected_positive": expected[0].item(),
        "expected_negative": expected[1].item(),
    }
    record |= weight_correlation(weights, related.z, pairs)
    return record | {
        "probability_positive": probability[0].tolist(),
        "probability_negative": probability[1].tolist(),
    }


def advantage_over_uniform(method: LMMetric, related: Related, label: Tensor, triplets: Triplets | None,
                           weights: PairWeights, pairs: Pairs) -> Tensor:
    """Mean AP after the virtual step under K weights, minus that under uniform weights; a scalar.

    The step is that of the reward, or the default one where the reward takes none.
    """
    score = method.reward if isinstance(method.reward, Lookahead) else Lookahead()
    one = related.z.new_ones(1, len(label), 1)
    learned = score(method.base, related.z, label, triplets, weights, pairs).mean()
    uniform = score(method.base, related.z, label, triplets, PairWeights(one, one), pairs).mean()
    return learned - uniform


def weight_correlation(weights: PairWeights, z: Tensor, pairs: Pairs) -> dict[str, float | None]:
    """How an image's AP goes with the largest weight that any of its pairs of a sign has, the mean over K actions.

    Pearson's correlation over the images of a batch: below zero where the policy concentrates on what is retrieved
    badly. weights (K, B, 1 or B), z (B, D). Images without a pair of the sign, or without an AP, are left out; None
    where either number is the same for all.
    """
    ap = batch_ap(z, pairs.positive)  # (B,)
    has_ap = pairs.positive.any(-1)
    correlations = {}
    for name, weight, mask in zip(("positive", "negative"), weights, (pairs.positive, pairs.negative)):
        counted = mask.any(-1) & has_ap  # (B,)
        largest = weight.amax(-1).mean(0).expand_as(ap)  # (B,)
        correlations[f"correlation_{name}"] = correlation(largest[counted], ap[counted])
    return correlations


def correlation(x: Tensor, y: Tensor) -> float | None:
    """Pearson's correlation of two rows (N,); None where one does not vary beyond its rounding."""
    if len(x) < 2 or any(row.std() <= 1e-6 * row.abs().max() for row in (x, y)):
        return None
    return torch.corrcoef(torch.stack([x, y]))[0, 1].item()


@torch.no_grad()
def held_out_advantage(method: LMMetric, network: Network, miner: Miner | None, batches: Iterable,
                       device: torch.device, amp: str = "none") -> dict:
    """`advantage_over_uniform` over batches of classes that were not trained on: mean, standard error, count.

    amp: precision of the backbone, as `--amp`. Draws from copies of the method's streams; leaves network and method in
    evaluation mode.
    """
    values = []
    for related, label, _ in related_batches(method, network, batches, device, amp):
        triplets = miner(related.z, label) if miner else None
        pairs = pairs_of(related.z, label)
        _, actions = draw(method, related, pairs)
        weights = method.policy.weights(method.policy.values(actions), pairs)
        values.append(advantage_over_uniform(method, related, label, triplets, weights, pairs))
    values = torch.stack(values)
    number = len(values)
    error = (values.std() / number ** 0.5).item() if number > 1 else None
    return {"mean": values.mean().item(), "standard_error": error, "batches": number}


@torch.no_grad()
def related_batches(method: LMMetric, network: Network, batches: Iterable,
                    device: torch.device, amp: str) -> Iterator[tuple[Related, Tensor, Tensor]]:
    """Each batch after the relation, with its labels and indices (B,), without a trace in the random streams.

    Leaves network and method in evaluation mode.
    """
    network.eval()
    method.eval()
    with unchanged_streams(method):
        for batch in batches:
            with autocast(device, amp):
                features = network(batch.image.to(device))
            related = method.relate(network, features)
            yield related, batch.label.to(device), batch.index.to(device)


@contextlib.contextmanager
def unchanged_streams(method: LMMetric) -> Iterator[None]:
    """Inside, relation and policy draw from copies of their streams."""
    streams = [part.stream for part in (method.relation, method.policy) if part is not None]
    before = [stream.state_dict() for stream in streams]
    try:
        yield
    finally:
        for stream, state in zip(streams, before):
            stream.load_state_dict(state)


def draw(method: LMMetric, related: Related, pairs: Pairs) -> tuple[Decision, Actions]:
    """The policy's decision on a batch, and K actions drawn from it, two or more."""
    decision = method.policy(related.state, pairs)
    return decision, decision.draw(max(method.policy_training.samples, 2), method.policy.stream)
