"""Progress bars: on a terminal; in a file they would leave a line for every state."""
import sys

from tqdm import tqdm

from utilities.streams import Shown


def new_bar(*arguments, hidden: bool = False, **keywords) -> tqdm:
    """A bar as tqdm's, gone when it is full unless `leave` is set; none where standard error is no
    terminal, or where it is `hidden`.
    """
    stream = sys.stderr.raw if isinstance(sys.stderr, Shown) else sys.stderr
    settings = {"leave": False} | keywords
    return tqdm(*arguments, file=stream, disable=hidden or None, **settings)
