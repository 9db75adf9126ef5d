"""The arguments that flags stand for: how errors name them in a program that uses the classes."""
import re

from utilities.choices import prefixes

# What a flag with a value means for who writes python; the first that fits is taken.
PHRASES = {
    "--batch_mining distance": "triplets, as a miner of batchminer gives them",
    "pass --pair_weighting uniform": "use it without them",
    "--policy_action weight --policy_granularity anchor": 'weighting=Factor(), granularity="anchor"',
    "--policy_action weight": "weighting=Factor()",
    "--policy_granularity anchor": 'granularity="anchor"',
    "--policy_granularity batch": 'granularity="batch"',
    "--xbm_size 0": "xbm=None",
    "--xbm_size, such as 1000": "xbm, a CrossBatchMemory",
}
# Where the argument has another name than the flag without its prefix.
RENAMED = {
    "batch_mining": "name",
    "data_sampler": "name",
    "dataset": "name",
    "evaluation_metrics": "metrics",
    "loss": "name",
    "memory_dual": "memory_dual",
    "memory_target": "name",
    "pair_weight_on": "weight_on",
    "policy_action": "weighting",
}
PREFIXES = ("data_mb_", "data_", "eval_", "glyphs_", "memory_", "policy_", "proxies_", "relation_",
            "search_", "xbm_")
# a command of the shell, which stays; or a flag, and the number behind it
FLAG = re.compile(r"`[^`]*`|(?<![\w-])--([a-z]\w*)(?: (-?\d[\d.e+-]*\d|\d))?")


def in_arguments(text: str) -> str:
    """An error's text with the arguments of functions and classes in the place of flags."""
    for phrase, meaning in PHRASES.items():
        text = re.sub(rf"{phrase}(?!\w)", meaning, text)
    return FLAG.sub(_replaced, text)


def _replaced(found: re.Match) -> str:
    flag, number = found.groups()
    if flag is None:
        return found[0]
    argument = argument_of(flag)
    return argument if number is None else f"{argument}={number}"


def argument_of(flag: str) -> str:
    """The argument behind a flag, whose name is that of the flag without its prefix."""
    if flag in RENAMED:
        return RENAMED[flag]
    fitting = [prefix for prefix in (*prefixes(), *PREFIXES) if flag.startswith(prefix)]
    return flag.removeprefix(max(fitting, key=len, default=""))
