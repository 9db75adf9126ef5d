"""A run: its parts, how far it is, and its checkpoints, from which it continues as if nothing had happened."""
import contextlib
import math
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from architectures.network import Network
from batchminer.base import Miner
from criteria.method import LMMetric, LossTerms
from datasets import Splits
from training.guard import GRADIENT, FiniteGuard, refuse_infinite
from training.optimisation import Optimisation
from training.records import StepRecorder
from training.trackers import Trackers
from utilities import checkpoint
from utilities.interruption import Interruption
from utilities.logger import RunFolder
from utilities.metric_names import is_better, measured, reported
from utilities.seed import random_state, set_random_state

Metrics = dict[str, float]
# of a Progress, in the part `progress` of a checkpoint
COUNTS = ("step", "epoch", "seconds", "training_seconds", "terms", "sums")


@dataclass
class Progress:
    """How far a run is, and what it has measured; step and epoch count what is finished.

    sums: of the loss `terms` over the steps of this epoch, on the device.
    history: rows of metrics.csv. policy_records: the policy at the logged steps. best: by metric, its best epoch.
    checked, saved: when the timers and the last checkpoint were written; not part of a checkpoint.
    """

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    training_seconds: float = 0.0
    terms: list[str] = field(default_factory=list)
    sums: Tensor | None = None
    history: list[dict] = field(default_factory=list)
    policy_records: list[dict] = field(default_factory=list)
    best: dict[str, dict] = field(default_factory=dict)
    checked: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.perf_counter)

    def add_terms(self, terms: LossTerms) -> None:
        """Add the loss terms of a step; no synchronisation."""
        self.terms = list(terms)
        values = torch.stack([term.detach() for term in terms.values()])  # (T,)
        self.sums = values if self.sums is None else self.sums + values

    def mean_terms(self, steps: int) -> Metrics:
        """The mean of every term over the steps of the epoch, which ends; the total is called loss."""
        means = dict(zip(self.terms, (self.sums / steps).tolist()))
        self.sums = None
        return {"loss": means.pop("total")} | means

    def update_timers(self, training: bool = False) -> None:
        """Add the time since the last call to that of the run, and to that spent in training."""
        now = time.perf_counter()
        passed = now - self.checked
        self.checked = now
        self.seconds += passed
        if training:
            self.training_seconds += passed

    def is_better(self, name: str, value: float | None) -> bool:
        """Whether a value of a metric is the best so far."""
        best = self.best.get(name, {"value": math.nan})
        return value is not None and is_better(name, value, best["value"])


@dataclass
class Run:
    """The parts of a run by name. folder and trackers are None in all processes but the first.

    data: what a checkpoint holds of the images.
    """

    opt: Namespace
    splits: Splits
    loaders: dict[str, DataLoader]
    network: Network
    method: LMMetric
    miner: Miner | None
    optimisation: Optimisation
    device: torch.device
    guard: FiniteGuard
    data: dict
    recorder: StepRecorder
    interruption: Interruption = field(default_factory=Interruption)
    progress: Progress = field(default_factory=Progress)
    folder: RunFolder | None = None
    trackers: Trackers | None = None

    @property
    def sampler(self):
        """The sampler of the training batches."""
        return self.loaders["train"].batch_sampler.sampler

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch."""
        return len(self.loaders["train"])

    def watched(self, terms: LossTerms, gradient_norm: Tensor) -> LossTerms:
        """What the guard watches: in float16 an overflow of the gradient is passed over."""
        return terms if self.optimisation.scaler.is_enabled() else terms | {GRADIENT: gradient_norm}

    @contextlib.contextmanager
    def trackers_closed(self) -> Iterator[None]:
        """Close the trackers afterwards."""
        try:
            yield
        finally:
            if self.trackers:
                self.trackers.close()

    def save(self, name: str) -> None:
        """Write a checkpoint, in the first of several processes; its state is complete only together with all
        generators, which are alike in all of them. A non-finite loss or weight stops the run instead."""
        self.guard.check()
        refuse_infinite(self.progress.step, chain(self.network.named_parameters(), self.method.named_parameters()))
        self.progress.saved = time.perf_counter()
        if self.folder:
            checkpoint.save(self.folder / name, self.state_dict())

    def stop_if_requested(self) -> None:
        """End the run where a signal asked for it; its checkpoint has been written."""
        if self.interruption.requested(self.device):
            advice = "the first process says how to continue"
            if self.folder:
                advice = f"--resume {self.folder.path} continues from this step"
            raise self.interruption.stopped(advice)

    def state_dict(self) -> dict:
        """Everything that the rest of the run follows from, of tensors and plain containers."""
        progress = self.progress
        return {
            "options": vars(self.opt),
            "metrics": metrics_of(self.opt, progress.history[-1]),
            "epoch": progress.epoch,
            "network": self.optimisation.network_state(self.network),
            "method": self.method.state_dict(),
            "optimisation": self.optimisation.state_dict(),
            "recorder": self.recorder.state_dict(),
            "miner": self.miner.state_dict() if self.miner else None,
            "sampler": self.sampler.state_dict(),
            "random": random_state(self.device),
            "progress": {name: getattr(progress, name) for name in COUNTS},
            "history": progress.history,
            "records": progress.policy_records,
            "best": progress.best,
        } | self.data

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.method.load_state_dict({current_name(name): value for name, value in state["method"].items()})
        self.optimisation.load_state_dict(state["optimisation"])
        if self.miner:
            self.miner.load_state_dict(state["miner"])
        self.sampler.load_state_dict(state["sampler"])
        counts = {name: state["progress"][name] for name in COUNTS}
        if counts["sums"] is not None:
            counts["sums"] = counts["sums"].to(self.device)
        self.progress = Progress(
            **counts,
            history=state["history"],
            policy_records=state["records"],
            best=state["best"],
        )
        self.recorder.load_state_dict(state["recorder"])
        set_random_state(state["random"], self.device)


def current_name(name: str) -> str:
    """The name of a part of the method in a checkpoint, also one from before the policy was called so."""
    return name.replace("weighting.", "policy.", 1) if name.startswith("weighting.") else name


def metrics_of(opt: Namespace, row: dict) -> Metrics:
    """The metrics in a row of the history, with their intervals."""
    return measured(row, reported(opt.evaluation_metrics, opt.eval_context))
