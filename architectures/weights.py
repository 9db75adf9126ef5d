"""Pretrained weights: where a library keeps them, and how a file of them gets into a network.

A file is read without pickle (architectures/state_dicts.py), checked by the digits of its SHA-256
sum that its name holds, and its tensors must be exactly those of the network.
"""
import math
import os
import re
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import nn

from architectures import state_dicts
from utilities.digest import sha256
from utilities.download import Unreachable, download
from utilities.errors import RunError, UsageError, in_brief, reason
from utilities.files import read_json
from utilities.lock import Lock

# Seconds before further attempts.
WAITS = (1, 2)
# Seconds for a server to answer.
TIMEOUT = 10
PREPROCESSING = ("image_size", "mean", "std", "channels", "value_range")
# what an export adds: the image's shorter side before the crop, and the input's side
GEOMETRY = ("resize", "crop")


class Source(NamedTuple):
    """A file of weights: its address, and what to know where it cannot be fetched.

    also: the addresses of other files with the same tensors. name: the file's name, where the
    address does not end with it.
    """

    url: str
    also: tuple[str, ...] = ()
    remark: str = ""
    name: str = ""

    @property
    def files(self) -> list[str]:
        """The names under which it is looked for."""
        return [self.name or file_of(self.url), *map(file_of, self.also)]

    def offline(self) -> str:
        """How to get the weights on a machine that cannot fetch them."""
        file = self.files[0]
        digits = digits_of(file)
        proof = f" (its SHA-256 sum begins with {digits})" if digits else ""
        return (
            f"{self.remark}Put {file}{proof} into a folder and pass --weights_dir FOLDER, or start "
            "from random weights by --not_pretrained."
        )


def file_of(url: str) -> str:
    """The name of the file at an address."""
    return url.rpartition("/")[2]


def digits_of(file: str) -> str:
    """The first digits of a file's SHA-256 sum, which PyTorch keeps in its name; '' without any."""
    found = re.search(r"-([0-9a-f]{8,64})\.", file)
    return found[1] if found else ""


def hub_source(repository: str) -> Source:
    """The weights in a repository of the Hugging Face hub, such as `timm/MODEL.TAG`.

    There all files have the same name; in a folder it is MODEL.TAG.safetensors.
    """
    # The hub's own client reads this variable too.
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    url = f"{endpoint}/{repository}/resolve/main/model.safetensors"
    return Source(url, name=f"{file_of(repository)}.safetensors")


def load_source(
    trunk: nn.Module,
    name: str,
    source: Source,
    weights_dir: str | None,
) -> None:
    """Load the library's weights into a trunk."""
    path = local_file(source, weights_dir) or fetch(name, source)
    state_dicts.load(trunk, state_dicts.read(path), path, name)


def local_file(source: Source, weights_dir: str | None) -> Path | None:
    """The file in --weights_dir, or where torch keeps downloads; None if it is in neither.

    A damaged file is refused.
    """
    folders = [hub_folder()]
    if weights_dir:
        if not Path(weights_dir).is_dir():
            raise UsageError(f"--weights_dir {weights_dir}: there is no such folder.")
        folders.insert(0, Path(weights_dir))
    for path in (folder / file for folder in folders for file in source.files):
        if path.is_file():
            verify(path, source)
            return path
    return None


def verify(path: Path, source: Source) -> None:
    """A RunError where the file's SHA-256 sum is not the one in its name."""
    digits = digits_of(path.name)
    if not digits:
        return
    found = sha256(path)[: len(digits)]
    if found != digits:
        raise RunError(
            f"{path} is damaged or another file: its SHA-256 sum begins with {found} instead of "
            f"{digits}. Delete it and fetch it again from {source.url}."
        )


def fetch(name: str, source: Source) -> Path:
    """Download the file to where torch keeps its own, in one process at a time."""
    folder = hub_folder()
    path = folder / source.files[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Lock(folder):
            if not path.is_file():
                digits = digits_of(path.name) or None
                download(source.url, path, digits, sum_of=sha256, waits=WAITS,
                         elsewhere="set TORCH_HOME to another folder")
    except Unreachable as failure:
        raise unreachable(name, source, failure.reason) from failure
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written ({reason(error)}): allow it, or set TORCH_HOME to another "
            "folder."
        ) from error
    return path


def unreachable(name: str, source: Source, cause: str) -> RunError:
    """The sentence for weights that could not be fetched."""
    return RunError(
        f"The pretrained weights of {name} could not be fetched from {source.url} ({cause}). "
        f"{source.offline()}"
    )


def require_answer(name: str, source: Source) -> None:
    """A RunError if no server answers at the source's address; the answer may be any."""
    try:
        urlopen(Request(source.url, method="HEAD"), timeout=TIMEOUT).close()
    except HTTPError as answer:
        answer.close()
    # a ValueError: not an address, as HF_ENDPOINT may give
    except (OSError, ValueError, HTTPException) as error:
        raise unreachable(name, source, in_brief(getattr(error, "reason", error))) from error


def hub_folder() -> Path:
    """Where torch and its libraries keep what they have downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def load_file(trunk: nn.Module, path: str, name: str) -> str:
    """Load --weights into the trunk of the architecture `name`.

    Returns a sentence on what was loaded and what was not.
    """
    return state_dicts.load(trunk, state_dicts.read(Path(path)), Path(path), name)


def preprocessing_beside(path: str) -> dict:
    """The preprocessing in the model.json beside a file of weights, with the sides of GEOMETRY
    where it has both; empty without that file.
    """
    beside = Path(path).with_name("model.json")
    if not beside.is_file():
        return {}
    try:
        return _complete(read_json(beside)["preprocessing"])
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f'{beside} has no complete "preprocessing" ({", ".join(PREPROCESSING)}): correct it, '
            "or move it away and pass --input_mean and its like."
        ) from None


def flags_beside(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same as flags of main.py, without those that `given` has; its sizes exclude the file's."""
    found = preprocessing_beside(path)
    size = found.pop("image_size", None)
    resize, crop = (found.pop(name, None) for name in GEOMETRY)
    flags = {f"input_{name}": value for name, value in found.items()} | {"image_size": size}
    if crop and not (given.get("image_size") or given.get("crop_size")):
        flags |= {"image_size": resize, "crop_size": crop}
    return {flag: value for flag, value in flags.items() if given.get(flag) is None}


def _complete(found: dict) -> dict:
    """All entries of a preprocessing; ValueError, KeyError or TypeError if one is wrong."""
    mean = tuple(found["mean"])
    std = tuple(found["std"])
    positive = [found["image_size"], found["value_range"], *std]
    valid = (
        len(mean) == len(std) == 3
        and found["channels"] in ("RGB", "BGR")
        and isinstance(found["image_size"], int)
        and all(type(x) in (int, float) and math.isfinite(x) for x in [*mean, *positive])
        and min(positive) > 0
    )
    if not valid:
        raise ValueError
    names = PREPROCESSING
    if found.keys() >= set(GEOMETRY):
        names += GEOMETRY
        resize, crop = (found[name] for name in GEOMETRY)
        if not (type(resize) is type(crop) is int and 0 < crop <= resize):
            raise ValueError
    return {name: found[name] for name in names} | {"mean": mean, "std": std}
