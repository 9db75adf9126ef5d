"""The full method on a small network, for every criterion, and batches for it: what tests of the engine train."""
import math

import torch

from architectures.backbones import Backbone, ConvNet
from architectures.memory import select as select_memory
from architectures.network import Features, Network
from batchminer import select as select_miner
from criteria import select
from criteria.method import REWARDS, WEIGHTINGS, ClassProxies, CrossBatchMemory, LMMetric, Policy, PolicyTraining
from criteria.method.relation import GRU
from datasets.base import Batch
from recipes import BY_LOSS

DIM, CLASSES, SIZE = 8, 4, 16
LABEL = torch.arange(CLASSES).repeat_interleave(4)                                 # (16,)
POLICIES = {
    "anchors": {"granularity": "anchor"},
    "factors of anchors": {"action": "weight", "granularity": "anchor", "levels": 8},
}


def build(loss, *, memory="realnvp", learned=True, dropout=0.0, frozen=True, policy=None, proxies=False,
          reward="lookahead", training=None, **method):
    """Network, method and miner in float64, the same at every call.

    Relation, policy and memory are on, and a cross-batch memory where the criterion takes one. policy: arguments of
    Policy and of its weighting; training: of PolicyTraining; method: of LMMetric.
    """
    torch.manual_seed(0)
    trunk = ConvNet(4)
    dim = 64 if memory == "glow" else DIM
    body = torch.nn.Sequential(trunk, torch.nn.Dropout(dropout)) if dropout else trunk
    network = Network(Backbone(body, trunk.feature_dim), dim, frozen=frozen,
                      memory=select_memory(memory, dim, hidden=8, couplings=2))
    base = select(loss, n_classes=CLASSES, embed_dim=dim)
    miner = build_miner(base, loss, seed=0)
    chooser = None
    kind = "uniform"
    if learned and base.accepts_weight != "none":
        kind = "learned"
        chooser = build_policy(POLICIES["factors of anchors"] if base.accepts_weight == "anchor" else policy or {})
    xbm = None
    if base.takes_references:
        xbm = CrossBatchMemory(base, dim, 24, start=1, miner=build_miner(base, loss, seed=1))
    settings = {"pair_weighting": kind} | method
    whole = LMMetric(base, GRU(trunk.feature_dim, dim, hidden=8), chooser, reward=REWARDS[reward](),
                     training=PolicyTraining(**training or {}), xbm=xbm,
                     proxies=ClassProxies(CLASSES, dim) if proxies else None, **settings)
    return network.double().train(), whole.double().train(), miner


def build_miner(base, loss, seed):
    """The miner that a criterion needs, or None."""
    if not base.needs_triplets:
        return None
    miner = select_miner(BY_LOSS[loss]["batch_mining"], seed=seed)
    miner.second_negative = base.needs_quadruplets
    return miner


def build_policy(settings):
    """The policy of these arguments, `action` and `levels` among them."""
    weighting = WEIGHTINGS[settings.get("action", "sharpness")]
    levels = {"levels": settings["levels"]} if "levels" in settings else {}
    return Policy(8, weighting(**levels), granularity=settings.get("granularity", "batch"))



def batch(step=0):
    """A batch of four classes, the images apart from those of other steps."""
    generator = torch.Generator().manual_seed(step)
    centre = torch.randn(CLASSES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    noise = torch.randn(len(LABEL), 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return Batch(centre[LABEL] + noise, LABEL, torch.arange(len(LABEL)) + 100 * step)


def by_one_graph(network, method, miner, data, chunk):
    """The step as one graph from the images to the loss, its images seen in chunks: the oracle of the engine's."""
    chunks = data.image.tensor_split(math.ceil(len(data.image) / chunk))
    features = Features(*(torch.cat(parts) for parts in zip(*map(network, chunks))))
    related = method.relate(network, features)
    triplets = miner(related.z, data.label) if miner else None
    terms = method(network, features, related, data.label, data.index, triplets)
    terms["total"].backward()
    return terms


def gradients(*modules):
    """Every parameter's gradient by its name; zeros where it has none."""
    return {f"{i}.{name}": torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for i, module in enumerate(modules) for name, p in module.named_parameters()}


def same(a, b, path=""):
    """Assert that two nested states are equal to the last bit."""
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, f"{path}[{i}]")
    else:
        assert a == b or (a != a and b != b), path
