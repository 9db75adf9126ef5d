"""LM-Metric: a base criterion whose pair weights are learned, on embeddings that carry the batch's context."""
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from architectures.network import Features
from batchminer.base import Triplets
from criteria.base import Criterion, PairWeights
from criteria.method.class_proxies import ClassProxies
from criteria.method.contract import EmbeddingNetwork
from criteria.method.decision import Actions, Decision
from criteria.method.memory_target import MemoryTarget
from criteria.method.pairs import Pairs, pairs_of
from criteria.method.policy import Policy
from criteria.method.policy_gradient import PolicyTraining
from criteria.method.relation import Relation
from criteria.method.rewards import Lookahead, Reward
from criteria.method.second_loss import SecondLoss
from criteria.method.weighting import Factor
from criteria.method.xbm import CrossBatchMemory
from utilities.errors import UsageError
from utilities.groups import group
from utilities.pairwise import unit
from utilities.registry import known_name

LossTerms = dict[str, Tensor]
Values = tuple[Tensor, Tensor]

PAIR_WEIGHTINGS = ("learned", "uniform", "random", "constant", "shuffled")
DUALS = ("decoded", "embedding", "none")


class Related(NamedTuple):
    """A batch after the relation: u = unit(e + c) as z, e, logits of c, (B, D) each, and states (B, H).

    Without a relation there are no logits and no states.
    """

    z: Tensor
    embedding: Tensor
    context_logit: Tensor | None
    state: Tensor | None


