"""Blocks of work on as many threads as PyTorch would use for one operation, each block on a thread of its own."""
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


def map_blocks(function: Callable, blocks: Iterable, parallel: bool) -> Iterator:
    """function(block) for every block, in order, without gradients; one after the other where it is not to be parallel.

    Where a block takes many short operations, splitting each of them over the threads makes every thread wait for the
    slowest at every step, which costs most where other programs run; whole blocks do not wait for each other. No more
    than two blocks a thread are computed before they are taken.
    """
    threads = torch.get_num_threads()
    quiet = torch.no_grad()(function)
    if not parallel or threads == 1:
        yield from map(quiet, blocks)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting = deque()
            for block in blocks:
                waiting.append(pool.submit(quiet, block))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)  # for threads that are yet to start; this one never had fewer
