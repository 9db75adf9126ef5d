"""Where to compute, and in which precision."""
import contextlib
import os
from collections.abc import Iterator

import torch

from utilities.errors import UsageError

AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str = "auto", gpu: list[int] | None = None) -> torch.device:
    """The device that the flags ask for; a GPU that is not there is refused, not replaced."""
    if (gpu is not None or device == "cuda") and not torch.cuda.is_available():
        raise UsageError("--gpu and --device cuda need a GPU that this PyTorch can use, and there is none. Leave the "
                         "flag out, or pass --device cpu.")
    if device == "cpu" or not torch.cuda.is_available():
        if device == "auto":
            print("There is no GPU; computing on the CPU.")
        return torch.device("cpu")
    number = gpu[0] if gpu else 0
    if number >= torch.cuda.device_count():
        raise UsageError(f"--gpu {number}: this machine has {torch.cuda.device_count()} GPU(s), numbered from 0.")
    torch.cuda.set_device(number)                                                  # what names no number goes there too
    return torch.device("cuda", number)


def set_arithmetic(*, tf32: bool = True, deterministic: bool = False) -> None:
    """How GPUs compute from now on; to be called before the first one is used.

    tf32: products and convolutions of float32 may round their factors to 10 bits of a mantissa (Ampere and later);
    `full_precision` takes that back for what must not. deterministic: the same numbers at every call, with a warning of
    torch where an operation has no such form; otherwise the fastest kernels, found by measurement.
    """
    for part in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
        part.fp32_precision = "tf32" if tf32 else "ieee"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")                # what cuBLAS asks for
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, not deterministic


def require_compiler(device: torch.device) -> None:
    """A UsageError where torch.compile finds nothing to compile with for this device."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:                                                     # of many kinds, most of them private
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise UsageError(f"--compile finds no compiler for {device.type} ({cause}). Install "
                         f"{'a C++ compiler such as g++' if device.type == 'cpu' else 'the package triton'}, or leave "
                         "the flag out.") from error


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """Automatic mixed precision as `--amp` names it: 'none', 'bf16' or 'fp16'."""
    return torch.autocast(device.type, dtype=AMP[amp], enabled=amp != "none")


@contextlib.contextmanager
def full_precision(device: torch.device, until: torch.Tensor | None = None) -> Iterator[None]:
    """No TF32, bfloat16 or autocast inside: training may allow them, a loss or ranking must not depend on them.

    until: where a backward pass inside reaches the gradient of this tensor, TF32 is allowed again for what lies behind.
    """
    products = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn,
                torch.backends.mkldnn.matmul)
    before = [product.fp32_precision for product in products]

    def restore(*_) -> None:
        for product, precision in zip(products, before):
            product.fp32_precision = precision

    if until is not None and until.requires_grad:
        until.register_hook(restore)
    try:
        for product in products:
            product.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        restore()
