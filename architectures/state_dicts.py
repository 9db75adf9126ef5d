"""Tensors by name in files: read without running anything in the file, matched to a network's."""
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from architectures.positions import resized
from utilities import saved
from utilities.errors import RunError, UsageError, in_brief
from utilities.optional import require
from utilities.text import counted, printable
from utilities.weights import unusable

# The keys under which files keep the weights; averaged weights are those that authors evaluate.
CONTAINERS = (
    "network",
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "net_state",
    "model",
    "teacher",
)
PREFIXES = (
    "_orig_mod.",
    "module.",
    "net.",
    "extractor.",
    "backbone.",
    "model.",
    "network.",
    "trunk.",
    "encoder.",
    "encoder_q.",
    "base_encoder.",
)
# What stands behind a backbone, and its copies in MoCo and in the base framework.
HEADS = (
    "fc",
    "last_linear",
    "classifier",
    "head",
    "heads",
    "head_dist",
    "aux1",
    "aux2",
    "AuxLogits",
    "embedding",
    "projection",
    "pooling",
    "memory",
    "projection_head",
    "projector",
    "predictor",
    "prototypes",
    "queue",
    "queue_ptr",
    "encoder_k",
    "momentum_encoder",
    "layer_blocks",
)
# Of batch norm; old files have none.
COUNTER = "num_batches_tracked"
# Containers within each other.
DEEPEST = 8
# Bytes before the header of a safetensors file, which hold its length.
LENGTH = 8
# Names in a message, and characters of a name.
SHOWN = 3
LONGEST = 80


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of one by torch.save that holds nothing else.

    The content tells which it is, whatever the file's name. Containers around the tensors, such as
    a checkpoint's "state_dict" or "network", are opened.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file of weights.")
    content = _safetensors(path) if is_safetensors(path) else _saved(path)
    # A container may hold itself.
    for _ in range(DEEPEST):
        inner = [content[k] for k in CONTAINERS if isinstance(content.get(k), Mapping)]
        content = inner[0] if inner else content
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise UsageError(
            f"{path} holds no weights by name: give a state dict, or one under "
            f"{', '.join(map(repr, CONTAINERS[:-1]))} or {CONTAINERS[-1]!r}."
        )
    return tensors


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of safetensors does, or is called so and begins as no other."""
    with open(path, "rb") as file:
        start = file.read(LENGTH + 1)
    if start.startswith((saved.ZIP, saved.OLDER)):
        return False
    return start[LENGTH:] == b"{" or path.suffix == ".safetensors"


def _safetensors(path: Path) -> dict[str, Tensor]:
    require(str(path), "safetensors")
    from safetensors.torch import load_file

    try:
        return load_file(path)
    # The library raises errors of any type.
    except Exception as error:
        raise RunError(
            f"{path} is not a readable safetensors file ({in_brief(error)})."
        ) from error


def _saved(path: Path) -> Mapping:
    try:
        content = saved.load(path)
    # The bytes may be anything.
    except Exception as error:
        raise RunError(
            f"{path} is not a readable file of weights: it is damaged, or holds more than tensors, "
            "which is never run. Save the network's state_dict() alone, or as safetensors."
        ) from error
    return content if isinstance(content, Mapping) else {}


def load(trunk: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> str:
    """Copy the tensors into the trunk of the architecture `name`, all of them or none.

    Returns one sentence on what was loaded and which heads were left out. A UsageError lists what
    is missing, of another shape or left over.
    """
    wanted = trunk.state_dict()
    given, unmatched = match(state, wanted, path)
    fitting = {key: resized(key, value, wanted[key]) for key, value in given.items()}
    changed = [key for key, value in fitting.items() if value is not given[key]]
    heads = [key for key in unmatched if strip_prefixes(key, wanted).split(".")[0] in HEADS]
    problems = {
        "missing": [key for key in wanted if key not in given],
        "of another shape": [
            f"{key}: {_shape(value)} instead of {_shape(wanted[key])}"
            for key, value in fitting.items()
            if value.shape != wanted[key].shape
        ],
        "left over": [key for key in unmatched if key not in heads],
    }
    found = [_listed(keys, what) for what, keys in problems.items()]
    if any(found):
        raise UsageError(
            f"{path} does not fit --arch {name}: {'; '.join(filter(None, found))}. Give the "
            "weights of this architecture, or the --arch of these weights."
        )
    flaws = _listed(list(unusable(fitting, wanted)), "without finite weights")
    if flaws:
        raise UsageError(f"{path} holds tensors that are no weights: {flaws}. Give weights of a floating-point type.")
    trunk.load_state_dict(fitting, strict=False)
    notes = [
        f"{path}: {counted(len(given), 'tensor')} loaded",
        _listed(changed, "interpolated to this image size"),
        _listed(heads, "of a head, left out"),
    ]
    return "; ".join(filter(None, notes)) + "."


def match(
    state: dict[str, Tensor], wanted: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by the network's names, and the names in the file that the network does not have.

    A vector that was saved as a matrix of one row, as batch norm was before PyTorch 0.4, is a
    vector again.
    """
    given: dict[str, Tensor] = {}
    unmatched = []
    for key, value in state.items():
        own = strip_prefixes(key, wanted)
        if own not in wanted:
            unmatched.append(key)
            continue
        if own in given:
            raise UsageError(
                f"{path} holds {own} twice, behind different prefixes: keep one of the networks "
                "in it."
            )
        given[own] = value[0] if value.shape == (1, *wanted[own].shape) else value
    return given, unmatched


def strip_prefixes(key: str, wanted: dict[str, Tensor]) -> str:
    """A tensor's name in the network: without the prefixes of the modules around that."""
    while key not in wanted and key.startswith(PREFIXES):
        key = key.partition(".")[2]
    return key


def _listed(keys: list[str], what: str) -> str:
    """How many names, what they are and the first of them; '' without any."""
    keys = [key for key in keys if not key.endswith(COUNTER)]
    if not keys:
        return ""
    names = [printable(key)[:LONGEST] for key in keys[:SHOWN]]
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(names)}{more})"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
