"""Blocks of work on all threads of PyTorch, each block on a thread of its own."""
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

TILE_SIDE = 768  # rows and columns of a table of products that stays in a CPU's cache


def map_blocks(function: Callable, blocks: Iterable, parallel: bool) -> Iterator:
    """function(block) for every block, in order, without gradients; parallel: on all threads.

    A block of many short operations is faster on one thread: split over all threads, each
    operation waits for the slowest. At most two results a thread wait to be taken.
    """
    threads = torch.get_num_threads()
    quiet = torch.no_grad()(function)
    if not parallel or threads == 1:
        yield from map(quiet, blocks)
        return
    one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
    try:
        with ThreadPoolExecutor(threads, **one_thread) as pool:
            waiting = deque()
            for block in blocks:
                waiting.append(pool.submit(quiet, block))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        # for threads that start later; this thread never had fewer
        torch.set_num_threads(threads)
