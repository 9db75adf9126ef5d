"""Work on many images in worker processes: when these end, and what goes wrong in them in one
sentence.
"""
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils.data import DataLoader

from utilities.allocator import keep_freed_memory
from utilities.errors import RunError


@contextmanager
def one_sentence() -> Iterator[None]:
    """A RunError in place of torch's page when a worker process ended by itself; other errors
    pass as they are.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError("A worker process that loads images ended by itself, mostly for lack of "
                       "memory; run again with fewer workers (--kernels 0 loads in the main "
                       "process).") from None


def computed(function: Callable, items: Sequence, workers: int) -> Iterator:
    """What the function gives for each item, in their order, computed by so many worker
    processes.
    """
    # without a generator of its own the loader would draw from the global stream
    loader = DataLoader(items, batch_size=None, collate_fn=function, num_workers=workers,
                        generator=torch.Generator())
    with one_sentence():
        yield from loader


def start_worker(main: int, worker: int) -> None:
    """In a worker, before its first image: it keeps its memory, and only the process `main` decides
    when it ends.

    Ctrl-C, SIGTERM as schedulers send it, and SIGHUP of a closed terminal reach all processes of a
    run at once. Workers that ended then would take the next batches with them, before the main
    process has written its checkpoint.
    """
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Windows has none
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # sigwaitinfo tells the sender; macOS has none
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(main,), daemon=True).start()


def _end_with(main: int) -> None:
    """Wait for SIGTERM from `main`, then end."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)
