"""What the benchmarks share: a flag for each default, and times of competitors that take turns."""
import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch


def parser_of(doc: str | None, **defaults) -> argparse.ArgumentParser:
    """A parser with the first line of `doc` and a flag --NAME of each default's type.

    Where the default is a list, the flag takes one value or more.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name, default in defaults.items():
        if isinstance(default, list):
            parser.add_argument(f"--{name}", nargs="+", type=type(default[0]), default=default)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser


def wait() -> None:
    """Until the GPU, if there is one, has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(task: Callable[[], object]) -> float:
    """How long a task takes."""
    begin = time.perf_counter()
    task()
    wait()
    return time.perf_counter() - begin


def median_seconds(
    tasks: dict[str, Callable[[], object]], rounds: int, at_most: float = math.inf
) -> dict[str, float]:
    """Median seconds of each task. They take turns, and the first two turns warm up.

    A task that has taken more than `at_most` seconds has no turns after the fourth.
    """
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 2):
        for name, task in tasks.items():
            if turn > 3 and sum(times[name]) > at_most:
                continue
            seconds = seconds_of(task)
            if turn >= 2:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}
