"""Where to compute, and in which precision."""
import contextlib
import os
from collections.abc import Iterator

import torch

from utilities.errors import UsageError, in_brief

AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}
DEVICES = ("auto", "cpu", "cuda")
COMPILERS = {"cpu": "a C++ compiler such as g++", "cuda": "the package triton"}
GPU_PRODUCTS = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.cudnn.rnn,
)
PRODUCTS = (*GPU_PRODUCTS, torch.backends.mkldnn.matmul)


def choose_device(
    device: str | torch.device = "auto", gpu: list[int] | None = None
) -> torch.device:
    """The device that the flags ask for; a GPU that is not there is refused, not replaced.

    device: 'auto', 'cpu', 'cuda', or 'cuda:N', which is gpu [N].
    """
    device, _, number = str(device).partition(":")
    if device not in DEVICES or number and not (device == "cuda" and number.isdecimal()):
        raise UsageError(f"device {device}: choose one of {', '.join(DEVICES)}.")
    if number:
        gpu = [int(number)]
    available = torch.cuda.is_available()
    if (gpu is not None or device == "cuda") and not available:
        raise UsageError(
            "--gpu and --device cuda need a GPU that this PyTorch can use, and there is none. "
            "Leave the flag out, or pass --device cpu."
        )
    if device == "auto" and not available:
        print("There is no GPU; computing on the CPU.")
    if device == "cpu" or not available:
        return torch.device("cpu")
    number = gpu[0] if gpu else 0
    count = torch.cuda.device_count()
    if number >= count:
        raise UsageError(
            f"--gpu {number}: this machine has {count} GPU(s), numbered from 0."
        )
    # Tensors on "cuda" without a number go there too.
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def set_arithmetic(*, tf32: bool = True, deterministic: bool = False) -> None:
    """How GPUs compute from now on; to be called before the first one is used.

    tf32: products and convolutions of float32 may round their factors to 10 bits of a mantissa
    (Ampere and later); `full_precision` forbids that again. deterministic: the same numbers at
    every call, with a warning of torch where an operation has no such form; otherwise the fastest
    kernels, found by measurement.
    """
    for product in GPU_PRODUCTS:
        product.fp32_precision = "tf32" if tf32 else "ieee"
    if deterministic:
        # cuBLAS asks for it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The call imports torch's compiler, which takes longer than torch itself.
    if deterministic or torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def require_compiler(device: torch.device) -> None:
    """A UsageError where torch.compile finds nothing to compile with for this device."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    # Its errors are of many types, most of them private.
    except Exception as error:
        raise UsageError(
            f"--compile finds no compiler for {device.type} ({in_brief(error)}). Install "
            f"{COMPILERS[device.type]}, or leave the flag out."
        ) from error


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """Automatic mixed precision as `--amp` names it: 'none', 'bf16' or 'fp16'."""
    return torch.autocast(device.type, dtype=AMP[amp], enabled=amp != "none")


@contextlib.contextmanager
def full_precision(device: torch.device, until: torch.Tensor | None = None) -> Iterator[None]:
    """No TF32, bfloat16 or autocast inside: no loss or ranking may depend on what training allows.

    until: where a backward pass inside reaches the gradient of this tensor, TF32 is allowed again
    for what lies behind.
    """
    before = [product.fp32_precision for product in PRODUCTS]

    def restore(*_) -> None:
        for product, precision in zip(PRODUCTS, before):
            product.fp32_precision = precision

    if until is not None and until.requires_grad:
        until.register_hook(restore)
    try:
        for product in PRODUCTS:
            product.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        restore()
