"""The full method on a small network, and a step of it: what the tests of criteria/method share."""
import torch

from architectures.backbones import Backbone, ConvNet
from architectures.memory import select as select_memory
from architectures.network import Network
from criteria import select
from criteria.method import REWARDS, WEIGHTINGS, LMMetric, Policy, PolicyTraining
from criteria.method.relation import GRU

LABEL = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
DIM = 16
OF_TRAINING = ("samples", "baseline", "mix", "entropy_bonus", "act")


def build(loss="gpw", memory="realnvp", relation=True, policy=None, reward="lookahead", **arguments):
    """Network and method; policy: arguments of Policy, and the `action`; arguments: of LMMetric and PolicyTraining."""
    trunk = ConvNet(4)
    memory = select_memory(memory, DIM, hidden=8, couplings=2)
    network = Network(Backbone(trunk, trunk.feature_dim), DIM, memory=memory)
    base = select(loss, n_classes=4, embed_dim=DIM)
    module = GRU(trunk.feature_dim, DIM, hidden=8) if relation else None
    training = {name: arguments.pop(name) for name in OF_TRAINING if name in arguments}
    arguments = {"pair_weighting": "learned"} | arguments
    chooser = None
    if arguments["pair_weighting"] != "uniform":
        settings = {"input": "both" if relation else "statistics"} | (policy or {})
        weighting = WEIGHTINGS[settings.pop("action", "sharpness")]()
        chooser = Policy(8 if relation else 0, weighting, **settings)
    return network, LMMetric(base, module, chooser, reward=REWARDS[reward](), training=PolicyTraining(**training),
                             **arguments)


def step(network, method, triplets=None, image=None):
    """Features, relation and loss terms of one batch."""
    features = network(torch.randn(12, 3, 16, 16) if image is None else image)
    related = method.relate(network, features)
    return features, related, method(network, features, related, LABEL, torch.arange(12), triplets)


def rewards_of(method, actions, z, pairs):
    """The reward of each of K actions for each image, (K, B)."""
    weights = method.policy.weights(method.policy.values(actions), pairs)
    return method.reward(method.base, z, LABEL, None, weights, pairs)
