"""What goes wrong in a loader's worker process, in one sentence."""
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
