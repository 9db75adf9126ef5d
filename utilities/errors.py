"""The two errors that a user can cause; main.py turns each into one sentence and an exit code."""


class UsageError(Exception):
    """The command asks for something that cannot be done as written (exit code 2)."""


class RunError(Exception):
    """The command was right, but something failed while it ran (exit code 1)."""
