"""Exact-name lookup in the literal dictionaries of every room, and classes of a user's own file."""
import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Collection, Iterable

from utilities.errors import UsageError, in_brief


def lookup(registry: dict, name: str, kind: str, flag: str):
    """The entry of `registry` called `name`; else a UsageError that lists and suggests names."""
    if name in registry:
        return registry[name]
    hint = did_you_mean(name, registry)
    choices = ", ".join(registry)
    raise UsageError(f"{flag} {name}: there is no {kind} of this name.{hint} "
                     f"Choose one of: {choices}.")


def known_name(name: str, names: Iterable[str], kind: str, flag: str) -> None:
    """A UsageError, as of `lookup`, for a name that is not one of these."""
    lookup(dict.fromkeys(names), name, kind, flag)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion, with a space before it; empty where no known name is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def accepted(cls: type, arguments: dict) -> dict:
    """Those of `arguments` that the constructor of `cls` takes."""
    known = inspect.signature(cls).parameters
    return {name: value for name, value in arguments.items() if name in known}


def own_class(name: str, base: type, given: Collection[str], flag: str) -> type:
    """The class `module.Class` of a user's own file: a subclass of `base`.

    The file is beside main.py, in the current folder or elsewhere on Python's path. `given` names
    the constructor's arguments that the caller passes; every other one needs a default. A
    UsageError says what is missing.
    """
    module_name, _, class_name = name.rpartition(".")
    module = own_module(module_name, f"{flag} {name}")
    classes = dict(inspect.getmembers(module, inspect.isclass))
    cls = classes.get(class_name)
    if cls is None:
        hint = did_you_mean(class_name, classes)
        raise UsageError(f"{flag} {name}: {module_name} has no class {class_name}.{hint}")
    if not issubclass(cls, base):
        raise UsageError(f"{flag} {name}: {class_name} must be a subclass of "
                         f"{base.__module__}.{base.__name__}.")
    for argument in inspect.signature(cls).parameters.values():
        named = argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
        if named and argument.default is argument.empty and argument.name not in given:
            raise UsageError(f"{flag} {name}: its constructor's argument {argument.name} needs a "
                             "default, which you set in the file.")
    return cls


def own_module(name: str, asked: str):
    """The module of that name; a UsageError, which begins with what was asked, where it is none."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise UsageError(f"{asked}: there is no module {name}: put {name}.py beside main.py or "
                             "in the current folder.") from None
        kind = type(error).__name__
        raise UsageError(f"{asked}: module {name} fails on import: "
                         f"{kind}: {in_brief(error)}") from error
