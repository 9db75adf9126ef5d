"""A quick start: names of a package that are loaded when they are first used, and torch without its garbage."""
import contextlib
import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def loader(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: each name, and the module of the package that defines it."""
    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
    return load


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Inside, nothing looks for garbage: torch makes half a million objects and keeps them, in 0.2 s less."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
