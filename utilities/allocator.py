"""Memory that is freed stays with the process, so that the next step need not ask for it again.

glibc maps each large block anew and gives it back when it is freed; the system then clears every
page again. Between a seventh and a half of a training step on a CPU goes into that (measured in
docs/benchmarks.md).
"""
import ctypes
import os
import platform

# Of glibc's malloc.h.
TRIM_THRESHOLD = -1
MMAP_MAX = -4
CHOSEN = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Blocks come from a heap that only grows; whether that could be arranged.

    The process then holds its peak until it ends, and gaps between blocks add to it. To be called
    before the first large tensor. Nothing happens without glibc, or where the environment sets
    its malloc already.
    """
    is_chosen = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if is_chosen or not os.environ.keys().isdisjoint(CHOSEN):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1))
