"""Several processes as one: `torchrun` starts them, each computes its part of the images.

Without torchrun there is one process, and everything here is the identity.
"""
import contextlib
import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from utilities.errors import RunError

# In the sentences of torch about a process that did not answer.
LATE = ("timed out", "timeout")


def join(device: torch.device, minutes: float) -> None:
    """Join the processes that torchrun has started, by nccl on GPUs and gloo on CPUs.

    Processes that share a GPU, which nccl refuses, join by gloo too.

    minutes: how long each waits for another, also for the first while it computes the metrics.
    """
    if _started_by_torchrun() and not _joined():
        gpu = device if device.type == "cuda" and not _gpus_are_shared() else None
        backend = "nccl" if gpu else "gloo"
        limit = datetime.timedelta(minutes=minutes)
        dist.init_process_group(backend, timeout=limit, device_id=gpu)


def leave() -> None:
    """Leave the other processes; they need not be alive."""
    if _joined():
        dist.destroy_process_group()


@contextlib.contextmanager
def name_lost_processes() -> Iterator[None]:
    """Turn the error of an exchange with a process that has ended or hangs into one sentence."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or "gloo" in str(error)
        if lost and _started_by_torchrun():
            own = os.environ.get("RANK")
            if any(word in str(error).lower() for word in LATE):
                raise RunError(
                    f"Process {own} ends: another one has not answered for --timeout_minutes. It "
                    "may hang, or need longer: --resume continues from the last checkpoint."
                ) from error
            raise RunError(
                f"Process {own} ends too: it has lost the others, of which one has failed and "
                "says why."
            ) from error
        raise


@contextlib.contextmanager
def print_on_rank_zero() -> Iterator[None]:
    """Inside, the processes of torchrun print errors, the first also all else; then they leave."""
    with contextlib.ExitStack() as stack:
        stack.callback(leave)
        if int(os.environ.get("RANK", 0)) > 0:
            silence = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(silence))
        yield


def _started_by_torchrun() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _joined() else 1


def own_gpu() -> int | None:
    """The number of this process's GPU; None without torchrun, or without a GPU.

    Where a machine has more processes than GPUs, they take turns at them.
    """
    if not _started_by_torchrun() or not torch.cuda.is_available():
        return None
    return int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count()


def _gpus_are_shared() -> bool:
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > torch.cuda.device_count()


def gather_rows(own: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks; no gradient.

    (B, ...) -> (world * B, ...)
    """
    if world() == 1:
        return own
    rows = own.new_empty(world() * len(own), *own.shape[1:])  # (world * B, ...)
    dist.all_gather_into_tensor(rows, own.contiguous())
    return rows


def sum_in_place(tensors: list[Tensor]) -> None:
    """Replace tensors, which all processes hold in the same order, by their sums.

    One exchange for each type. Memory: a copy of the tensors.
    """
    if world() == 1:
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in group])
        dist.all_reduce(flat)
        sums = flat.split([tensor.numel() for tensor in group])
        for tensor, total in zip(group, sums):
            tensor.copy_(total.view_as(tensor))


def mean_in_place(tensors: list[Tensor]) -> None:
    """As sum_in_place, divided by the number of processes.

    Equal tensors stay bit for bit among two or four processes, up to rounding among others.
    """
    sum_in_place(tensors)
    if world() > 1 and tensors:
        torch._foreach_div_(tensors, world())


def largest(number: int, device: torch.device) -> int:
    """The largest of the numbers that the processes hold, in all of them."""
    if world() == 1:
        return number
    value = torch.tensor(number, device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def broadcast_from_first(
    values: dict[str, float] | None, names: list[str], device: torch.device
) -> dict[str, float]:
    """The numbers that the first process holds under these names, in all; the others pass None."""
    if world() == 1:
        return values
    numbers = [values[name] for name in names] if values else [0.0] * len(names)
    row = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.broadcast(row, 0)
    return dict(zip(names, row.tolist()))
