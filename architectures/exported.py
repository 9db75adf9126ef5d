"""The folder that architectures.export writes: the weights in one file, and what they are."""
from pathlib import Path
from typing import Any

from architectures import state_dicts
from utilities.digest import sha256
from utilities.errors import RunError, UsageError
from utilities.files import read_json

DESCRIPTION = "model.json"
WEIGHTS = {"safetensors": "model.safetensors", "onnx": "model.onnx"}


def describe(folder: str | Path) -> dict[str, Any]:
    """The content of an exported folder's model.json, if the weights have the checksum in it."""
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise UsageError(
            f"{folder} is not the folder of an exported model: it has no {DESCRIPTION}; give a "
            "checkpoint or a folder that architectures.export wrote."
        )
    content = read_json(path)
    try:
        weights = Path(folder) / WEIGHTS[content["format"]]
        digest = content["weights"]["sha256"]
        if not isinstance(content["flags"], dict):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise RunError(
            f"{path} is damaged, or of another version; export the checkpoint again."
        ) from None
    if not weights.is_file() or sha256(weights) != digest:
        raise RunError(
            f"{weights} is missing, or is not the file that {DESCRIPTION} describes (its SHA-256 "
            "differs); export the checkpoint again."
        )
    return content


def load(folder: str | Path) -> dict[str, Any]:
    """The state of an exported network as a checkpoint holds it: `network`, tensors, and `options`.

    A safetensors file holds nothing but tensors. ONNX is for other programs: a UsageError.
    """
    content = describe(folder)
    if content["format"] != "safetensors":
        raise UsageError(
            f"{folder} holds a model for ONNX runtimes; export the checkpoint with "
            "--format safetensors, or give the checkpoint itself."
        )
    tensors = state_dicts.read(Path(folder) / WEIGHTS["safetensors"])
    return {"network": tensors, "options": content["flags"]}
