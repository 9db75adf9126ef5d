"""Any loss of pytorch-metric-learning, by the name of its class."""
import ast
import copy
import inspect
from collections.abc import Sequence

import torch
from torch import nn

from criteria.base import Criterion
from utilities.errors import UsageError
from utilities.ranges import NonNegative
from utilities.registry import did_you_mean
from utilities.seed import preserved_randomness


class PML(Criterion):
    """A loss of pytorch-metric-learning (Musgrave et al., "PyTorch Metric Learning", arXiv 2020),
    as the library has it: its own tuples, averaging and defaults. `--loss pml.TripletMarginLoss
    --loss_pml_args margin=0.1 swap=True`.

    args are words NAME=VALUE for its constructor; the numbers of classes and of dimensions are
    filled in. What it learns trains at lr. A class that fails on a small batch of embeddings and
    labels is refused.
    """

    def __init__(
        self,
        name: str,
        n_classes: int,
        embed_dim: int,
        args: Sequence[str] = (),
        lr: NonNegative = 1e-2,
    ):
        super().__init__()
        self.own_lr = lr
        cls = loss_class(name)
        known = constructor_arguments(cls)
        sizes = {
            "num_classes": n_classes,
            "embedding_size": embed_dim,
            "descriptors_dim": embed_dim,
        }
        filled_in = {key: size for key, size in sizes.items() if key in known}
        arguments = filled_in | parse(args)
        for word in arguments:
            if word not in known:
                hint = did_you_mean(word, known)
                raise UsageError(f"--loss_pml_args {word}: pml.{name} takes no such argument."
                                 f"{hint} It takes: {', '.join(known)}.")
        # the library raises errors of all kinds
        try:
            self.wrapped = cls(**arguments)
            try_out(copy.deepcopy(self.wrapped), n_classes, embed_dim)
            # What has no proxies of the classes compares the images with each other.
            self.compares_images = not self.is_class_specific()
        except Exception as error:
            words = " ".join(str(error).split())
            sentence = words.split(". ")[0].rstrip(".")
            given = f"with --loss_pml_args {' '.join(args)}" if args else "without --loss_pml_args"
            raise UsageError(f"--loss pml.{name} {given} does not work here: "
                             f"{sentence or type(error).__name__}.") from error

    def loss(self, x, label, triplets, weight, anchors):
        """x (B, D), label (B,) -> scalar."""
        return self.wrapped(x, label)


def try_out(loss: nn.Module, n_classes: int, embed_dim: int) -> None:
    """Two steps on two classes of two images: what fails in them would fail in training."""
    x = torch.linspace(-1, 1, 4 * embed_dim).view(4, embed_dim)
    x.requires_grad_()
    label = torch.tensor([0, 0, 1, 1]) % n_classes
    with preserved_randomness():
        for _ in range(2):
            loss(x, label).backward()


def loss_class(name: str) -> type:
    """The class of that name in pytorch_metric_learning.losses."""
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        raise UsageError(f"--loss pml.{name} needs the library: "
                         "pip install pytorch-metric-learning.") from error
    base = losses.BaseMetricLossFunction
    abstract = (base, losses.GenericPairLoss)
    known = {
        key: cls
        for key, cls in inspect.getmembers(losses, inspect.isclass)
        if issubclass(cls, base) and cls not in abstract
    }
    if name in known:
        return known[name]
    raise UsageError(f"--loss pml.{name}: pytorch-metric-learning has no loss of this name that "
                     f"takes embeddings and labels.{did_you_mean(name, known)}")


def constructor_arguments(cls: type) -> list[str]:
    """Names that the constructor takes.

    Those of its base classes are among them, since the library hands keywords on to them.
    """
    names = {}
    for base in cls.__mro__:
        if not base.__module__.startswith("pytorch_metric_learning"):
            continue
        for name, argument in inspect.signature(base.__init__).parameters.items():
            if argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
                names[name] = None
    names.pop("self", None)
    return list(names)


def parse(words: Sequence[str]) -> dict:
    """NAME=VALUE words as keyword arguments; a value that is no Python literal is text."""
    arguments = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--loss_pml_args {word}: "
                             "arguments are written NAME=VALUE, such as margin=0.1.")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError):
            arguments[name] = value
    return arguments
