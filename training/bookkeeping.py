"""What a training step is followed by: records, adaptation, evaluation and checkpoints, each where it is time."""
import time
from collections.abc import Iterator
from datetime import timedelta

from tqdm import tqdm

from criteria.method.context_health import context_record, has_health
from criteria.method.health import policy_record
from datasets import batches
from training.large_batch import Outcome
from training.results import evaluate_run, held_out_so_far, score_split
from training.resume import LAST
from training.run import Run, metrics_of
from utilities import distributed
from utilities.cells import shown
from utilities.device import full_precision


def remaining_batches(run: Run) -> Iterator:
    """The batches that are left of the epoch, on the device; all of them, but in a run that is continued."""
    # building a continued run is no training
    run.progress.update_timers()
    if run.progress.step < (run.progress.epoch + 1) * run.epoch_steps:
        yield from run.recorder.watch(batches(run.loaders["train"], run.device))
    run.guard.check()


def adapt_miner(run: Run) -> None:
    """Where it is time, tell a miner that adapts how well the validation classes are retrieved."""
    miner = run.miner
    if miner and miner.adapts and run.progress.step % miner.every == 0:
        run.guard.check()
        with run.optimisation.averaged():
            metrics = score_split(run.opt, run.network, run.loaders, "val", run.device, miner.metrics)
        miner.adapt(metrics, progress=run.progress.step / (run.opt.n_epochs * run.epoch_steps))


def log_step(run: Run, outcome: Outcome) -> None:
    """A row of steps.csv: the one reading of the device by the host."""
    progress = run.progress
    run.guard.check()
    where = {"epoch": progress.epoch + 1, "step": progress.step}
    numbers = {}
    seen = (outcome.related, outcome.label)
    with full_precision(run.device):
        if run.method.learns:
            numbers |= policy_record(run.method, *seen, outcome.triplets)
            progress.policy_records.append(where | numbers)
        if has_health(run.network):
            numbers |= context_record(run.method, run.network, *seen, outcome.index)
    numbers |= held_out_so_far(progress.history)
    row = run.recorder.record(**where, rates=run.optimisation.rates(), more=numbers)
    if run.trackers:
        run.trackers.log("step", row)


def save_between_epochs(run: Run) -> None:
    """A checkpoint where one is due, and the end of the run where a signal asked for it."""
    asks = distributed.world() == 1 or run.device.type == "cpu" or run.progress.step % run.opt.log_every == 0
    requested = asks and run.interruption.requested(run.device)
    minutes = (time.perf_counter() - run.progress.saved) / 60
    if requested or minutes > run.opt.checkpoint_minutes:
        run.save(LAST)
    if requested:
        run.stop_if_requested()


def finish_epoch(run: Run, row: dict, bar: tqdm) -> None:
    """Evaluate where it is time, add the epoch's row to the history, and keep checkpoints."""
    opt = run.opt
    progress = run.progress
    if progress.epoch % opt.eval_every == 0 or progress.epoch == opt.n_epochs:
        with run.optimisation.averaged():
            row |= evaluate_run(run)
        bar.set_postfix({name: f"{row[name]:.3f}" for name in opt.storage_metrics if name in row})
    progress.history.append(row)
    progress.update_timers()
    if run.folder and bar.disable:
        print(epoch_line(run, row))
    better = best_metrics(run, row)
    if run.folder:
        run.folder.write_csv("metrics.csv", progress.history)
        run.trackers.log("epoch", row)
    for name in better:
        run.save(f"best_{name}.pt")
    run.save(LAST)
    run.stop_if_requested()  # a signal that came during the evaluation


def epoch_line(run: Run, row: dict) -> str:
    """What a log says of an epoch, where there is no bar: loss, metrics, rate and time left."""
    progress = run.progress
    epochs = run.opt.n_epochs
    parts = [f"loss {row['loss']:.4g}"] if "loss" in row else []
    for name in run.opt.storage_metrics:
        column = name if name in row else f"val_{name}"
        if column in row:
            parts.append(f"{column} {shown(name, row[column])}")
    if progress.epoch and progress.training_seconds:
        parts.append(f"{progress.step / progress.training_seconds:.3g} steps/s")
        left = progress.seconds / progress.epoch * (epochs - progress.epoch)
        parts.append(f"{timedelta(seconds=round(left))} left")
    return f"epoch {progress.epoch} of {epochs}: {', '.join(parts) or 'nothing is tested'}"


def best_metrics(run: Run, row: dict) -> list[str]:
    """The metrics of which this row is the best so far, on validation classes where there are some."""
    names = []
    for name in run.opt.storage_metrics:
        split = "val" if f"val_{name}" in row else "test"
        value = row.get(f"val_{name}", row.get(name))
        if run.progress.is_better(name, value):
            run.progress.best[name] = {
                "epoch": row["epoch"],
                "value": value,
                "chosen_on": split,
                "metrics": metrics_of(run.opt, row),
            }
            names.append(name)
    return names
