"""Checkpoints: written whole or not at all, and read without running anything that is in them."""
import shutil
from pathlib import Path

import torch
from torch import nn

from utilities.errors import RunError, UsageError
from utilities.files import replacing

UNSEEN = ("pooling", "feature_norm", "input_mean", "input_std", "input_channels", "input_value_range")   # in no tensor
DEFINES_NETWORK = ("arch", "embed_dim", "memory", "memory_couplings", "memory_hidden", "memory_levels", "memory_steps",
                   "memory_channels", *UNSEEN)


def save(path: Path, state: dict) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) to a temporary file, sync it, rename it."""
    try:
        with replacing(path, sync=True) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(path.parent).free // 2**20
        raise RunError(f"The checkpoint {path} could not be written ({_reason(error)}; {free} MiB are free there); the "
                       "previous one, if any, is intact. Free space, then --resume continues from it, or choose "
                       "another --save_path.") from error


def load(path: str | Path) -> dict:
    """The state in a checkpoint; pickled objects other than tensors and plain containers are refused."""
    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file; pass last.pt or best_*.pt of a run.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(f"{path} is not a readable checkpoint: it is damaged, or holds more than tensors and numbers. "
                       "Pass last.pt or best_*.pt of a run.") from error
    if not isinstance(state, dict) or not all(isinstance(state.get(part), dict) for part in ("network", "options")):
        raise RunError(f"{path} is not a checkpoint of main.py. Pass last.pt or best_*.pt of a run.")
    return state


def load_network(path: str | Path, network: nn.Module, options: dict) -> None:
    """Load a checkpoint's weights into `network`; a checkpoint of another architecture, or of one that does something
    else with the same tensors, is refused with the flags that would fit it."""
    state = load(path)
    pairs = {key: (_plain(state["options"].get(key)), _plain(options.get(key))) for key in DEFINES_NETWORK}
    differing = {key: there for key, (there, here) in pairs.items() if there != here}
    misfit = None
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        misfit = error
    if misfit is None and not any(key in UNSEEN for key in differing):
        return
    advice = ("Pass " + " ".join(_flag(key, value) for key, value in differing.items()) if differing else
              "It was made by another version of the code")
    raise UsageError(f"--checkpoint {path} does not fit this network. {advice}.") from misfit


def _plain(value):
    """A flag's value in one form, whether it was given or left out, in this version or one before the flag."""
    return list(value) if isinstance(value, list | tuple) else None if value is False else value


def _flag(name: str, value) -> str:
    """A flag as it is typed."""
    if value is None:
        return f"no --{name}"
    if value is True:
        return f"--{name}"
    return f"--{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"


def _reason(error: BaseException) -> str:
    """What the system said, which torch covers by an error of its own."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__context__
    return " ".join(str(error).split())[:100]
