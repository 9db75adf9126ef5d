"""The value of a flag: as a file records it, and as a user types it."""


def as_recorded(value):
    """The value as JSON keeps it: a tuple as a list."""
    return list(value) if isinstance(value, tuple) else value


def value_as_typed(value) -> str:
    """The value of a flag as it is typed, without the flag."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def as_typed(name: str, value) -> str:
    """A recorded flag as it is typed."""
    if value is None:
        return f"no --{name}"
    if value is True:
        return f"--{name}"
    return f"--{name} {value_as_typed(value)}"
