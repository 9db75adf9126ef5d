"""What a policy is worth, in numbers: read at logging steps and on held-out classes, never trained on."""
import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from architectures.network import Network
from batchminer.base import Miner, Triplets
from criteria.base import PairWeights
from criteria.decisions import Actions, Decision
from criteria.lm_metric import LMMetric, Related
from criteria.policy_gradient import assign, batch_ap, leave_one_out, lookahead
from utilities.pairwise import negative_mask, positive_mask


@torch.no_grad()
def policy_record(method: LMMetric, related: Related, label: Tensor, triplets: Triplets | None) -> dict:
    """Reward, spread of the advantage, advantage over uniform weights, entropies (nats), mean action probabilities and
    `weight_correlation` of the policy on one batch, as plain numbers. Synchronises with the host; draws from a copy of
    the policy's stream, so that training does not notice.
    """
    with _undisturbed(method):
        decision, actions, weights = _drawn(method, related, label)
    reward = method.rewards(actions, related.z, label, triplets)                   # (K, B)
    entropy, probability = decision.mean_entropy(), decision.probability()         # (2,), (A,) each
    expected = [(p * grid).sum() for p, grid in zip(probability, _grids(method))]
    return {"reward": reward.mean().item(),
            "advantage_spread": leave_one_out(assign(reward, len(decision.positive), method.mix)).std().item(),
            "advantage_over_uniform": advantage_over_uniform(method, related, label, triplets, weights).item(),
            "entropy_positive": entropy[0].item(), "entropy_negative": entropy[1].item(),
            "expected_positive": expected[0].item(), "expected_negative": expected[1].item(),
            **weight_correlation(weights, related.z, label),
            "probability_positive": probability[0].tolist(), "probability_negative": probability[1].tolist(),
            } | ({"episode_reward": method.episodes.past.get("reward")} if method.episodes else {})


def advantage_over_uniform(method: LMMetric, related: Related, label: Tensor, triplets: Triplets | None,
                           weights: PairWeights) -> Tensor:
    """Mean AP after the virtual step under K weights, minus that under uniform weights; a scalar."""
    one = related.z.new_ones(1, len(label), 1)
    ours, uniform = (lookahead(method.base, related.z, label, triplets, w, method.step).mean()
                     for w in (weights, PairWeights(one, one)))
    return ours - uniform


def weight_correlation(weights: PairWeights, z: Tensor, label: Tensor) -> dict[str, float | None]:
    """Pearson's correlation, over the images of a batch, of an image's AP with the largest weight that any of its
    pairs of a sign has, the mean over K samples: below zero where the policy concentrates on what is retrieved badly.

    weights (K, B, 1 or B), z (B, D), label (B,). Images without a pair of the sign, or without an AP, are left out;
    None where either number is the same for all.
    """
    ap, positive = batch_ap(z, label), positive_mask(label)
    found = {}
    for sign, weight, mask in zip(("positive", "negative"), weights, (positive, negative_mask(label))):
        there = mask.any(-1) & positive.any(-1)
        largest = weight.amax(-1).mean(0).expand_as(ap)                            # (B,)
        found[f"correlation_{sign}"] = _correlation(largest[there], ap[there])
    return found


def _correlation(x: Tensor, y: Tensor) -> float | None:
    """Pearson's correlation of two rows (N,); None where one does not vary beyond its rounding."""
    if len(x) < 2 or any(row.std() <= 1e-6 * row.abs().max() for row in (x, y)):
        return None
    return torch.corrcoef(torch.stack([x, y]))[0, 1].item()


@torch.no_grad()
def held_out_advantage(method: LMMetric, network: Network, miner: Miner | None, batches: Iterable,
                       device: torch.device) -> dict:
    """`advantage_over_uniform` over batches of classes that were not trained on: mean, standard error, count. Draws
    from copies of the method's streams; leaves network and method in evaluation mode."""
    network.eval()
    method.eval()
    values = []
    with _undisturbed(method):
        for batch in batches:
            related = method.relate(network, network(batch.image.to(device)))
            label = batch.label.to(device)
            triplets = miner(related.z, label) if miner else None
            weights = _drawn(method, related, label)[-1]
            values.append(advantage_over_uniform(method, related, label, triplets, weights))
    values = torch.stack(values)
    error = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else None
    return {"mean": values.mean().item(), "standard_error": error, "batches": len(values)}


@contextlib.contextmanager
def _undisturbed(method: LMMetric) -> Iterator[None]:
    """Inside, relation and policy draw from copies of their streams."""
    streams = [part.stream for part in (method.relation, method.weighting) if part is not None]
    before = [stream.state_dict() for stream in streams]
    try:
        yield
    finally:
        for stream, state in zip(streams, before):
            stream.load_state_dict(state)


def _drawn(method: LMMetric, related: Related, label: Tensor) -> tuple[Decision, Actions, PairWeights]:
    """The policy's decision on a batch, K actions drawn from it, and their weights."""
    decision = method.weighting(related.state, related.z, label)
    actions = method.weighting.sample(decision, max(method.samples, 2))
    return decision, actions, method.weighting.weights(actions, related.z, label)


def _grids(method: LMMetric) -> tuple[Tensor, Tensor]:
    return method.weighting.grid_positive, method.weighting.grid_negative
