"""Base criteria by the names of `--loss`: one file a loss, one line here."""
from criteria.adversarial_separation import AdversarialSeparation
from criteria.angular import Angular
from criteria.arcface import ArcFace
from criteria.base import Criterion, PairWeights
from criteria.circle import Circle
from criteria.contrastive import Contrastive
from criteria.cosface import CosFace
from criteria.gpw import GPW
from criteria.histogram import Histogram
from criteria.lifted import Lifted
from criteria.margin import Margin
from criteria.multisimilarity import MultiSimilarity
from criteria.npair import NPair
from criteria.pml import PML
from criteria.proxyanchor import ProxyAnchor
from criteria.proxynca import ProxyNCA
from criteria.quadruplet import Quadruplet
from criteria.recallatk import RecallAtK
from criteria.smoothap import SmoothAP
from criteria.snr import SNR
from criteria.softmax import Softmax
from criteria.softtriplet import SoftTriplet
from criteria.supap import SupAP
from criteria.supcon import SupCon
from criteria.triplet import Triplet
from utilities.errors import UsageError
from utilities.registry import accepted, lookup

__all__ = ["CRITERIA", "Criterion", "PairWeights", "select"]

CRITERIA: dict[str, type[Criterion]] = {
    "adversarial_separation": AdversarialSeparation,
    "angular": Angular,
    "arcface": ArcFace,
    "circle": Circle,
    "contrastive": Contrastive,
    "cosface": CosFace,
    "gpw": GPW,
    "histogram": Histogram,
    "lifted": Lifted,
    "margin": Margin,
    "multisimilarity": MultiSimilarity,
    "npair": NPair,
    "proxyanchor": ProxyAnchor,
    "proxynca": ProxyNCA,
    "quadruplet": Quadruplet,
    "recallatk": RecallAtK,
    "smoothap": SmoothAP,
    "snr": SNR,
    "softmax": Softmax,
    "softtriplet": SoftTriplet,
    "supap": SupAP,
    "supcon": SupCon,
    "triplet": Triplet,
}


def select(name: str, *, n_classes: int, embed_dim: int, weight_on: str = "term", **kwargs) -> Criterion:
    """The criterion called `name`, with the pair weights (if it gets any) entering at `weight_on`.

    `pml.X` is the loss X of pytorch-metric-learning. adversarial_separation wraps the criterion that `on` names, made
    with `on_arguments`.
    """
    sizes = {"n_classes": n_classes, "embed_dim": embed_dim}
    if name.startswith("pml."):
        criterion = PML(name.removeprefix("pml."), **sizes, **kwargs)
    else:
        cls = lookup(CRITERIA, name, "criterion", "--loss")
        if cls is AdversarialSeparation:
            kwargs["base"] = wrapped(kwargs.pop("on", "multisimilarity"), kwargs.pop("on_arguments", {}),
                                     weight_on=weight_on, **sizes)
        criterion = cls(**accepted(cls, sizes), **kwargs)
    if weight_on not in criterion.placements:
        raise UsageError(f"--pair_weight_on {weight_on}: --loss {name} takes weights on "
                         f"{' or '.join(criterion.placements)}.")
    criterion.weight_on = weight_on
    return criterion


def wrapped(on: str, arguments: dict, **settings) -> Criterion:
    """The criterion that adversarial_separation adds to: any but itself."""
    lookup({name: cls for name, cls in CRITERIA.items() if cls is not AdversarialSeparation}, on, "criterion to add to",
           "--loss_adversarial_separation_on")
    return select(on, **settings, **arguments)
