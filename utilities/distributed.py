"""Several processes as one: `torchrun` starts them, each computes its share of the images, and all agree on the rest.

Without torchrun there is one process, and everything here is the identity.
"""
import contextlib
import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from utilities.errors import RunError, UsageError

PATIENCE = datetime.timedelta(hours=2)   # others wait while the first process computes the metrics


def join(device: torch.device) -> None:
    """Join the processes that torchrun has started, by nccl on GPUs and gloo on CPUs; alone, do nothing."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not _joined():
        gpu = device if device.type == "cuda" else None
        dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, device_id=gpu)


@contextlib.contextmanager
def lost_ones_named() -> Iterator[None]:
    """An exchange that fails because another process has ended becomes one sentence, which leaves the reason to it."""
    try:
        yield
    except RuntimeError as error:
        if world() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise RunError(f"Process {rank()} ends too: it has lost the others, of which one has failed and says why."
                           ) from error
        raise


@contextlib.contextmanager
def first_speaks() -> Iterator[None]:
    """Inside, only the first of the processes that torchrun has started prints, errors apart; at the end they part."""
    try:
        with contextlib.ExitStack() as stack:
            if int(os.environ.get("RANK", 0)) > 0:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            yield
    finally:
        leave()


def leave() -> None:
    """Part from the other processes; they need not be alive."""
    if _joined():
        dist.destroy_process_group()


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _joined() else 1


def local_rank() -> int | None:
    """The number of this process among those of its machine, which is that of its GPU; None without torchrun."""
    return int(os.environ["LOCAL_RANK"]) if int(os.environ.get("WORLD_SIZE", 1)) > 1 else None


def share(size: int, what: str) -> slice:
    """This process's rows of `size`; a UsageError where they cannot be shared equally."""
    if size % world():
        raise UsageError(f"{what} {size} cannot be shared by {world()} processes; choose a multiple of {world()}.")
    own = size // world()
    return slice(rank() * own, (rank() + 1) * own)


def gathered(own: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, (world * B, ...) from (B, ...); no gradient."""
    if world() == 1:
        return own
    whole = own.new_empty(world() * len(own), *own.shape[1:])
    dist.all_gather_into_tensor(whole, own.contiguous())
    return whole


def sum_(tensors: list[Tensor]) -> None:
    """Add up, in place, tensors that every process holds in the same order, by one exchange for each type. Memory: a
    copy of them."""
    if world() == 1:
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in alike])
        dist.all_reduce(flat)
        for tensor, part in zip(alike, flat.split([tensor.numel() for tensor in alike])):
            tensor.copy_(part.view_as(tensor))


def mean_(tensors: list[Tensor]) -> None:
    """As sum_, divided by the number of processes: what all have computed alike stays alike to the last bit."""
    sum_(tensors)
    if world() > 1 and tensors:
        torch._foreach_div_(tensors, world())


def largest(number: int, device: torch.device) -> int:
    """The largest of the numbers that the processes hold; all hear the same."""
    if world() == 1:
        return number
    found = torch.tensor(number, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def from_first(values: dict[str, float] | None, names: list[str], device: torch.device) -> dict[str, float]:
    """The numbers that the first process holds under these names, for all; the others pass None."""
    if world() == 1:
        return values
    row = torch.tensor([values[name] for name in names] if values else [0.0] * len(names), dtype=torch.float64,
                       device=device)
    dist.broadcast(row, 0)
    return dict(zip(names, row.tolist()))