class LMMetric(nn.Module):
    """L(u; w) + L(v; w) + memory_weight NLL(context | e) + policy term (docs/method.md).

    u = unit(e + c) with the batch's context c, v = unit(e + c_hat) with the context that the memory decodes from e
    alone; w are the pair weights of the action, or of the policy's expectation, by the similarities of u and of v.

    pair_weighting: 'learned' (policy gradient), 'uniform' (no weights), and the controls 'random' (actions drawn
        uniformly), 'constant' (the action `constant`), 'shuffled' (learned, then permuted over the anchors).
    reward: the reward of an action; training: how the policy is trained by it.
    memory_dual: the embedding v of the second loss: 'decoded', 'embedding' (unit(e)) or 'none'.
    second_loss: the loss of v; None: that of u, on the same triplets.
    xbm: a cross-batch memory, which adds a term over pairs of u with past batches.
    proxies: of the training classes, which add a term over pairs of u with them; the policy does not see it.
    context_norm: what the relation's logits go through, such as a standardisation over the batch.
    context_loss: a loss of unit(c) alone.
    memory_target: what the memory learns to decode; None: the logits of c.
    """

    def __init__(self, base: Criterion, relation: Relation | None = None, policy: Policy | None = None, *,
                 pair_weighting: str = "uniform", constant: tuple[float, float] | None = None,
                 reward: Reward | None = None, training: PolicyTraining | None = None, memory_weight: float = 1.0,
                 memory_dual: str = "decoded", second_loss: SecondLoss | None = None,
                 xbm: CrossBatchMemory | None = None, proxies: ClassProxies | None = None,
                 context_norm: nn.Module | None = None, context_loss: SecondLoss | None = None,
                 memory_target: MemoryTarget | None = None):
        super().__init__()
        self.base = base
        self.relation = relation
        self.policy = policy
        self.pair_weighting = pair_weighting
        self.constant = constant
        self.reward = reward or Lookahead()
        self.policy_training = training or PolicyTraining()
        self.memory_weight = memory_weight
        self.memory_dual = memory_dual
        self.second_loss = second_loss
        self.xbm = xbm
        self.proxies = proxies
        self.context_norm = context_norm
        self.context_loss = context_loss
        self.memory_target = memory_target
        self.learns = pair_weighting in ("learned", "shuffled")
        known_name(pair_weighting, PAIR_WEIGHTINGS, "pair weighting", "--pair_weighting")
        known_name(memory_dual, DUALS, "second embedding", "--memory_dual")
        if policy is None and pair_weighting != "uniform":
            raise UsageError(f"--pair_weighting {pair_weighting} needs a policy.")
        if policy is not None:
            self.refuse_what_cannot_work()

    def refuse_what_cannot_work(self) -> None:
        """A UsageError for a policy that the criterion, or the control, cannot use."""
        name = type(self.base).__name__
        if self.base.accepts_weight == "none":
            raise UsageError(f"{name} takes no pair weights: pass --pair_weighting uniform.")
        if self.base.accepts_weight == "anchor" and not isinstance(self.policy.weighting, Factor):
            raise UsageError(f"{name} takes one weight an image here, not one a pair: pass --policy_action weight "
                             "--policy_granularity anchor.")
        if self.pair_weighting == "shuffled" and self.policy.granularity != "anchor":
            raise UsageError("--pair_weighting shuffled permutes the weights over the anchors, which needs "
                             "--policy_granularity anchor.")
        if self.pair_weighting == "constant" and self.constant is None:
            raise UsageError("--pair_weighting constant needs the values of its action: pass --policy_constant.")
        if self.learns and self.relation is None and self.policy.input != "statistics":
            raise UsageError("--policy_input state needs a relation: pass --policy_input statistics.")
        training = self.policy_training
        if self.learns and training.samples < 2 and training.baseline == "leave_one_out":
            raise UsageError("--policy_baseline leave_one_out needs at least --policy_samples 2.")

    def param_groups(self, lr: float | None = None, *, relation_lr: float | None = None,
                     policy_lr: float = 1e-2) -> list[dict]:
        """Named groups for an optimizer, at rates of their own, else at `lr` (None: the optimizer's).

        Criteria, proxies and policy do not decay.
        """
        criteria = self.base.param_groups(lr)
        for second in (self.second_loss, self.context_loss):
            if second is not None:
                criteria += second.criterion.param_groups(lr)
        groups = []
        for i, own in enumerate(criteria):
            name = f"criterion_{i + 1}" if i else "criterion"
            groups.append({"name": name} | own)
        if self.proxies is not None:
            groups += [{"name": "proxies"} | own for own in self.proxies.param_groups()]
        if self.relation is not None:
            rate = lr if relation_lr is None else relation_lr
            groups.append(group("relation", self.relation.parameters(), rate))
        if self.learns:
            groups.append(group("policy", self.policy.parameters(), policy_lr, decays=False))
        return groups

    # rounded to 8 bits, similarities tie and sharp weights of them are noise
    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def relate(self, network: EmbeddingNetwork, features: Features) -> Related:
        """The batch's context, and the embedding combined with it."""
        e = features.embedding  # (B, D)
        if self.relation is None:
            return Related(network.combine(e, None), e, None, None)
        logit, state = self.relation(features.feature, network.projection)
        if self.context_norm is not None:
            logit = self.context_norm(logit)
        return Related(network.combine(e, logit.sigmoid()), e, logit, state)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def forward(self, network: EmbeddingNetwork, features: Features, related: Related, label: Tensor,
                index: Tensor | None = None, triplets: Triplets | None = None) -> LossTerms:
        """The named terms of the loss, and their sum as `total`; index (B,) is needed by a cross-batch memory alone."""
        u = related.z
        v = self.test_time_embedding(network, features)
        pairs = pairs_of(u, label) if self.policy else None
        decision, actions = self.decide(related.state, pairs)
        choice = self.training_action(decision, actions, label)
        terms = {"metric": self.base(u, label, triplets, self.pair_weights(choice, pairs))}
        if v is not None:
            second = self.second_loss or self.base
            terms["metric_memory"] = second(v, label, triplets=triplets, weight=self.pair_weights(choice, pairs, v))
        if self.xbm is not None:
            terms["metric_xbm"] = self.xbm(self.base, u, label, index, partial(self.reference_weights, choice))
        if self.proxies is not None:
            terms["metric_proxies"] = self.proxies(u, label)
        if self.context_loss is not None:
            terms["metric_context"] = self.context_loss(unit(related.context_logit.sigmoid()), label)
        if network.memory is not None:
            target = self.memory_logit(related, label, index)  # (B, D)
            terms["memory_nll"] = self.memory_weight * network.memory.nll(target, features.embedding).mean()
        if self.learns:
            weights = self.policy.weights(self.policy.values(actions), pairs)  # (K, B, 1 or B) each
            reward = self.reward(self.base, u, label, triplets, weights, pairs)  # (K, B)
            terms |= self.policy_training.terms(decision.log_prob(actions), decision.entropy(), reward)
        return terms | {"total": torch.stack(list(terms.values())).sum()}

    def decide(self, state: Tensor | None, pairs: Pairs | None) -> tuple[Decision | None, Actions | None]:
        """The policy's decision and K actions drawn from it; None and None where no policy learns."""
        if not self.learns:
            return None, None
        decision = self.policy(state, pairs)
        return decision, decision.draw(self.policy_training.samples, self.policy.stream)

    def training_action(self, decision: Decision | None, actions: Actions | None,
                        label: Tensor) -> Values | Decision | None:
        """What the network trains with: values of one action (1, N) each, a whole distribution, or None (uniform)."""
        act = self.policy_training.act
        if self.pair_weighting == "uniform":
            return None
        if self.pair_weighting == "constant":
            return tuple(self.policy.grid_positive.new_full((1, 1), value) for value in self.constant)
        if self.pair_weighting == "random":
            uniform = self.policy.uniform_decision(len(label))
            return self.policy.values(uniform.draw(1, self.policy.stream))
        if self.pair_weighting == "shuffled":
            decision, actions = self.shuffled(decision, actions)
        if act == "expected":
            return decision
        if act == "greedy":
            actions = decision.mode()
        positive, negative = self.policy.values(actions)
        return positive[:1], negative[:1]

    def shuffled(self, decision: Decision, actions: Actions) -> tuple[Decision, Actions]:
        """The same decisions and actions at other anchors."""
        device = decision.positive.device
        number = len(decision.positive)
        order = torch.randperm(number, generator=self.policy.stream.on(device), device=device)
        return decision.permuted(order), Actions(actions.positive[:, order], actions.negative[:, order])

    def pair_weights(self, choice: Values | Decision | None, pairs: Pairs | None,
                     z: Tensor | None = None) -> PairWeights | None:
        """The weights of the pairs under what `training_action` chose, (A, 1 or N) each; None: unweighted.

        With z (B, D), by the similarities of these embeddings of the same images.
        """
        if choice is None:
            return None
        if z is not None:
            pairs = pairs.with_rows(z)
        weights = self.policy.mean_weights if isinstance(choice, Decision) else self.policy.weights
        positive, negative = weights(choice, pairs)  # (1, A, 1 or N) each
        return PairWeights(positive[0], negative[0])

    def reference_weights(self, choice: Values | Decision | None, rows: Tensor, label: Tensor,
                          anchors: int) -> PairWeights | None:
        """`pair_weights` of a batch of `anchors` rows that is followed by reference rows."""
        return None if choice is None else self.pair_weights(choice, pairs_of(rows, label, anchors))

    def test_time_embedding(self, network: EmbeddingNetwork, features: Features) -> Tensor | None:
        """v: the embedding as it will be at test time, or None where there is no second loss."""
        if self.memory_dual == "none" or self.relation is None:
            return None
        context = None
        if self.memory_dual == "decoded" and network.memory is not None:
            context = network.memory.training_context(features.embedding)
        return network.combine(features.embedding, context)  # (B, D)

    def memory_logit(self, related: Related, label: Tensor, index: Tensor | None) -> Tensor:
        """The logits that the memory learns to decode, (B, D)."""
        if self.memory_target is None:
            return related.context_logit
        return self.memory_target(related.z, label, index)
