"""How many processor cores there are to use."""
import os


def usable_cores() -> int:
    """Those that this process may run on, which may be fewer than the machine has."""
    # macOS and Windows do not tell
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
