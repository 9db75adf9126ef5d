"""Checkpoints: written whole or not at all, and read without running anything that is in them."""
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from utilities import saved
from utilities.errors import RunError, UsageError, reason
from utilities.files import replacing
from utilities.flags import as_recorded, as_typed
from utilities.text import printable
from utilities.weights import unusable

# Flags that change what a network computes, but not its tensors.
UNSEEN = (
    "pooling",
    "feature_norm",
    "memory_condition",
    "input_mean",
    "input_std",
    "input_channels",
    "input_value_range",
)
DEFINES_NETWORK = (
    "arch",
    "embed_dim",
    "memory",
    "memory_couplings",
    "memory_hidden",
    "memory_levels",
    "memory_steps",
    "memory_channels",
    *UNSEEN,
)


def save(path: Path, state: dict) -> None:
    """Write `state` (tensors, numbers, strings and containers of them), whole or not at all."""
    try:
        with replacing(path, sync=True) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # the folder itself may be gone
        folder = next(filter(Path.is_dir, path.absolute().parents))
        free = shutil.disk_usage(folder).free // 2**20
        raise RunError(
            f"The checkpoint {path} could not be written ({reason(error)}; {free} MiB are free "
            "there); the previous one, if any, is intact. Free space, then --resume continues "
            "from it, or choose another --save_path."
        ) from error


def load(path: str | Path) -> dict:
    """The state in a checkpoint; anything but tensors and plain containers is refused."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; pass last.pt or best_*.pt of a run.")
    try:
        if not saved.is_whole(path):
            raise ValueError("a part does not have its checksum")
        state = saved.load(path)
    # The bytes may be anything.
    except Exception as error:
        raise RunError(
            f"{path} is not a readable checkpoint: it is damaged, or holds more than tensors and "
            "numbers. Pass last.pt or best_*.pt of a run."
        ) from error
    parts = ("network", "options")
    if not isinstance(state, dict) or not all(isinstance(state.get(part), dict) for part in parts):
        raise RunError(
            f"{path} is not a checkpoint of main.py. Pass last.pt or best_*.pt of a run."
        )
    return state


def load_network(path: str | Path, network: nn.Module, options: dict) -> None:
    """Load a checkpoint's weights into `network`, which was built by `options`.

    A UsageError names the flags that fit, if the checkpoint is of another architecture, or of one
    that computes something else with the same tensors.
    """
    state = load(path)
    recorded = _network_flags(state["options"])
    present = _network_flags(options)
    differing = {name: value for name, value in recorded.items() if value != present[name]}
    advice = "It was made by another version of the code"
    if differing:
        advice = f"Pass {' '.join(as_typed(*flag) for flag in differing.items())}"
    misfit = UsageError(f"--checkpoint {path} does not fit this network. {advice}.")
    if any(name in UNSEEN for name in differing):
        raise misfit
    try:
        load_weights(network, state["network"], path)
    except RuntimeError as error:
        raise misfit from error


def load_weights(network: nn.Module, tensors: dict, path: str | Path) -> None:
    """Load the tensors of a file into a network; a RunError names those that are no weights."""
    if not all(isinstance(name, str) for name in tensors):
        raise RuntimeError("its tensors have no names")
    wanted = network.state_dict()
    common = {name: value for name, value in tensors.items() if name in wanted}
    if not all(isinstance(value, Tensor) for value in common.values()):
        raise RuntimeError("it holds other things than tensors")
    same = {name: value for name, value in common.items() if value.shape == wanted[name].shape}
    flaw = next(unusable(same, wanted), None)
    if flaw:
        raise RunError(f"{path} holds no finite weights ({printable(flaw)}): it is damaged.")
    network.load_state_dict(tensors)


def _network_flags(options: dict) -> dict:
    """The flags of the network; None for one that was left out or did not exist yet."""
    flags = {name: as_recorded(options.get(name)) or None for name in DEFINES_NETWORK}
    conditioned = flags["memory"] in ("realnvp", "mlp")
    flags["memory_condition"] = (flags["memory_condition"] or "unit") if conditioned else None
    # that of a map where none is named
    if flags["pooling"] == "avg+max":
        flags["pooling"] = None
    return flags
