"""Networks by the names of `--arch`: a backbone and, behind it, the suffixes `_frozen` and `_normalize`."""
from pathlib import Path

from architectures.backbones import BACKBONES
from architectures.memory import ContextualMemory
from architectures.memory import select as select_memory
from architectures.network import Features, Network
from utilities import checkpoint
from utilities.errors import RunError
from utilities.registry import lookup

__all__ = ["ARCHITECTURES", "Features", "Network", "parse_name", "restore", "select"]

ARCHITECTURES = BACKBONES
SUFFIXES = ("_frozen", "_normalize")


def parse_name(name: str) -> tuple[str, set[str]]:
    """`resnet50_frozen_normalize` -> ("resnet50", {"_frozen", "_normalize"})."""
    suffixes: set[str] = set()
    while found := [s for s in SUFFIXES if name.endswith(s)]:
        suffixes.update(found)
        name = name.removesuffix(found[0])
    return name, suffixes


def select(name: str, *, embed_dim: int, pretrained: bool, memory: ContextualMemory | None = None,
           frozen_affine: bool = False) -> Network:
    """The network called `name`; a UsageError that lists the names where there is none of that name."""
    base, suffixes = parse_name(name)
    backbone = lookup(ARCHITECTURES, base, "backbone", "--arch")(pretrained)
    return Network(backbone, embed_dim, normalize="_normalize" in suffixes, frozen="_frozen" in suffixes,
                   frozen_affine=frozen_affine, memory=memory)


def restore(path: str | Path) -> tuple[Network, dict]:
    """The network in a checkpoint of main.py, built by the checkpoint's own options, and these options."""
    state = checkpoint.load(path)
    options = state["options"]
    try:
        memory = select_memory(options["memory"], options["embed_dim"],
                               **{k.removeprefix("memory_"): v for k, v in options.items() if k.startswith("memory_")})
        network = select(options["arch"], embed_dim=options["embed_dim"], pretrained=False, memory=memory)
        network.load_state_dict(state["network"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{path} was made by another version of the code: its options and its weights give no network "
                       f"here ({' '.join(str(error).split())[:100]}).") from error
    return network, options
