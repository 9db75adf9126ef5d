"""Exact-name lookup in the literal dictionaries that every room keeps."""
import difflib
import inspect

from utilities.errors import UsageError


def lookup(registry: dict, name: str, kind: str, flag: str):
    """The entry of `registry` called `name`; a UsageError that lists and suggests names otherwise."""
    if name in registry:
        return registry[name]
    close = difflib.get_close_matches(name, registry, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"{flag} {name}: there is no {kind} of this name.{hint} Choose one of: {', '.join(registry)}.")


def accepted(cls: type, arguments: dict) -> dict:
    """Those of `arguments` that the constructor of `cls` takes."""
    return {name: value for name, value in arguments.items() if name in inspect.signature(cls).parameters}
