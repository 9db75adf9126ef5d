"""explorer.html: one page to explore test images, their neighbours, their classes and the 2-D map.

The page contains everything it shows and sends no request. A run writes it after training; the
command makes it of the files that evaluation.embed writes, or of any others of their form. The
names are loaded when they are first used, so that the command starts without torch.
"""
from utilities.lazy import loader

FILES = {
    "NEIGHBOURS": "data",
    "Heading": "page",
    "explore": "data",
    "write_explorer": "page",
    "write_run_explorer": "page",
}
__all__ = list(FILES)
__getattr__ = loader(__name__, FILES)
