"""When a loader's worker process ends, and what goes wrong in it in one sentence."""
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from utilities.errors import RunError


@contextmanager
def one_sentence() -> Iterator[None]:
    """A RunError in place of torch's page when a worker process ended by itself; other errors pass as they are."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError("A worker process that loads images ended by itself, mostly for want of memory; run again with "
                       "fewer workers (--kernels 0 loads in the main process).") from None


def stay(main: int, worker: int) -> None:
    """In a worker: let the process `main` alone say when to end.

    Ctrl-C, and SIGTERM as schedulers send it, reach all processes of a run at once. Workers that ended then would take
    the next batches with them, before the main process has written its checkpoint.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):                                             # it tells the sender; not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(main,), daemon=True).start()


def _end_with(main: int) -> None:
    """Wait for SIGTERM from `main`, then end."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)
