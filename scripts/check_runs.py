"""Check the commands of a table script before it runs: `python -m scripts.check_runs < COMMANDS`.

Every command must parse. No two may be the same run under two names (the table would refuse them).
No folder may hold a run with other flags (it would be skipped or continued instead of the right
one). The images must exist.
"""
import json
import shlex
import sys
from argparse import Namespace
from pathlib import Path

import datasets
from evaluation.tables import NOT_PART_OF_THE_ROW, row_flags
from parameters import get_options, kwargs_for, read_options
from utilities.errors import UsageError, answer
from utilities.flags import value_as_typed
from utilities.rules import why_idle

# Where no flag sets them, the run finds them.
FOUND_BY_THE_RUN = ("image_size", "cache_side")


def folder_of(opt: Namespace) -> Path:
    """The folder of a run."""
    return Path(opt.save_path) / opt.dataset / opt.savename


def refuse_another_run(opt: Namespace) -> None:
    """A UsageError where the run's folder holds one with other flags."""
    path = folder_of(opt) / "options.json"
    if not path.exists():
        return
    trained = read_options(str(path))["flags"]
    differing = []
    for name, value in vars(opt).items():
        if name not in trained or not decides(name, opt):
            continue
        before = value_as_typed(trained[name])
        if before != value_as_typed(value) and not (value is None and name in FOUND_BY_THE_RUN):
            differing.append(f"--{name} {before} instead of {value_as_typed(value)}")
    if differing:
        flags = "; ".join(differing)
        raise UsageError(f"{path.parent} holds a run with other flags: {flags}. Choose another folder "
                         "with OUT, or remove it.")


def decides(name: str, opt: Namespace) -> bool:
    """Whether a flag decides what a run computes."""
    if name == "source_path" and opt.dataset == "image_folder":
        return True
    return name == "seed" or (name not in NOT_PART_OF_THE_ROW and not why_idle(name, opt))


def refuse_twins(runs: list[Namespace]) -> None:
    """A UsageError where two commands differ in nothing but their names."""
    seen: dict[str, Namespace] = {}
    names_only = tuple(name for name in NOT_PART_OF_THE_ROW if name != "seed")
    for opt in runs:
        flags = row_flags(vars(opt), names_only)
        twin = seen.setdefault(json.dumps(flags, sort_keys=True), opt)
        if twin is not opt:
            raise UsageError(f"{twin.savename} and {opt.savename} would have the same flags, and count "
                             "twice in the table. Leave one of them out with ONLY, or change EXTRA.")


def parsed(commands: list[str]) -> list[Namespace]:
    """The flags of all commands; where they do not parse, it is also said of which run they are."""
    runs = []
    for words in map(shlex.split, commands):
        try:
            runs.append(get_options(words[words.index("main.py") + 1:]))
        except SystemExit:
            name = words[words.index("--savename") + 1]
            sys.stderr.write(f"scripts.check_runs: so {name} could not run. Leave its row out with "
                             "ONLY or ROWS, or change EXTRA.\n")
            raise
    return runs


def check(commands: list[str]) -> None:
    """Parse all commands, check their folders, and read the data of those that are left to run."""
    runs = parsed(commands)
    refuse_twins(runs)
    left = {}
    for opt in runs:
        refuse_another_run(opt)
        if not (folder_of(opt) / "result.json").exists():
            left[opt.dataset, opt.source_path] = opt
    for (dataset, source_path), opt in left.items():
        datasets.select(dataset, source_path, **kwargs_for(opt, f"{dataset}_"))


def main() -> int:
    """Check the commands of stdin, with --parse only whether they parse; 0: all is well, 2: not."""
    how = parsed if sys.argv[1:] == ["--parse"] else check
    return answer("scripts.check_runs", lambda: how(sys.stdin.read().splitlines()))


if __name__ == "__main__":
    sys.exit(main())
