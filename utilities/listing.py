"""`python main.py --list WHAT`: the exact names that a flag takes, one a line, explained."""
from utilities.choices import BESIDE, registry
from utilities.source import summary

FLAGS = {  # list: the flag whose names it shows
    "architectures": "arch",
    "augmentations": "augmentation",
    "datasets": "dataset",
    "flows": "flow",
    "losses": "loss",
    "memories": "memory",
    "metrics": "evaluation_metrics",
    "miners": "batch_mining",
    "poolings": "pooling",
    "samplers": "data_sampler",
}
# Lists that architectures.backbones.listing gets from the libraries.
OF_LIBRARIES = ("timm", "torchvision", "weights")
LISTS = (*FLAGS, *OF_LIBRARIES)


def names(what: str) -> dict[str, str]:
    """The names of a list, each with the first sentence of what is behind it."""
    flag = FLAGS[what]
    described = {name: summary(entry) for name, entry in registry(flag).items()}
    return described | BESIDE.get(flag, {})


def print_names(rows: dict[str, str]) -> None:
    """Print names and descriptions in two columns."""
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:<{width}}  {text}".rstrip())
