"""What a run measures between evaluations: a row of steps.csv every few steps.

Loss terms and gradient norms stay on the device until a row is due; then the host reads them all at once.
"""
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from utilities.table import GrowingTable

STEPS = "steps.csv"
DIGITS = 9   # significant ones of a recorded number, enough to tell any two of float32 apart


class StepRecorder:
    """Averages what the steps measure, and writes a row of steps.csv when one is asked for.

        for batch in recorder.watch(batches(loader)):
            ...
            recorder.add(terms, images=len(label), gradient_norm=norm)
            if step % log_every == 0:
                row = recorder.record(epoch, step, optimisation.rates())

    Without write_to, as in all processes but the first, no file is written. The averages have a
    state, so that a run which was left between two rows records the same losses when it is resumed.
    """

    def __init__(self, device: torch.device):
        self.table: GrowingTable | None = None
        self.device = device
        self.mark = time.perf_counter()
        self.interval = Interval()

    def write_to(self, path: Path, *, after: int = 0) -> None:
        """Write the rows to this file; those beyond `after`, the step that a resumed run continues from, are cut off.
        """
        self.table = GrowingTable(path, after=after)

    def watch(self, batches: Iterable) -> Iterator:
        """The batches; measures how long each is waited for.

        What passes outside of the loop, as in evaluation, is left out.
        """
        self.mark = time.perf_counter()
        for batch in batches:
            self.interval.waited += self.lap()
            yield batch
            self.interval.worked += self.lap()

    def lap(self) -> float:
        """Seconds since the last call."""
        before = self.mark
        self.mark = time.perf_counter()
        return self.mark - before

    def add(self, terms: Mapping[str, Tensor], *, images: int,
            gradient_norm: Tensor | None = None) -> None:
        """Take note of a step without synchronisation: its scalars, and its images in all processes.

        A scalar that only some steps have is averaged over those.
        """
        scalars = dict(terms)
        if gradient_norm is not None:
            scalars["gradient_norm"] = gradient_norm
        values = [value.detach() for value in scalars.values()]
        interval = self.interval
        for name, value in zip(scalars, values):
            interval.sums.setdefault(name, torch.zeros_like(value))
            interval.counts[name] = interval.counts.get(name, 0) + 1
        # one kernel for all of them
        torch._foreach_add_([interval.sums[name] for name in scalars], values)
        interval.images += images

    def record(self, epoch: int, step: int, rates: Mapping[str, float],
               more: Mapping | None = None) -> dict:
        """Write and return the row of the steps since the last one; synchronises once.

        rates: learning rates by the names of their groups. more: further numbers, such as those of
        the policy; what is not a number in it is left out.
        """
        row = {"epoch": epoch, "step": step} | self.interval.means() | numbers(more or {})
        self.interval.worked += self.lap()  # reading waited for the device
        row |= {f"lr_{name}": rate for name, rate in rates.items()}
        row |= self.interval.speed()
        row["peak_memory_mib"] = peak_memory_mib(self.device)
        if self.table:
            self.table.append(row)
        self.interval = Interval()
        return row

    def state_dict(self) -> dict:
        """The averages since the last row."""
        return {"sums": dict(self.interval.sums), "counts": dict(self.interval.counts)}

    def load_state_dict(self, state: dict) -> None:
        """Continue the averages; speed is measured anew."""
        self.interval.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.interval.counts = dict(state["counts"])


@dataclass
class Interval:
    """What the steps since the last row have measured: sums on the device, and seconds."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    images: int = 0
    waited: float = 0.0
    worked: float = 0.0

    def means(self) -> dict[str, float]:
        """The mean of each scalar; the total is called loss, as in metrics.csv."""
        if not self.sums:
            return {}
        sums = torch.stack([value.double() for value in self.sums.values()]).tolist()
        means = {}
        for name, total in zip(self.sums, sums):
            mean = total / self.counts[name]
            means["loss" if name == "total" else name] = float(f"{mean:.{DIGITS}g}")
        return means

    def speed(self) -> dict[str, float]:
        """Images a second, and the share of the time in which the host waited for them."""
        seconds = self.waited + self.worked
        return {
            "images_per_second": round(self.images / seconds, 2),
            "data_wait": round(self.waited / seconds, 4),
        }


def numbers(row: Mapping) -> dict[str, float]:
    """The entries of a row that are int or float, and no truth values."""
    return {name: value for name, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool)}


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory held so far (MiB): of the GPU where one is used, of the process otherwise."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    # macOS counts in bytes, other systems in KiB
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
