"""The full method on a small network, for every criterion, and batches for it: what tests of the engine train."""
import torch

from architectures.backbones import Backbone, ConvNet
from architectures.memory import select as select_memory
from architectures.network import Features, Network
from batchminer import select as select_miner
from criteria import CRITERIA, select
from criteria.class_proxies import ClassProxies
from criteria.lm_metric import LMMetric
from criteria.pair_weighting import BatchRelation, PairWeighting
from criteria.xbm import CrossBatchMemory
from datasets.base import Batch
from parameters import BY_LOSS

DIM, CLASSES, SIZE = 8, 4, 16
LABEL = torch.arange(CLASSES).repeat_interleave(4)                                 # (16,)
POLICIES = {
    "anchors": {"granularity": "anchor"}, "pairs": {"granularity": "pair"}, "continuous": {"action": "continuous"},
    "continuous of anchors": {"action": "continuous", "granularity": "anchor"},
    "continuous of pairs": {"action": "continuous", "granularity": "pair"},
    "factors of anchors": {"action": "weight", "granularity": "anchor", "levels": 8},
    "factors of pairs": {"action": "weight", "granularity": "pair", "levels": 8},
}


def build(loss, *, memory="realnvp", learned=True, dropout=0.0, frozen=True, policy=None, proxies=False, **method):
    """Network, method and miner in float64, the same at every call: relation, policy and memory on, and a cross-batch
    memory where criterion and policy take one. policy, method: arguments of PairWeighting and LMMetric."""
    torch.manual_seed(0)
    trunk, dim = ConvNet(4), 64 if memory == "glow" else DIM
    body = torch.nn.Sequential(trunk, torch.nn.Dropout(dropout)) if dropout else trunk
    network = Network(Backbone(body, trunk.feature_dim), dim, frozen=frozen,
                      memory=select_memory(memory, dim, hidden=8, couplings=2))
    base, miner = select(loss, n_classes=CLASSES, embed_dim=dim), None
    cls = CRITERIA[loss]
    if base.needs_triplets:
        miner = select_miner(BY_LOSS[loss]["batch_mining"], seed=0)
        miner.second_negative = cls.needs_quadruplets
    weighting, kind = None, "uniform"
    if learned and base.accepts_weight != "none":
        kind, anchor = "learned", base.accepts_weight == "anchor"
        weighting = PairWeighting(8, **(POLICIES["factors of anchors"] if anchor else policy or {}))
    xbm = None
    if cls.takes_references and (policy or {}).get("granularity") != "pair":
        own = select_miner(BY_LOSS[loss]["batch_mining"], seed=1) if base.needs_triplets else None
        if own:
            own.second_negative = cls.needs_quadruplets
        xbm = CrossBatchMemory(base, dim, 24, start=1, miner=own)
    method = LMMetric(base, BatchRelation(trunk.feature_dim, dim, hidden=8), weighting, xbm=xbm,
                      proxies=ClassProxies(CLASSES, dim) if proxies else None, **{"pair_weighting": kind} | method)
    return network.double().train(), method.double().train(), miner


def batch(step=0):
    """A batch of four classes, the images apart from those of other steps."""
    generator = torch.Generator().manual_seed(step)
    centre = torch.randn(CLASSES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    noise = torch.randn(len(LABEL), 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return Batch(centre[LABEL] + noise, LABEL, torch.arange(len(LABEL)) + 100 * step)


def by_one_graph(network, method, miner, data, chunk):
    """The step as one graph from the images to the loss, its images seen in chunks: the oracle of the engine's."""
    features = Features(*(torch.cat(parts) for parts in zip(*map(network, data.image.split(chunk)))))
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
