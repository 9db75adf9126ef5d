"""Which tensors can be the weights of a network, and which weights they are."""
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, strided


def unusable(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of tensors that cannot stand in the place of those of a network, with the reason.

    Torch would copy whole and complex numbers without a word. Both have the same names and shapes.
    """
    for name, tensor in given.items():
        if flaw := flaw_of(tensor, wanted[name]):
            yield f"{name}: {flaw}"


def flaw_of(tensor: Tensor, wanted: Tensor) -> str | None:
    """What is wrong with a tensor, or None."""
    if tensor.is_meta or tensor.layout != strided:
        return "without plain values"
    if tensor.is_floating_point() != wanted.is_floating_point() or tensor.is_complex():
        return str(tensor.dtype).removeprefix("torch.")
    if not tensor.isfinite().all():
        return "NaN or inf"
    return None


def add_to_digest(digest, tensors: dict[str, Tensor]) -> None:
    """Add names and bytes of the tensors to a digest of hashlib, whatever their order."""
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
