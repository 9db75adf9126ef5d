"""Base criteria by the names of `--loss`: one file a loss, one line here."""
from criteria.base import Criterion, PairWeights
from criteria.gpw import GPW
from criteria.margin import Margin
from criteria.multisimilarity import MultiSimilarity
from criteria.proxyanchor import ProxyAnchor
from criteria.smoothap import SmoothAP
from utilities.errors import UsageError
from utilities.registry import accepted, lookup

__all__ = ["CRITERIA", "Criterion", "PairWeights", "select"]

CRITERIA: dict[str, type[Criterion]] = {
    "gpw": GPW,
    "margin": Margin,
    "multisimilarity": MultiSimilarity,
    "proxyanchor": ProxyAnchor,
    "smoothap": SmoothAP,
}


def select(name: str, *, n_classes: int, embed_dim: int, weight_on: str = "term", **kwargs) -> Criterion:
    """The criterion called `name`, with the pair weights (if it gets any) entering at `weight_on`."""
    cls = lookup(CRITERIA, name, "criterion", "--loss")
    if weight_on not in cls.placements:
        raise UsageError(f"--pair_weight_on {weight_on}: --loss {name} takes weights on {' or '.join(cls.placements)}.")
    criterion = cls(**accepted(cls, {"n_classes": n_classes, "embed_dim": embed_dim}), **kwargs)
    criterion.weight_on = weight_on
    return criterion
