"""Pretrained weights: where a library keeps them, and how a file of them gets into a network.

A file is read without pickle (architectures/state_dicts.py), checked by the digits of its SHA-256 sum that its name
holds, and its tensors must be exactly those of the network.
"""
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn

from architectures import state_dicts
from utilities.digest import sha256
from utilities.download import Unreachable, download
from utilities.errors import RunError, UsageError, in_brief, reason
from utilities.lock import Lock

WAITS = (1, 2)                                                                     # seconds before further attempts
PATIENCE = 10                                                                      # seconds for a server to answer
HUB = "{}/{}/resolve/main/model.safetensors"                                       # endpoint, repository
PREPROCESSING = {"image_size": int, "mean": list, "std": list, "channels": str, "value_range": (int, float)}


class Source(NamedTuple):
    """A file of weights: its address, other files with the same tensors, and what to know where it cannot be had."""

    url: str
    also: tuple[str, ...] = ()
    remark: str = ""
    name: str = ""                                                                 # where it is not that in the address

    @property
    def files(self) -> list[str]:
        """The names under which it is looked for."""
        return [self.name or file_of(self.url), *map(file_of, self.also)]

    def offline(self) -> str:
        """How to come by the weights on a machine that cannot fetch them."""
        file, digits = self.files[0], digits_of(self.files[0])
        proof = f" (its SHA-256 sum begins with {digits})" if digits else ""
        return (f"{self.remark}Put {file}{proof} into a folder and pass --weights_dir FOLDER, or start from random "
                "weights by --not_pretrained.")


def file_of(url: str) -> str:
    """The name of the file at an address."""
    return url.rsplit("/", 1)[-1]


def digits_of(file: str) -> str:
    """The first digits of a file's SHA-256 sum, which PyTorch and its libraries keep in its name; '' without any."""
    found = re.search(r"-([0-9a-f]{8,64})\.", file)
    return found[1] if found else ""


def hub_source(repository: str) -> Source:
    """The weights in a repository of the Hugging Face hub, `timm/MODEL.TAG`; there all files have the same name, in a
    folder it is MODEL.TAG.safetensors."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")             # as the hub's own client
    return Source(HUB.format(endpoint, repository), name=f"{repository.rsplit('/', 1)[-1]}.safetensors")


def load_source(trunk: nn.Module, name: str, source: Source, weights_dir: str | None,
                adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> None:
    """Load the library's weights into a trunk; `adapt` changes the file's tensors before they are matched."""
    path = local_file(source, weights_dir) or fetch(name, source)
    state_dicts.load(trunk, adapt(state_dicts.read(path)), path, name)


def local_file(source: Source, weights_dir: str | None) -> Path | None:
    """The file in --weights_dir, or where torch keeps what it has downloaded; None where it is in neither. One that is
    damaged is refused."""
    if weights_dir and not Path(weights_dir).is_dir():
        raise UsageError(f"--weights_dir {weights_dir}: there is no such folder.")
    for folder in ([Path(weights_dir)] if weights_dir else []) + [hub_folder()]:
        for path in (folder / file for file in source.files if (folder / file).is_file()):
            verify(path, source)
            return path
    return None


def verify(path: Path, source: Source) -> None:
    """A RunError where the file's SHA-256 sum is not the one in its name."""
    digits = digits_of(path.name)
    if digits and (found := sha256(path)[:len(digits)]) != digits:
        raise RunError(f"{path} is damaged or another file: its SHA-256 sum begins with {found} instead of {digits}. "
                       f"Delete it and fetch it again from {source.url}.")


def fetch(name: str, source: Source) -> Path:
    """Download the file to where torch keeps its own; one process at a time, the others find it there."""
    folder = hub_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Lock(folder):
            path = folder / source.files[0]
            if not path.is_file():
                download(source.url, path, sha256=digits_of(path.name) or None, waits=WAITS)
            return path
    except Unreachable as failure:
        raise unreachable(name, source, failure.reason) from failure
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({reason(error)}): allow it, or set TORCH_HOME to "
                       "another folder.") from error


def unreachable(name: str, source: Source, reason: str) -> RunError:
    """The sentence for weights that could not be fetched."""
    return RunError(f"The pretrained weights of {name} could not be fetched from {source.url} ({reason}). "
                    f"{source.offline()}")


def must_answer(name: str, source: Source) -> None:
    """A RunError where nothing answers at the source's address; whatever an answer says is good enough."""
    try:
        urlopen(Request(source.url, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError as answer:
        answer.close()
    except OSError as error:
        raise unreachable(name, source, in_brief(getattr(error, "reason", error))) from error


def hub_folder() -> Path:
    """Where torch and its libraries keep what they have downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"


# ------------------------------------------------------------------------------------------------- a file of the user


def load_file(trunk: nn.Module, path: str, name: str) -> str:
    """Load --weights into the trunk of the architecture `name`; returns a sentence on what was loaded and what not."""
    return state_dicts.load(trunk, state_dicts.read(Path(path)), Path(path), name)


def preprocessing_beside(path: str) -> dict:
    """The preprocessing that a model.json beside a file of weights asks for; empty where there is none."""
    beside = Path(path).with_name("model.json")
    if not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))["preprocessing"]
        if not _complete(found):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{beside} has no complete \"preprocessing\" ({', '.join(PREPROCESSING)}): correct it, or "
                         "move it away and pass --input_mean and its like.") from None
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
            if key in PREPROCESSING}


def _complete(found: dict) -> bool:
    """Whether a preprocessing names everything, of the right kind."""
    kinds = all(isinstance(found[key], kind) and not isinstance(found[key], bool)
                for key, kind in PREPROCESSING.items())
    numbers = [*found["mean"], *found["std"], found["value_range"]] if kinds else []
    return (kinds and len(found["mean"]) == len(found["std"]) == 3 and found["channels"] in ("RGB", "BGR")
            and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in numbers)
            and min(found["std"]) > 0 and found["image_size"] > 0 and found["value_range"] > 0)
