"""The method's own parts, in the order in which a training step needs them.

relation         every image gets a context from the whole batch              RELATIONS
statistics       the pairs of a batch: similarities, signs, and what the policy sees of them
policy           a distribution over actions
weighting        what an action means: the weight of every pair               WEIGHTINGS
rewards          what an action is rewarded with                              REWARDS
policy_gradient  how the reward trains the policy
lm_metric        all of it around a base criterion
contract         what it asks of a network
learned_weights  its weights alone, as a loss for any training loop
second_loss      the loss of v where it shares nothing with that of u; the loss of the context alone
memory_target    what the memory learns to decode                             TARGETS
xbm, class_proxies   more pairs: with past batches, with proxies of the classes
health           what the policy is worth, in numbers
context_health   whether the context lives, in numbers
"""
from criteria.method.class_proxies import ClassProxies
from criteria.method.contract import EmbeddingNetwork
from criteria.method.learned_weights import LearnedWeights
from criteria.method.lm_metric import LMMetric, LossTerms, Related
from criteria.method.memory_target import MemoryTarget
from criteria.method.policy import Policy
from criteria.method.policy_gradient import PolicyTraining
from criteria.method.relation import GRU, RELATIONS
from criteria.method.rewards import REWARDS, Lookahead
from criteria.method.second_loss import SecondLoss
from criteria.method.weighting import WEIGHTINGS, Factor, Sharpness
from criteria.method.xbm import CrossBatchMemory

__all__ = ["GRU", "REWARDS", "RELATIONS", "WEIGHTINGS", "ClassProxies", "CrossBatchMemory",
           "EmbeddingNetwork", "Factor", "LMMetric", "LearnedWeights", "Lookahead", "LossTerms",
           "MemoryTarget", "Policy", "PolicyTraining", "Related", "SecondLoss", "Sharpness"]
