"""Rules on flags: a new class of a registry needs none."""
from argparse import Namespace

import pytest

import parameters
from utilities import choices, rules

REWARDS = """
class Lookahead:
    def __init__(self, step: float = 0.2): ...

class Reciprocal:
    def __init__(self, depth: int = 5): ...

REWARDS = {"lookahead": Lookahead, "reciprocal": Reciprocal}
"""


@pytest.fixture
def new_reward(tmp_path, monkeypatch):
    """A registry of rewards with a new one that has an argument of its own."""
    file = tmp_path / "rewards.py"
    file.write_text(REWARDS)
    monkeypatch.setitem(choices.REGISTRIES, "policy_reward", (file, "REWARDS"))
    monkeypatch.setattr(rules, "ARGUMENTS", (("policy_", "policy_reward"),))
    choices.registry.cache_clear()
    choices.takers.cache_clear()
    yield
    choices.registry.cache_clear()
    choices.takers.cache_clear()


def options(**flags):
    return Namespace(loss="margin", batch_mining="distance", pair_weighting="learned", **flags)


def test_the_arguments_of_a_new_reward_apply_to_it_alone(new_reward):
    new, old = options(policy_reward="reciprocal"), options(policy_reward="lookahead")
    assert rules.cannot_apply("policy_depth", new) is None
    assert rules.cannot_apply("policy_step", old) is None
    no_effect = "has no effect with --policy_reward"
    assert rules.cannot_apply("policy_depth", old) == f"--policy_depth {no_effect} lookahead"
    assert rules.cannot_apply("policy_step", new) == f"--policy_step {no_effect} reciprocal"


def test_arguments_of_no_reward_apply_to_all_and_an_own_class_takes_any(new_reward):
    assert rules.cannot_apply("policy_samples", options(policy_reward="lookahead")) is None
    assert rules.cannot_apply("policy_step", options(policy_reward="my_module.Mine")) is None


def test_the_arguments_of_a_new_reward_are_flags(new_reward, capsys):
    new = ["--policy_reward", "reciprocal"]
    assert parameters.get_options(new).policy_depth == 5
    assert parameters.get_options([*new, "--policy_depth", "7"]).policy_depth == 7
    with pytest.raises(SystemExit):
        parameters.get_options(["--policy_depth", "7"])
    assert "--policy_depth has no effect with --policy_reward lookahead" in capsys.readouterr().err


@pytest.mark.parametrize("condition,value,reason", [
    ("with --cache none", "none", "with --cache none"),
    ("with --cache none", "ram", None),
    ("with --cache 0", 0.0, "with --cache 0"),
    ("with --cache", "file", "with --cache"),
    ("with --cache", None, None),
    ("without --cache", False, "without --cache"),
    ("without --cache", True, None),
    ("unless --cache ram disk", "disk", None),
    ("unless --cache ram disk", "none", "with --cache none"),
])
def test_conditions_hold_as_they_read(condition, value, reason):
    assert rules.reason_of(condition, Namespace(cache=value)) == reason


@pytest.mark.parametrize("names,flag,stands", [
    ("tau gamma", "gamma", True),
    ("tau gamma", "gamma_x", False),
    ("map_ json", "map_images", True),
    ("map_ json", "json_x", False),
])
def test_a_name_with_a_line_at_its_end_stands_for_all_that_begin_with_it(names, flag, stands):
    assert rules.stands_for(names, flag) is stands
