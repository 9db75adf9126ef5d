"""Where to compute, and in which precision."""
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
    return torch.device("cuda", number)


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """Automatic mixed precision as `--amp` names it: 'none', 'bf16' or 'fp16'."""
    return torch.autocast(device.type, dtype=AMP[amp], enabled=amp != "none")
