"""The names that a flag takes where they stand in a registry, read from the registry's source."""
from functools import cache
from pathlib import Path

from utilities import source
from utilities.source import Definition

REGISTRIES = {  # flag or list: file and name of the registry
    "arch": ("architectures/backbones/__init__.py", "BACKBONES"),
    "augmentation": ("datasets/transforms.py", "AUGMENTATIONS"),
    "batch_mining": ("batchminer/__init__.py", "MINERS"),
    "data_sampler": ("datasets/samplers/__init__.py", "SAMPLERS"),
    "dataset": ("datasets/__init__.py", "DATASETS"),
    "evaluation_metrics": ("evaluation/metrics/__init__.py", "METRICS"),
    "flow": ("flows/__init__.py", "FLOWS"),
    "loss": ("criteria/__init__.py", "CRITERIA"),
    "memory": ("architectures/memory.py", "MEMORIES"),
    "memory_target": ("criteria/method/memory_target.py", "TARGETS"),
    "policy_action": ("criteria/method/weighting.py", "WEIGHTINGS"),
    "policy_reward": ("criteria/method/rewards.py", "REWARDS"),
    "pooling": ("architectures/network.py", "POOLINGS"),
    "relation": ("criteria/method/relation.py", "RELATIONS"),
}
BESIDE = {  # further names that a flag takes, and what they stand for
    "arch": {
        "torchvision.NAME": "any model of torchvision: python main.py --list torchvision",
        "features": "none: rows of --dataset embeddings in the place of a backbone's features",
        "timm.NAME": "any model of timm: python main.py --list timm",
    },
    "batch_mining": {"none": "for losses over the whole batch"},
    "loss": {"pml.CLASS": "any loss of pytorch-metric-learning, by its class"},
    "memory": {"none": "no memory"},
}


@cache
def registry(flag: str) -> dict[str, Definition | None]:
    """The names of a flag's registry, each with the class or function behind it."""
    file, name = REGISTRIES[flag]
    return source.registry(source.ROOT / file, name)


@cache
def takers(flag: str, argument: str) -> list[str]:
    """The names of a flag's registry whose class or function takes this argument."""
    return [name for name, entry in registry(flag).items() if argument in source.arguments(entry)]


def loss_names(flags: dict) -> list[str]:
    """`--loss` as its flags call it (pml.X: `pml`), then the loss that it is added to."""
    loss = flags["loss"]
    if loss == "adversarial_separation":
        return [loss, flags.get("loss_adversarial_separation_on", "multisimilarity")]
    return ["pml" if loss.startswith("pml.") else loss]


def prefixes() -> list[str]:
    """How the flags of each loss and miner begin."""
    losses = [f"loss_{name}_" for name in (*registry("loss"), "pml")]
    return losses + [f"miner_{name}_" for name in registry("batch_mining")]


def belongs(flag: str, prefix: str) -> bool:
    """Whether a flag starts with `prefix`, and not with the longer one of another loss or miner.

    miner_random_distance_lower_cutoff belongs to miner_random_distance_, not to miner_random_.
    """
    longer = tuple(other for other in prefixes() if other.startswith(prefix) and other != prefix)
    return flag.startswith(prefix) and not flag.startswith(longer)


@cache
def benchmarks() -> dict[str, tuple[str, ...]]:
    """The data sets with folders of their own names, each with these names."""
    known = {}
    files = set()
    for name, entry in registry("dataset").items():
        folders = source.statements(entry.path).get("FOLDERS")
        if folders and entry.path not in files:
            known[name] = source.value_of(folders.value)
        files.add(entry.path)
    return known


def benchmarks_in(folder: str) -> list[str]:
    """The benchmarks that lie in a folder, or that the folder is, by the names of their folders."""
    place = Path(folder)
    found = []
    for name, own in benchmarks().items():
        if place.name in own or any((place / one).is_dir() for one in own):
            found.append(name)
    return found
