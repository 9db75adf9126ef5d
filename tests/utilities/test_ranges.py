"""Ranges of numbers: the same for a flag, for an argument of a class and in a file."""
import argparse
import math
import warnings

import numpy as np
import pytest

import batchminer
from criteria import CRITERIA, select
from parameters import build_parser, get_options
from utilities import ranges
from utilities.errors import UsageError

INSIDE = {
    "finite": [-1e30, 0.0, 1e300], "non_negative": [0.0, 2.5], "positive": [1e-300, 7.0], "share": [0.5],
    "below_one": [0.0, 0.999], "probability": [0.0, 1.0], "degrees": [45.0], "positive_int": [1, 2**31 - 1],
    "non_negative_int": [0], "long": [-2**63, 2**63 - 1], "width": [1, 16384], "depth": [1024], "pixels": [8192],
}
OUTSIDE = {
    "finite": [], "non_negative": [-1e-9], "positive": [0.0, -1.0], "share": [0.0, 1.0], "below_one": [1.0, -0.1],
    "probability": [-0.1, 1.1], "degrees": [0.0, 90.0], "positive_int": [0, 2**31], "non_negative_int": [-1],
    "long": [2**63, -2**63 - 1], "width": [0, 16385], "depth": [0, 1025], "pixels": [0, 8193],
}


@pytest.mark.parametrize("name", INSIDE)
def test_each_range_has_its_numbers_and_no_others(name):
    number = getattr(ranges, name)
    for value in INSIDE[name]:
        assert number.has(value) and number(str(value)) == value
    for value in [*OUTSIDE[name], math.nan, math.inf, -math.inf, 10**400, True, None, "1"]:
        assert not number.has(value)
    for text in [*map(str, OUTSIDE[name]), "nan", "inf", "-inf", "1e999", "x", "", "9" * 5000]:
        with pytest.raises(argparse.ArgumentTypeError, match="is not"):
            number(text)


def numeric_flags():
    """All flags that take one number or several, with how many."""
    actions = [action for action in build_parser()._actions if callable(action.type) and action.type is not str]
    return {action.option_strings[0]: action.nargs if isinstance(action.nargs, int) else 1 for action in actions}


def test_every_flag_with_a_number_has_a_range_and_refuses_nan_and_inf(capsys):
    assert len(numeric_flags()) > 120
    for flag, number in numeric_flags().items():
        for word in ("nan", "inf", "-inf", "1e999", "9" * 400):
            with pytest.raises(SystemExit) as stop:
                get_options([flag, *[word] * number] if not word.startswith("-") else [f"{flag}={word}"])
            assert stop.value.code == 2
            error = capsys.readouterr().err
            assert f"argument {flag}" in error and error.count("\n") == 1


REFUSED = [
    ("smoothap", "tau", 0), ("smoothap", "tau", -0.1), ("smoothap", "tau", math.nan), ("supap", "tau", 0.0),
    ("recallatk", "ks", (1, 0)), ("recallatk", "tau2", 0), ("supcon", "temperature", 0), ("softmax", "lr", -1),
    ("softtriplet", "gamma", 0), ("circle", "gamma", 0), ("angular", "alpha", 90), ("supap", "calibration", 1.5),
    ("multisimilarity", "pos_weight", 0), ("margin", "beta_lr", -1e-4), ("triplet", "margin", math.inf),
    ("softtriplet", "n_centroids", 10**12), ("adversarial_separation", "hidden", 10**12),
]


@pytest.mark.parametrize("loss,argument,value", REFUSED)
def test_a_flag_and_a_constructor_refuse_the_same_in_the_same_words(loss, argument, value, capsys):
    words = value if isinstance(value, tuple) else (value,)
    with pytest.raises(SystemExit):
        get_options(["--loss", loss, f"--loss_{loss}_{argument}", *map(str, words)])
    by_flag = capsys.readouterr().err
    sizes = {"n_classes": 4, "embed_dim": 8}
    with pytest.raises(UsageError) as caught:
        select(loss, **sizes, **{argument: value})
    by_class = str(caught.value)
    assert by_class.startswith(f"--loss_{loss}_{argument}: ")
    assert by_class.split(": ")[1].rstrip(".") in by_flag


def test_every_number_of_every_loss_and_miner_has_a_range():
    unlimited = []
    for classes in (CRITERIA, batchminer.MINERS):
        for name, cls in classes.items():
            construct = cls.__init__.__wrapped__
            for argument, annotation in construct.__annotations__.items():
                if annotation in (int, float) and argument not in ("n_classes", "embed_dim", "seed"):
                    unlimited.append((name, argument))
    assert unlimited == []


def test_a_class_of_the_user_is_named_by_itself():
    @ranges.checked
    class Mine:
        def __init__(self, tau: ranges.Positive, ks: tuple[ranges.PositiveInt, ...] = (1,), free: float = 0.0):
            self.tau = tau

    assert Mine(0.5, free=math.nan).tau == 0.5
    with pytest.raises(UsageError, match="^Mine: tau: 0 is not a number above 0.$"):
        Mine(0)
    with pytest.raises(UsageError, match="^Mine: ks: 0 is not a whole number"):
        Mine(1, ks=(1, 0))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numbers_of_numpy_are_numbers(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ranges.positive.has(kind(0.5)) and not ranges.positive.has(kind(-1))
        assert not ranges.positive.has(kind("inf")) and not ranges.positive.has(kind("nan"))
        assert ranges.positive_int.has(np.int32(3)) and not ranges.positive.has(10**400)
