"""Blocks of work on as many threads as PyTorch would use for one operation, each block on a thread of its own."""
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


def map_blocks(function: Callable, blocks: Iterable, device: torch.device) -> Iterator:
    """function(block) for every block, in order, without gradients; on an accelerator simply one after the other.

    Where a block takes many short operations, splitting each of them over the threads makes every thread wait for the
    slowest at every step, which costs most where other programs run; whole blocks do not wait for each other.
    """
    threads = torch.get_num_threads()
    quiet = torch.no_grad()(function)
    if device.type != "cpu" or threads == 1:
        yield from map(quiet, blocks)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(quiet, blocks)
    finally:
        torch.set_num_threads(threads)  # for threads that are yet to start; this one never had fewer
