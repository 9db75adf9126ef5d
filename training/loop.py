"""All epochs of a run, which can be left after any step and continued as if nothing had happened."""
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from architectures.network import Network
from batchminer.base import Miner
from criteria.lm_metric import LMMetric
from criteria.policy_health import policy_record
from datasets import batches
from training import held_out
from training.guard import GRADIENT, FiniteGuard, room_for
from training.optimisation import Optimisation
from training.records import StepRecorder
from training.resume import LAST
from training.step import Differentiator, Outcome
from training.trackers import Trackers
from utilities import checkpoint, distributed
from utilities.device import full_precision
from utilities.interruption import Interruption
from utilities.logger import RunFolder
from utilities.seed import random_state, set_random_state

Metrics = dict[str, float]
STEPS = "steps.csv"
STEP_ADVICE = ("--accumulate N (so many images at once, with the same gradient), --amp bf16, a smaller --image_size or "
               "a smaller --bs")


class Parts(NamedTuple):
    """What a training step needs."""

    network: Network
    method: LMMetric
    miner: Miner | None
    optimisation: Optimisation
    device: torch.device
    amp: str


class Training:
    """One run: trains, evaluates, and keeps checkpoints and records in its folder.

    evaluate(): metrics of the splits, those of validation with the prefix val_, and held_out.COLUMNS. validate(names):
    metrics of the validation classes, for a miner or policy that adapts to them. classes: their names by split, for who
    takes up a checkpoint. step and epoch count what is finished.
    """

    def __init__(self, opt, parts: Parts, loader: DataLoader, folder: RunFolder | None,
                 evaluate: Callable[[], Metrics], validate: Callable[[list[str]], Metrics],
                 classes: dict[str, list[str]]):
        self.opt, self.parts, self.loader, self.folder = opt, parts, loader, folder
        self.evaluate, self.validate, self.classes = evaluate, validate, classes
        self.compute = Differentiator(parts.network, parts.method, parts.miner, amp=parts.amp,
                                      scaler=parts.optimisation.scaler, chunk=opt.accumulate)
        images = loader.dataset.images
        self.guard = FiniteGuard(lambda i: str(images.paths[i]))
        self.sampler = loader.batch_sampler.sampler
        self.steps = len(loader)                                                   # of an epoch
        self.step = self.epoch = 0
        self.seconds = self.training_seconds = 0.0
        self.terms: list[str] = []
        self.sums: torch.Tensor | None = None                                      # of the terms of this epoch, (T,)
        self.history: list[dict] = []
        self.records: list[dict] = []
        self.best: dict[str, dict] = {}
        self.recorder = StepRecorder(folder / STEPS if folder else None, parts.device)
        self.trackers: Trackers | None = None

    def run(self) -> None:
        """Everything that is left to do."""
        with Interruption().catch_signals() as interruption, self.bar() as bar, self.tracked():
            self.interruption, self.saved = interruption, time.perf_counter()
            self.looked = self.saved
            if not self.history:
                self.record({"epoch": 0, "step": 0})                               # the untrained network
            while self.epoch < self.opt.n_epochs:
                self.parts.network.hold_backbone(self.epoch < self.opt.warmup_epochs)
                means = self.train_epoch(bar)
                self.epoch += 1
                self.record({"epoch": self.epoch, "step": self.step} | means, bar)

    @contextlib.contextmanager
    def tracked(self) -> Iterator[None]:
        """Inside, those who watch from elsewhere get every row."""
        flags = vars(self.opt)
        if self.folder:
            self.trackers = Trackers(self.folder.path, tensorboard=self.opt.tensorboard, online=self.opt.log_online,
                                     project=self.opt.project, group=self.opt.group, flags=flags)
        try:
            yield
        finally:
            if self.trackers:
                self.trackers.close()

    def bar(self) -> tqdm:
        """The progress of the whole run."""
        return tqdm(total=self.opt.n_epochs * self.steps, initial=self.step, desc="train", unit="step", smoothing=0.05,
                    disable=distributed.rank() > 0)

    def train_epoch(self, bar: tqdm) -> Metrics:
        """The steps that are left of an epoch; the mean of every loss term over all of them."""
        self.parts.network.train()
        self.parts.method.train()
        if self.step < (self.epoch + 1) * self.steps:
            for batch in self.recorder.watch(batches(self.loader, self.parts.device)):
                with room_for("this step", STEP_ADVICE):
                    outcome = self.train_step(batch)
                    self.step += 1
                    bar.update()
                    self.after_step(outcome)
        self.guard.check()
        means = dict(zip(self.terms, (self.sums / self.steps).tolist()))
        self.sums = None
        return {"loss": means.pop("total")} | means

    def train_step(self, batch) -> Outcome:
        """One step of the optimizer."""
        outcome = self.compute(batch)
        norm = self.parts.optimisation.step(self.step + 1)
        scaled = self.parts.optimisation.scaler.is_enabled()                       # then overflows are passed over
        self.guard.watch(self.step + 1, outcome.terms | ({} if scaled else {GRADIENT: norm}), outcome.index)
        self.recorder.add(outcome.terms, images=len(outcome.label), gradient_norm=norm)
        self.sampler.update(outcome.related.z.detach(), outcome.index)
        self.terms = list(outcome.terms)
        values = torch.stack([term.detach() for term in outcome.terms.values()])   # stays on the device
        self.sums = values if self.sums is None else self.sums + values
        return outcome

    def after_step(self, outcome: Outcome) -> None:
        """What follows some steps: miner and policy adapt, records, a checkpoint, the end that was asked for."""
        self.look_at_the_clock(training=True)
        miner, episodes, reads = self.parts.miner, self.parts.method.episodes, self.step % self.opt.log_every == 0
        if miner and miner.adapts and self.step % miner.every == 0:
            miner.adapt(self.validated(miner.metrics), progress=self.step / (self.opt.n_epochs * self.steps))
        if episodes and self.step % episodes.every == 0:
            episodes.adapt(self.validated(episodes.metrics))
        if reads:                                                                  # the one reading by the host
            self.guard.check()
            found = {}
            if self.parts.method.learns:
                with full_precision(self.parts.device):
                    found = policy_record(self.parts.method, outcome.related, outcome.label, outcome.triplets)
                self.records.append({"epoch": self.epoch + 1, "step": self.step} | found)
            row = self.recorder.record(self.epoch + 1, self.step, self.parts.optimisation.rates(), found | self.worth())
            if self.trackers:
                self.trackers.log("step", row)
        alone = distributed.world() == 1
        wish = (alone or reads or self.parts.device.type == "cpu") and self.interruption.requested(self.parts.device)
        if wish or time.perf_counter() - self.saved > 60 * self.opt.checkpoint_minutes:
            self.guard.check()
            self.save(LAST)
        if wish:
            raise self.interruption.stopped(self.folder.path if self.folder else "auto")

    def worth(self) -> dict:
        """What the policy was worth on held-out classes when that was last looked at."""
        rows = ({name: row[name] for name in held_out.COLUMNS if name in row} for row in reversed(self.history))
        return next(filter(None, rows), {})

    def validated(self, names: list[str]) -> Metrics:
        """`validate`, of a network whose numbers are numbers."""
        self.guard.check()
        return self.validate(names)

    def record(self, row: dict, bar: tqdm | None = None) -> None:
        """Evaluate where it is time, add the epoch's row to the history, and keep checkpoints."""
        if self.epoch % self.opt.eval_every == 0 or self.epoch == self.opt.n_epochs:
            with self.parts.optimisation.averaged():
                row |= self.evaluate()
            if bar is not None:
                bar.set_postfix({name: f"{row[name]:.3f}" for name in self.opt.storage_metrics})
        self.history.append(row)
        self.look_at_the_clock()
        better = self.better(row)
        if self.folder:
            self.folder.write_csv("metrics.csv", self.history)
            self.trackers.log("epoch", row)
        for name in better:
            self.save(f"best_{name}.pt")
        self.save(LAST)
        if self.interruption.requested(self.parts.device):                             # while it was evaluated
            raise self.interruption.stopped(self.folder.path if self.folder else "auto")

    def look_at_the_clock(self, training: bool = False) -> None:
        """Add the time that has passed since the last look to that of the run, and to that spent in training."""
        now = time.perf_counter()
        self.seconds += now - self.looked
        self.training_seconds += (now - self.looked) * training
        self.looked = now

    def better(self, row: dict) -> list[str]:
        """The metrics of which this row is the best so far, on validation classes where there are some."""
        found = []
        for name in self.opt.storage_metrics:
            split = "val" if f"val_{name}" in row else "test"
            value = row.get(f"val_{name}", row.get(name))
            if value is not None and (name not in self.best or value > self.best[name]["value"]):
                self.best[name] = {"epoch": row["epoch"], "value": value, "chosen_on": split,
                                   "metrics": metrics_of(self.opt, row)}
                found.append(name)
        return found

    def save(self, name: str) -> None:
        """A checkpoint, by the first of several processes; its state is complete only together with all generators,
        which are alike in all of them."""
        self.saved = time.perf_counter()
        if self.folder:
            checkpoint.save(self.folder / name, self.state_dict())

    def state_dict(self) -> dict:
        """Everything that the rest of the run follows from, of tensors and plain containers."""
        network, method, miner, optimisation, device, _ = self.parts
        return {"options": vars(self.opt), "metrics": metrics_of(self.opt, self.history[-1]), "epoch": self.epoch,
                "classes": self.classes, "network": optimisation.network_state(network), "method": method.state_dict(),
                "optimisation": optimisation.state_dict(), "recorder": self.recorder.state_dict(),
                "miner": miner.state_dict() if miner else None, "sampler": self.sampler.state_dict(),
                "random": random_state(device),
                "progress": {"step": self.step, "epoch": self.epoch, "seconds": self.seconds,
                             "training_seconds": self.training_seconds, "terms": self.terms, "sums": self.sums},
                "history": self.history, "records": self.records, "best": self.best}

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state_dict` was taken."""
        network, method, miner, optimisation, device, _ = self.parts
        network.load_state_dict(state["network"])
        method.load_state_dict(state["method"])
        optimisation.load_state_dict(state["optimisation"])
        if miner:
            miner.load_state_dict(state["miner"])
        self.sampler.load_state_dict(state["sampler"])
        self.history, self.records, self.best = state["history"], state["records"], state["best"]
        progress = state["progress"]
        self.step, self.epoch = progress["step"], progress["epoch"]
        self.seconds, self.training_seconds = progress["seconds"], progress["training_seconds"]
        self.terms, self.sums = progress["terms"], progress["sums"]
        self.sums = None if self.sums is None else self.sums.to(device)
        if self.folder:
            self.recorder = StepRecorder(self.folder / STEPS, device, after=self.step)
        self.recorder.load_state_dict(state["recorder"])
        set_random_state(state["random"], device)


def metrics_of(opt, row: dict) -> Metrics:
    """The metrics in a row of the history, with their intervals."""
    names = [metric + end for metric in opt.evaluation_metrics for end in ("", "_low", "_high")]
    return {name: row[name] for name in names if name in row}
