"""A loss with learned pair weights for any training loop."""
import torch
from torch import Tensor, nn

from architectures.network import Features
from batchminer.base import Quadruplets, Triplets
from criteria.base import Criterion
from criteria.method.contract import UnitRows
from criteria.method.health import policy_record
from criteria.method.lm_metric import LMMetric
from criteria.method.policy import Policy
from criteria.method.policy_gradient import PolicyTraining
from criteria.method.rewards import Reward
from criteria.method.weighting import Factor, Sharpness, Weighting
from recipes import BY_GRANULARITY
from utilities.errors import UsageError
from utilities.pairwise import at_least_float32, refuse_shapes
from utilities.registry import lookup


class LearnedWeights(nn.Module):
    """A loss whose pair weights a policy learns while the network trains (Yan et al., "LM-Metric:
    Learned Pair Weighting and Contextual Memory for Deep Metric Learning", 2023).

        loss = LearnedWeights(SmoothAP(tau=0.08))
        groups = [{"params": network.parameters()}, *loss.param_groups()]
        optimizer = torch.optim.Adam(groups, lr=1e-3)
        loss(network(image), label).backward()
        optimizer.step()

        L = L(u; E_a[w(a)]) - mean_k[A_k log pi(a_k)] - entropy_bonus H(pi),   u = unit(embedding)

    It is LMMetric without relation and memory (docs/method.md). Deviations from the paper: those of
    the default recipe, which are the reward after a virtual step and the sharpness as the action.

    loss: a criterion that takes pair weights.
    weighting: what an action means; None: Sharpness, or Factor where the loss takes one weight an
        image.
    granularity: one action for the 'batch', or one for each 'anchor'; None: 'anchor' for a Factor.
    reward: of an action; None: Lookahead. training: of the policy. lr: of the policy; None: 1e-2,
        and 1e-3 for 'anchor'. seed: of the actions drawn.

    Raises UsageError for a loss that takes no weights, or not those of the weighting.
    """

    def __init__(self, loss: Criterion, weighting: Weighting | None = None, *,
                 granularity: str | None = None, reward: Reward | None = None,
                 training: PolicyTraining | None = None, lr: float | None = None, seed: int = 0):
        super().__init__()
        if not isinstance(loss, Criterion):
            raise UsageError(f"loss is a {type(loss).__name__}: pass a criterion of the package "
                             "`criteria`, or a subclass of criteria.Criterion.")
        of_images = loss.accepts_weight == "anchor"
        if weighting is None:
            weighting = Factor() if of_images else Sharpness()
        granularity = granularity or ("anchor" if isinstance(weighting, Factor) else "batch")
        settings = lookup(BY_GRANULARITY, granularity, "granularity", "--policy_granularity")
        self.lr = settings["policy_lr"] if lr is None else lr
        bonus = settings["policy_entropy_bonus"]
        training = training or PolicyTraining(act="expected", entropy_bonus=bonus)
        policy = Policy(0, weighting, granularity, input="statistics", seed=seed)
        self.network = UnitRows()
        self.method = LMMetric(loss, policy=policy, pair_weighting="learned", reward=reward,
                               training=training)
        self.terms: dict[str, Tensor] = {}

    @property
    def policy(self) -> Policy:
        """The policy over the weights."""
        return self.method.policy

    def forward(self, embeddings: Tensor, labels: Tensor,
                triplets: Triplets | Quadruplets | None = None) -> Tensor:
        """embeddings (B, D), labels (B,) -> the loss, a scalar; its parts, detached, are `terms`.

        triplets: of a miner, for a loss that needs them. Half precision is computed in float32.
        """
        features = self._features(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            related = self.method.relate(self.network, features)
            terms = self.method(self.network, features, related, labels, triplets=triplets)
        self.terms = {name: term.detach() for name, term in terms.items()}
        return terms["total"]

    def param_groups(self, lr: float | None = None) -> list[dict]:
        """Groups for an optimizer, without decay: the policy at its own rate, the loss's own
        parameters at theirs, or else at `lr` (None: the optimizer's)."""
        return self.method.param_groups(lr, policy_lr=self.lr)

    @torch.no_grad()
    def record(self, embeddings: Tensor, labels: Tensor,
               triplets: Triplets | Quadruplets | None = None) -> dict:
        """The policy on one batch, as plain numbers (health.policy_record); training does not notice.

        Arguments as in forward.
        """
        features = self._features(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            related = self.method.relate(self.network, features)
            return policy_record(self.method, related, labels, triplets)

    def _features(self, embeddings: Tensor, labels: Tensor) -> Features:
        refuse_shapes("A loss compares", embeddings, labels)
        return self.network.forward(at_least_float32(embeddings))
