"""The value of a flag: as a file records it, and as a user types it."""


def as_recorded(value):
    """The value as JSON keeps it: a tuple as a list."""
    return list(value) if isinstance(value, tuple) else value


def as_typed(name: str, value) -> str:
    """A recorded flag as it is typed."""
    if value is None:
        return f"no --{name}"
    if value is True:
        return f"--{name}"
    words = map(str, value) if isinstance(value, list) else [str(value)]
    return f"--{name} {' '.join(words)}"
