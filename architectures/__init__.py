"""Networks by the names of `--arch`: a backbone and, behind it, the suffixes `_frozen` and `_normalize`."""
from architectures.backbones import BACKBONES
from architectures.memory import ContextualMemory
from architectures.network import Features, Network
from utilities.registry import lookup

__all__ = ["ARCHITECTURES", "Features", "Network", "parse_name", "select"]

ARCHITECTURES = BACKBONES
SUFFIXES = ("_frozen", "_normalize")


def parse_name(name: str) -> tuple[str, set[str]]:
    """`resnet50_frozen_normalize` -> ("resnet50", {"_frozen", "_normalize"})."""
    suffixes: set[str] = set()
    while found := [s for s in SUFFIXES if name.endswith(s)]:
        suffixes.update(found)
        name = name.removesuffix(found[0])
    return name, suffixes


def select(name: str, *, embed_dim: int, pretrained: bool, memory: ContextualMemory | None = None) -> Network:
    """The network called `name`; a UsageError that lists the names where there is none of that name."""
    base, suffixes = parse_name(name)
    backbone = lookup(ARCHITECTURES, base, "backbone", "--arch")(pretrained)
    return Network(backbone, embed_dim, normalize="_normalize" in suffixes, frozen="_frozen" in suffixes, memory=memory)
