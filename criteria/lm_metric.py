"""LM-Metric: a base criterion whose pair weights are learned, on embeddings that carry the batch's context."""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from architectures.network import Features, Network
from batchminer.base import Triplets
from criteria.base import Criterion, PairWeights
from criteria.class_proxies import ClassProxies
from criteria.decisions import Actions, Decision
from criteria.pair_weighting import BatchRelation, PairWeighting
from criteria.policy_gradient import assign, batch_ap, leave_one_out, lookahead, score_function_loss, standardise
from criteria.validation_reward import Episodes
from criteria.xbm import CrossBatchMemory
from utilities.errors import UsageError

LossTerms = dict[str, Tensor]
Values = tuple[Tensor, Tensor]


class Related(NamedTuple):
    """A batch after the relation: combined embedding z (B, D), context logits (B, D) and states (B, H), or None."""

    z: Tensor
    context: Tensor | None
    state: Tensor | None


class LMMetric(nn.Module):
    """L(u; w) + L(v; w) + memory_weight NLL(context | e) + policy term (docs/method.md).

    u = unit(e + c) with the batch's context c, v = unit(e + c_hat) with the context that the memory decodes from e
    alone; w are the pair weights of one action, computed on u and on v by their own similarities.

    pair_weighting: 'learned' (policy gradient), 'uniform' (no weights), and the controls 'random' (actions drawn
    uniformly), 'constant' (the action `constant`), 'shuffled' (learned, then permuted over the anchors).
    reward: 'lookahead' (AP after a virtual step under the sampled weights), 'batch_ap' (published) or 'validation'
    (change of MAP@R on held-out classes over `episode` steps with one action; whoever trains calls `adapt`).
    act: which action the network trains with: one 'sample', the 'expected' weight, or the 'greedy' action.
    samples: K actions a batch; baseline 'leave_one_out' or 'none'; entropy_bonus in nats; mix: see `assign`.
    memory_dual: where the second loss stands: 'decoded', 'embedding' (unit(e)) or 'none'.
    xbm: a cross-batch memory, which adds a term over pairs of u with past batches.
    proxies: of the training classes, which add a term over pairs of u with them; the policy does not see it.
    """

    def __init__(self, base: Criterion, relation: BatchRelation | None = None, weighting: PairWeighting | None = None,
                 *, pair_weighting: str = "uniform", constant: tuple[float, float] | None = None,
                 reward: str = "lookahead", samples: int = 8, step: float = 0.2, baseline: str = "leave_one_out",
                 entropy_bonus: float = 0.02, mix: float = 0.0, act: str = "sample", memory_weight: float = 1.0,
                 memory_dual: str = "decoded", xbm: CrossBatchMemory | None = None, episode: int = 20,
                 proxies: ClassProxies | None = None):
        super().__init__()
        self.base, self.relation, self.weighting = base, relation, weighting
        self.pair_weighting, self.constant, self.reward, self.samples = pair_weighting, constant, reward, samples
        self.step, self.baseline, self.entropy_bonus, self.mix, self.act = step, baseline, entropy_bonus, mix, act
        self.memory_weight, self.memory_dual, self.xbm, self.proxies = memory_weight, memory_dual, xbm, proxies
        self.learns = pair_weighting in ("learned", "shuffled")
        self.episodes = Episodes(episode) if self.learns and reward == "validation" else None
        self._refuse_what_cannot_work()

    def _refuse_what_cannot_work(self) -> None:
        name, weighting = type(self.base).__name__, self.weighting
        if weighting is None:
            return
        if self.base.accepts_weight == "none":
            raise UsageError(f"{name} takes no pair weights: pass --pair_weighting uniform.")
        if self.base.accepts_weight == "anchor" and (weighting.action != "weight" or weighting.granularity == "pair"):
            raise UsageError(f"{name} has no pairs of images to weight, only images: pass --policy_action weight "
                             "--policy_granularity anchor.")
        if self.pair_weighting == "shuffled" and weighting.granularity != "anchor":
            raise UsageError("--pair_weighting shuffled permutes the weights over the anchors, which needs "
                             "--policy_granularity anchor.")
        if self.episodes and (weighting.granularity != "batch" or self.pair_weighting != "learned"):
            raise UsageError("--policy_reward validation is one number for one action: pass --policy_granularity batch "
                             "--pair_weighting learned.")
        if self.act == "expected" and weighting.action == "continuous":
            raise UsageError("--policy_act expected is a sum over a grid, which --policy_action continuous has not: "
                             "pass --policy_act greedy or sample.")
        if self.act == "expected" and (weighting.action, weighting.granularity) == ("sharpness", "pair"):
            raise UsageError("--policy_act expected is a sum over the actions of one decider, and with "
                             "--policy_granularity pair a weight depends on those of all pairs of its row: pass "
                             "--policy_act greedy or sample.")
        if self.learns and not self.episodes and self.samples < 2 and self.baseline == "leave_one_out":
            raise UsageError("--policy_baseline leave_one_out needs at least --policy_samples 2.")

    def relate(self, network: Network, features: Features) -> Related:
        """The batch's context, and the embedding combined with it."""
        if self.relation is None:
            return Related(network.combine(features.embedding, None), None, None)
        context, state = self.relation(features.feature, network.projection)
        return Related(network.combine(features.embedding, context.sigmoid()), context, state)

    def forward(self, network: Network, features: Features, related: Related, label: Tensor, index: Tensor,
                triplets: Triplets | None) -> LossTerms:
        """The named terms of the loss, for labels and image indices (B,); `total` is what to differentiate."""
        lesson = self.episodes.close() if self.episodes else None
        decision, actions = self.decide(related, label)
        play = self.play(actions, decision, label)
        terms = {"metric": self.base(related.z, label, triplets, self.weight(play, related.z, label))}
        second = self.second_view(network, features)
        if second is not None:
            terms["metric_memory"] = self.base(second, label, triplets, self.weight(play, second, label))
        if self.xbm is not None:
            terms["metric_xbm"] = self.xbm(self.base, related.z, label, index,
                                           lambda rows, labels, anchors: self.weight(play, rows, labels, anchors))
        if self.proxies is not None:
            terms["metric_proxies"] = self.proxies(related.z, label)
        if network.memory is not None:
            terms["memory_nll"] = self.memory_weight * network.memory.nll(related.context, features.embedding).mean()
        if self.episodes:
            terms |= self.terms_of_episode(lesson, related.z)
        elif self.learns:
            reward = self.rewards(actions, related.z, label, triplets)             # (K, B)
            terms |= self.policy_terms(decision, actions, self.advantage(reward, decision))
        return terms | {"total": torch.stack(list(terms.values())).sum()}

    def decide(self, related: Related, label: Tensor) -> tuple[Decision | None, Actions | None]:
        """The policy's decision and K actions drawn from it; in an episode only its action; None and None without."""
        if not self.learns:
            return None, None
        if self.episodes is None:
            decision = self.weighting(related.state, related.z, label)
            return decision, self.weighting.sample(decision, self.samples)
        if self.episodes.over:
            seen = self.weighting.look(related.state, related.z, label)            # (1, W)
            self.episodes.begin(seen, self.weighting.sample(self.weighting.judge(seen), 1))
        return None, self.episodes.action

    def policy_terms(self, decision: Decision, actions: Actions, advantage: Tensor) -> LossTerms:
        """What trains the policy: actions and advantage (K, N)."""
        return {"policy": score_function_loss(decision.log_prob(actions), advantage),
                "entropy": -self.entropy_bonus * decision.mean_entropy().sum()}

    def terms_of_episode(self, lesson: tuple[Tensor, Actions, float] | None, z: Tensor) -> LossTerms:
        """`policy_terms` of the episode that is over, zero in all other steps."""
        if lesson is None:
            return dict.fromkeys(("policy", "entropy"), z.new_zeros(()))
        seen, action, advantage = lesson
        return self.policy_terms(self.weighting.judge(seen), action, z.new_full((1, 1), advantage))

    def second_view(self, network: Network, features: Features) -> Tensor | None:
        """v: the embedding as it will be at test time, or None where there is no second loss."""
        if self.memory_dual == "none" or self.relation is None:
            return None
        decoded = self.memory_dual == "decoded" and network.memory is not None
        context = network.memory.training_context(features.embedding) if decoded else None
        return network.combine(features.embedding, context)                        # (B, D)

    def play(self, actions: Actions | None, decision: Decision | None, label: Tensor) -> Values | Decision | None:
        """What the network trains with: action values (1, N), a whole distribution ('expected'), or None."""
        if self.pair_weighting == "uniform":
            return None
        if self.pair_weighting == "constant":
            return tuple(self.weighting.grid_positive.new_full((1, 1), value) for value in self.constant)
        if self.pair_weighting == "random":
            actions = self.weighting.random(1, self.weighting.deciders(len(label)))
        elif self.pair_weighting == "shuffled":
            order = torch.randperm(len(label), generator=self.weighting.stream.on(label.device), device=label.device)
            actions, decision = Actions(*(a[:, order] for a in actions)), decision.permuted(order)
        if decision is not None and self.act == "expected":
            return decision
        if decision is not None and self.act == "greedy":
            actions = decision.mode()
        return tuple(value[:1] for value in self.weighting.values(actions))

    def weight(self, play: Values | Decision | None, z: Tensor, label: Tensor, anchors: int | None = None
               ) -> PairWeights | None:
        """The pair weights of what is played, on the similarities of z, (A, 1 or N) each; None: unweighted."""
        if play is None:
            return None
        if isinstance(play, Decision):
            weights = self.weighting.expected_weights(play, z, label, anchors)
        else:
            weights = self.weighting.weights_of(*play, z, label, anchors)
        return PairWeights(*(w[0] for w in weights))

    def advantage(self, reward: Tensor, decision: Decision) -> Tensor:
        """Rewards (K, B) credited to the N deciders and set against the baseline, (K, N)."""
        credited = assign(reward, len(decision.positive), self.mix)
        return standardise(leave_one_out(credited)) if self.baseline == "leave_one_out" else credited

    def rewards(self, actions: Actions, z: Tensor, label: Tensor, triplets: Triplets | None) -> Tensor:
        """The reward of each of K actions for each image, (K, B)."""
        if self.reward == "batch_ap":
            return batch_ap(z.detach(), label).expand(len(actions.positive), -1)
        weights = self.weighting.weights(actions, z, label)
        return lookahead(self.base, z, label, triplets, weights, self.step)
