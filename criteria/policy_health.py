"""What a policy is worth, in numbers: read at logging steps and on held-out classes, never trained on."""
from collections.abc import Iterable

import torch
from torch import Tensor

from architectures.network import Network
from batchminer.base import Miner, Triplets
from criteria.base import PairWeights
from criteria.lm_metric import LMMetric, Related
from criteria.policy_gradient import assign, leave_one_out, lookahead


@torch.no_grad()
def policy_record(method: LMMetric, related: Related, label: Tensor, triplets: Triplets | None) -> dict:
    """Reward, spread of the advantage, advantage over uniform weights, entropies (nats) and mean action
    probabilities of the policy on one batch, as plain numbers. Synchronises with the host; draws from a copy of the
    policy's stream, so that training does not notice.
    """
    stream = method.weighting.stream.state_dict()
    decision = method.weighting(related.state, related.z, label)
    actions = method.weighting.sample(decision, max(method.samples, 2))
    method.weighting.stream.load_state_dict(stream)
    reward = method.rewards(actions, related.z, label, triplets)                   # (K, B)
    entropy, probability = decision.mean_entropy(), decision.probability()         # (2,), (A,) each
    expected = [(p * grid).sum() for p, grid in zip(probability, _grids(method))]
    return {"reward": reward.mean().item(),
            "advantage_spread": leave_one_out(assign(reward, len(decision.positive), method.mix)).std().item(),
            "advantage_over_uniform": advantage_over_uniform(method, related, label, triplets, actions).item(),
            "entropy_positive": entropy[0].item(), "entropy_negative": entropy[1].item(),
            "expected_positive": expected[0].item(), "expected_negative": expected[1].item(),
            "probability_positive": probability[0].tolist(), "probability_negative": probability[1].tolist(),
            } | ({"episode_reward": method.episodes.past.get("reward")} if method.episodes else {})


def advantage_over_uniform(method: LMMetric, related: Related, label: Tensor, triplets: Triplets | None, actions
                           ) -> Tensor:
    """Mean AP after the virtual step under the policy's actions, minus that under uniform weights; a scalar."""
    weights = method.weighting.weights(actions, related.z, label)
    one = related.z.new_ones(1, len(label), 1)
    ours, uniform = (lookahead(method.base, related.z, label, triplets, w, method.step).mean()
                     for w in (weights, PairWeights(one, one)))
    return ours - uniform


@torch.no_grad()
def held_out_advantage(method: LMMetric, network: Network, miner: Miner | None, batches: Iterable,
                       device: torch.device) -> dict:
    """`advantage_over_uniform` over batches of classes that were not trained on: mean, standard error, count."""
    network.eval()
    method.eval()
    values = []
    for batch in batches:
        related = method.relate(network, network(batch.image.to(device)))
        label = batch.label.to(device)
        triplets = miner(related.z, label) if miner else None
        decision = method.weighting(related.state, related.z, label)
        actions = method.weighting.sample(decision, max(method.samples, 2))
        values.append(advantage_over_uniform(method, related, label, triplets, actions))
    values = torch.stack(values)
    error = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else None
    return {"mean": values.mean().item(), "standard_error": error, "batches": len(values)}


def _grids(method: LMMetric) -> tuple[Tensor, Tensor]:
    return method.weighting.grid_positive, method.weighting.grid_negative
