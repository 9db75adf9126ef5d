"""Packages that only some flags need."""
import importlib.util

from utilities.errors import UsageError


def installed(package: str) -> bool:
    """Whether a package can be imported; it is not imported."""
    return importlib.util.find_spec(package) is not None


def require(purpose: str, *packages: str) -> None:
    """A UsageError with the pip command if a package that `purpose` needs is not installed."""
    missing = [package for package in packages if not installed(package)]
    if missing:
        raise UsageError(
            f"{purpose} needs {' and '.join(missing)}: run pip install {' '.join(missing)}."
        )
