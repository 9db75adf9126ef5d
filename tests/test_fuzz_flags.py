"""200 combinations of flags: each is refused in one sentence, or everything that needs no data is built."""
import random

import pytest

from parameters import build_parser, get_options
from tests.fuzzing import ended
from training.settings import refuse_settings
from utilities.choices import REGISTRIES, registry
from utilities.errors import answer

# They end before anything is built, or read files.
LEFT_OUT = {"config", "help", "list", "resume", "repeat", "evaluate_only", "checkpoint", "debug"}
NUMBERS = ["nan", "inf", "-inf", "-1", "0", "1", "2", "0.5", "1e-400", "1e400", "9" * 30, "9" * 5000, "", "x", "٣"]
WORDS = ["", "x", "none", "../..", "a\nb", "\x1b[31m", "pml.", "pml.X", "timm.", "a.b", "é" * 200]
SEEDS = range(200)


def values(action, chance, tame):
    """Words for one flag: right ones, wrong ones, too few or too many."""
    if action.nargs == 0:
        return []
    if tame and isinstance(action.default, int | float):
        return [str(action.default)]
    if tame and action.choices:
        return [chance.choice(list(action.choices))]
    names = list(action.choices or [])
    if action.dest in REGISTRIES:
        names = list(registry(action.dest))
    pool = NUMBERS if action.type else WORDS
    if names:
        pool = [*names, *names, *WORDS]
    several = {None: 1, "+": chance.choice([1, 2, 5]), "?": 1, "*": 2}
    return [chance.choice(pool) for _ in range(several.get(action.nargs, action.nargs))]


def command(seed):
    """A command line of one to six flags; most are tame, so that some of them build."""
    chance = random.Random(seed)
    actions = [action for action in build_parser()._actions if action.dest not in LEFT_OUT]
    argv = []
    tame = chance.random() < 0.7
    for action in chance.sample(actions, chance.randint(1, 2 if tame else 6)):
        option = chance.choice(action.option_strings)
        words = values(action, chance, tame)
        argv += [f"{option}={words[0]}"] if len(words) == 1 else [option, *words]
    return argv


def build(argv):
    return answer("main.py", lambda: refuse_settings(get_options(argv)))


@pytest.mark.slow
def test_any_flags_are_refused_in_a_sentence_or_build(capfd):
    codes = []
    for seed in SEEDS:
        argv = command(seed)
        codes.append(ended(build, argv, capfd, (seed, argv)))
    # Both happen, so that the test says something of either.
    assert 20 < codes.count(0) < 180
