"""Ranges of numbers; each stands once, at the flag or at the argument of the class that it limits.

A range is the `type` of a flag. In a signature it stands as an annotation, `tau: Positive = 0.01`:
the flag of that argument takes it from there, and `checked` has the constructor look at it.
"""
import argparse
import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Annotated, get_args

from utilities.errors import UsageError

LARGEST = sys.float_info.max
LONG = 2**63
MANY = 2**31 - 1


@dataclass(frozen=True)
class Number:
    """The numbers of a kind, int or float, for which `holds` is true; `words` says which."""

    kind: type
    words: str
    holds: Callable[[float], bool]

    def __call__(self, text: str) -> int | float:
        """The number that a flag's text stands for."""
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if not self.has(value):
            raise argparse.ArgumentTypeError(self.problem(text))
        return value

    def has(self, value: object) -> bool:
        """Whether a value of any type is one of these numbers."""
        number = Integral if self.kind is int else Real
        if isinstance(value, bool) or not isinstance(value, number):
            return False
        # LARGEST would be infinite in a narrower type of NumPy
        value = value if isinstance(value, Integral) else float(value)
        return abs(value) <= LARGEST and self.holds(value)

    def problem(self, value: object) -> str:
        """What is wrong with a value."""
        return f"{value} is not {self.words}"


def whole(low: int, high: int) -> Number:
    """The whole numbers from `low` to `high`."""
    words = f"a whole number of at least {low} and at most {high:,}"
    return Number(int, words, lambda x: low <= x <= high)


finite = Number(float, "a finite number", lambda x: True)
non_negative = Number(float, "a number of at least 0", lambda x: x >= 0)
positive = Number(float, "a number above 0", lambda x: x > 0)
share = Number(float, "a number between 0 and 1", lambda x: 0 < x < 1)
below_one = Number(float, "a number of at least 0 and less than 1", lambda x: 0 <= x < 1)
probability = Number(float, "a number from 0 to 1", lambda x: 0 <= x <= 1)
cosine = Number(float, "a number from -1 to 1", lambda x: -1 <= x <= 1)
degrees = Number(float, "an angle between 0 and 90 degrees", lambda x: 0 < x < 90)
long = Number(int, "a whole number of 64 bits", lambda x: -LONG <= x < LONG)
positive_int = whole(1, MANY)
non_negative_int = whole(0, MANY)
# of a layer, and of an embedding
width = whole(1, 16_384)
port = whole(0, 65_535)
# of layers, and of whatever else is repeated
depth = whole(1, 1_024)
# sides of an image
pixels = whole(1, 8_192)
# of an embedding that is the feature itself
NO_PROJECTION = "none"

Finite = Annotated[float, finite]
NonNegative = Annotated[float, non_negative]
Positive = Annotated[float, positive]
Probability = Annotated[float, probability]
Degrees = Annotated[float, degrees]
Long = Annotated[int, long]
PositiveInt = Annotated[int, positive_int]
NonNegativeInt = Annotated[int, non_negative_int]
Width = Annotated[int, width]
Depth = Annotated[int, depth]
# Where a file is a class that a flag names, and how the flags of its arguments begin.
ROOMS = {"criteria": "--loss_", "batchminer": "--miner_"}
PLAIN = {"float": finite, "int": long}


def dimensions(text: str) -> int | str:
    """The length of an embedding that a flag's text stands for, or NO_PROJECTION."""
    return text if text == NO_PROJECTION else width(text)


def named(name: str) -> Number | None:
    """The range that a signature calls so, or None."""
    return PLAIN.get(name) or of(globals().get(name))


def of(annotation: object) -> Number | None:
    """The range of an annotation, or None."""
    limits = [part for part in get_args(annotation) if isinstance(part, Number)]
    return limits[0] if limits else None


def with_arguments(cls: type, **options) -> type:
    """The class as a dataclass of these options, with its arguments `checked`.

    A constructor that it or a base class writes stays. That of a base class takes no fields of this
    class: with some, a UsageError.
    """
    is_written = "__init__" in vars(cls)
    inherits = not is_written and getattr(cls, "writes_constructor", False)
    cls.writes_constructor = is_written or inherits
    cls = dataclass(init=not inherits, **options)(cls)
    own = inspect.get_annotations(cls).keys() & {field.name for field in fields(cls)}
    if inherits and own:
        raise UsageError(f"{cls.__name__}: the constructor that it inherits takes no {min(own)}: write "
                         "__init__ here too.")
    return checked(cls)


def checked(cls: type) -> type:
    """The class, whose constructor refuses arguments outside the ranges of its annotations."""
    construct = cls.__init__
    prefix = flags_of(cls)
    signature = inspect.signature(construct)

    @functools.wraps(construct)
    def __init__(self, *arguments, **keywords):
        given = signature.bind(self, *arguments, **keywords).arguments
        for name, value in given.items():
            refuse(f"{prefix}{name}", signature.parameters[name].annotation, value)
        construct(self, *arguments, **keywords)

    cls.__init__ = __init__
    return cls


def flags_of(cls: type) -> str:
    """How the flags of a class begin that a flag names; else the class's own name."""
    room, _, module = cls.__module__.rpartition(".")
    if room not in ROOMS:
        return f"{cls.__name__}: "
    return getattr(cls, "flag", f"{ROOMS[room]}{module}_")


def refuse(name: str, annotation: object, value: object) -> None:
    """A UsageError where a value, or an entry of a tuple, is outside the annotation's range."""
    parts = [value]
    if getattr(annotation, "__origin__", None) is tuple:
        annotation = get_args(annotation)[0]
        parts = value
    limits = of(annotation)
    for part in parts if limits else ():
        if not limits.has(part):
            raise UsageError(f"{name}: {limits.problem(part)}.")
