"""Groups of an optimizer's parameters."""
from collections.abc import Iterable

from torch import Tensor


def group(name: str, parameters: Iterable[Tensor], lr: float | None, decays: bool = True) -> dict:
    """A named group of an optimizer, at rate `lr`; None: that of the optimizer."""
    settings = {"name": name, "params": list(parameters)}
    if lr is not None:
        settings["lr"] = lr
    return settings if decays else settings | {"weight_decay": 0.0}
