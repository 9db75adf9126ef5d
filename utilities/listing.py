"""`python main.py --list WHAT`: the exact names that a flag takes, one a line, and what is behind each."""
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable

import batchminer
import criteria
import datasets
import evaluation
import flows
from architectures import backbones, memory, pooling
from architectures.backbones import from_timm, from_torchvision
from architectures.weights import Source, digits_of
from datasets import samplers, transforms

WIDTH = 100                                                                        # of a description (characters)


def described(registry: dict) -> dict[str, str]:
    """The names of a registry with the first sentence of what is behind each."""
    return {name: summary(entry) for name, entry in registry.items()}


def summary(entry: type | Callable) -> str:
    """The first sentence of a docstring, shortened."""
    first = re.split(r"(?<=\.)\s+(?=[A-Z])|\n\n", inspect.getdoc(entry) or "", maxsplit=1)[0]
    return textwrap.shorten(first.rstrip(".:,"), WIDTH, placeholder=" ...")


def architectures() -> dict[str, str]:
    """Our backbones, and how the libraries' are listed."""
    return described(backbones.BACKBONES) | {
        f"{library}.NAME": f"any model of {library}: python main.py --list {library}"
        for library in backbones.LIBRARIES}


def weights() -> dict[str, str]:
    """Each file that --weights_dir may hold, with its backbone, checksum and address."""
    return {source.files[0]: file_description(name, source) for name, source in backbones.weight_files().items()}


def file_description(name: str, source: Source) -> str:
    """What a file of weights is for, how it is checked and where it is."""
    digits = digits_of(source.files[0])
    return f"{name}; {f'SHA-256 begins with {digits}; ' if digits else ''}{source.url}"


def plain(names: Iterable[str], prefix: str = "") -> dict[str, str]:
    """Names without descriptions."""
    return {prefix + name: "" for name in names}


TABLES: dict[str, Callable[[], dict[str, str]]] = {
    "architectures": architectures,
    "augmentations": lambda: plain(transforms.AUGMENTATIONS),
    "datasets": lambda: described(datasets.DATASETS),
    "flows": lambda: described(flows.FLOWS),
    "losses": lambda: described(criteria.CRITERIA) | {"pml.CLASS": "any loss of pytorch-metric-learning, by its class"},
    "memories": lambda: described(memory.MEMORIES) | {"none": "no memory"},
    "metrics": lambda: plain(evaluation.METRICS),
    "miners": lambda: described(batchminer.MINERS) | {"none": "for losses over the whole batch"},
    "poolings": lambda: described(pooling.POOLINGS),
    "samplers": lambda: described(samplers.SAMPLERS),
    "timm": lambda: plain(from_timm.names(), "timm."),
    "torchvision": lambda: plain(from_torchvision.names(), "torchvision."),
    "weights": weights,
}


def print_list(what: str) -> None:
    """Print a table; a reader that stops early, as head does, is no error."""
    rows = TABLES[what]()
    width = max(map(len, rows))
    try:
        print("\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in rows.items()), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
