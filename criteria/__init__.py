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
from utilities.registry import accepted, lookup, own_class

__all__ = ["CRITERIA", "Criterion", "PairWeights", "class_of", "select"]

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
__all__ += [cls.__name__ for cls in CRITERIA.values()]


def class_of(name: str) -> type[Criterion]:
    """The class that a name of `--loss` stands for.

    A name of CRITERIA, `pml.X` for the loss X of pytorch-metric-learning, or `module.Class` for a
    class of the user's own file (docs/extending.md).
    """
    if name.split(".")[0] == "pml":
        return PML
    if "." in name:
        return own_class(name, Criterion, ("n_classes", "embed_dim"), "--loss")
    return lookup(CRITERIA, name, "criterion", "--loss")


def select(
    name: str,
    *,
    n_classes: int,
    embed_dim: int,
    weight_on: str = "term",
    **kwargs,
) -> Criterion:
    """The criterion called `name`; pair weights, where it gets any, enter at `weight_on`.

    adversarial_separation adds to the criterion that `on` names, made with `on_arguments`.
    """
    cls = class_of(name)
    sizes = {"n_classes": n_classes, "embed_dim": embed_dim}
    if cls is PML:
        kwargs["name"] = name.removeprefix("pml.")
    if cls is AdversarialSeparation:
        on = kwargs.pop("on", "multisimilarity")
        on_arguments = kwargs.pop("on_arguments", {})
        kwargs["base"] = base_of_separation(on, weight_on=weight_on, **sizes, **on_arguments)
    criterion = cls(**accepted(cls, sizes), **kwargs)
    if weight_on not in criterion.placements:
        placements = " or ".join(criterion.placements)
        raise UsageError(f"--pair_weight_on {weight_on}: --loss {name} takes weights on "
                         f"{placements}.")
    criterion.place_weights(weight_on)
    return criterion


def base_of_separation(name: str, **arguments) -> Criterion:
    """The criterion that adversarial_separation adds to: any but itself."""
    others = dict(CRITERIA)
    del others["adversarial_separation"]
    lookup(others, name, "criterion to add to", "--loss_adversarial_separation_on")
    return select(name, **arguments)
