"""Tensors by name, as files hold them: read without running anything in the file, and matched to a network's."""
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from utilities.errors import RunError, UsageError, in_brief
from utilities.optional import require
from utilities.text import printable

CONTAINERS = ("network", "state_dict", "model_state_dict", "model", "teacher")     # what files keep the weights under
PREFIXES = ("module.", "backbone.", "model.", "network.", "trunk.", "encoder.", "encoder_q.", "base_encoder.")
HEADS = ("fc", "last_linear", "classifier", "head", "heads", "head_dist", "aux1", "aux2", "AuxLogits", "embedding",
         "projection", "pooling", "memory")                                        # what stands behind a backbone
COUNTER = "num_batches_tracked"                                                    # of batch norm; old files have none
SHOWN = 3                                                                          # names in a message


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of one by torch.save that holds nothing but tensors and containers; what
    they lie under (a checkpoint's "state_dict", "model", "network") is opened."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file of weights.")
    content = _safetensors(path) if path.suffix == ".safetensors" else _saved(path)
    while found := [key for key in CONTAINERS if isinstance(content.get(key), Mapping)]:
        content = content[found[0]]
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise UsageError(f"{path} holds no weights by name: give a state dict, or one under "
                         f"{', '.join(map(repr, CONTAINERS[:-1]))} or {CONTAINERS[-1]!r}.")
    return tensors


def _safetensors(path: Path) -> dict[str, Tensor]:
    require(str(path), "safetensors")
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:                                                     # the library raises all kinds
        raise RunError(f"{path} is not a readable safetensors file ({in_brief(error)}).") from error


def _saved(path: Path) -> Mapping:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:                                                     # as the bytes may be anything
        raise RunError(f"{path} is not a readable file of weights: it is damaged, or holds more than tensors, which is "
                       "never run. Save the network's state_dict() alone, or as safetensors.") from error
    return content if isinstance(content, Mapping) else {}


def load(trunk: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> str:
    """Copy the tensors into the trunk of the architecture `name`, all of them or none; returns one sentence on what
    was loaded and which heads were left out. A UsageError lists what is missing, of another shape or left over."""
    wanted = trunk.state_dict()
    given, left = matched(state, wanted, path)
    missing = [key for key in wanted if key not in given and not key.endswith(COUNTER)]
    wrong = [f"{key}: {_shape(value)} instead of {_shape(wanted[key])}" for key, value in given.items()
             if value.shape != wanted[key].shape]
    heads = [key for key in left if stripped(key, wanted).split(".")[0] in HEADS]
    foreign = [key for key in left if key not in heads and not key.endswith(COUNTER)]
    found = [_listed(keys, what) for keys, what in ((missing, "missing"), (wrong, "of another shape"),
                                                    (foreign, "left over")) if keys]
    if found:
        raise UsageError(f"{path} does not fit --arch {name}: {'; '.join(found)}. Give the weights of this "
                         "architecture, or the --arch of these weights.")
    trunk.load_state_dict(given, strict=False)
    return f"{path}: {len(given)} tensors loaded" + (f"; {_listed(heads, 'of a head, left out')}." if heads else ".")


def matched(state: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by the network's names, and the names in the file that the network does not have. A vector that was
    saved as a matrix of one row, as batch norm was before PyTorch 0.4, is one again."""
    given, left = {}, []
    for key, value in state.items():
        own = stripped(key, wanted)
        if own not in wanted:
            left.append(key)
        elif own in given:
            raise UsageError(f"{path} holds {own} twice, behind different prefixes: keep one of the networks in it.")
        else:
            given[own] = value[0] if value.shape == (1, *wanted[own].shape) else value
    return given, left


def stripped(key: str, wanted: dict[str, Tensor]) -> str:
    """A tensor's name in the network: without the prefixes of what it was wrapped in."""
    while key not in wanted and (prefix := next((p for p in PREFIXES if key.startswith(p)), None)):
        key = key.removeprefix(prefix)
    return key


def _listed(keys: list[str], what: str) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(printable(key)[:80] for key in keys[:SHOWN])}{more})"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
