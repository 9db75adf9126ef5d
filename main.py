"""Train LM-Metric, or one of its base losses, on images and evaluate retrieval of unseen classes.

`python main.py` trains the full method on the built-in data set; `python main.py --help` explains every flag.
`train` is the training loop; `run` builds its parts from the flags.
"""
import sys

from parameters import answer_early, evaluation_arguments, explicit_flags, get_options

if __name__ == "__main__":
    answer_early(sys.argv[1:])  # --help, --list and wrong flags, before the imports that load torch

from contextlib import nullcontext
from functools import partial

import torch
from tqdm import tqdm

from architectures.backbones.listing import names as list_names
from datasets.folders import refuse_within
from evaluation import QueryMetric, parse_metric
from evaluation.embed import notes_on_classes
from training import resume
from training.bookkeeping import adapt_miner, finish_epoch, log_step, remaining_batches, save_between_epochs
from training.building import (
    build_loaders,
    build_method,
    build_optimisation,
    build_run,
    prepared_network,
    read_splits,
)
from training.guard import room_for
from training.large_batch import LargeBatchStep, Outcome
from training.projection import start_projection
from training.results import EVALUATION_ADVICE, fill_storage, score_split, write_results
from training.run import Run
from training.run_folder import record_options, run_folder
from training.same_images import refuse_other_images
from training.settings import note_lengths, note_warmup, refuse_settings
from utilities import checkpoint, distributed
from utilities.allocator import keep_freed_memory
from utilities.bars import new_bar
from utilities.cells import metric_table
from utilities.device import autocast, choose_device, full_precision, require_compiler, set_arithmetic
from utilities.errors import UsageError, answer
from utilities.files import refuse_input, refuse_place
from utilities.listing import print_names
from utilities.logger import write_json
from utilities.ranges import NO_PROJECTION
from utilities.seed import seed_everything
from utilities.tested import note_of_all
from utilities.text import counted, printable

STEP_ADVICE = ("--accumulate N (so many images at once, with the same gradient), --amp bf16, a smaller --image_size or "
               "a smaller --bs")


def train(run: Run, bar: tqdm) -> None:
    """Train from where the run stands to its last epoch.

    The lines from fetch to step are the training step; those after it keep the records. The same
    order stands in LargeBatchStep, for --accumulate and several processes.
    """
    opt = run.opt
    network = run.network
    method = run.method
    miner = run.miner
    optimisation = run.optimisation
    progress = run.progress
    large_batch = large_batch_step(run)
    mixed_precision = autocast(run.device, opt.amp)
    exact = nullcontext if run.device.type == "cpu" else partial(full_precision, run.device)  # a CPU is exact as it is
    if not progress.history:
        finish_epoch(run, {"epoch": 0, "step": 0}, bar)  # the untrained network
    while progress.epoch < opt.n_epochs:
        network.hold_backbone(opt.freeze or progress.epoch < opt.warmup_epochs)
        network.train()
        method.train()
        for batch in remaining_batches(run):                                         # fetch
            with room_for("this step", STEP_ADVICE):
                if large_batch:
                    outcome = large_batch(batch)
                else:
                    image, label, index = batch
                    with mixed_precision:
                        features = network(image)                                    # embed
                    with exact(features.embedding):
                        related = method.relate(network, features)                   # relate
                        triplets = miner(related.z, label) if miner else None        # mine
                        terms = method(network, features, related, label, index, triplets)  # loss
                        optimisation.scaler.scale(terms["total"]).backward()         # backward
                    outcome = Outcome(terms, related, label, index, triplets)
                gradient_norm = optimisation.step(progress.step + 1)                 # step
                progress.step += 1
                run.guard.watch(progress.step, run.watched(outcome.terms, gradient_norm), outcome.index)
                run.recorder.add(outcome.terms, images=len(outcome.label), gradient_norm=gradient_norm)
                run.sampler.update(outcome.related.z.detach(), outcome.index)
                progress.add_terms(outcome.terms)
                progress.update_timers(training=True)
                bar.update()
                adapt_miner(run)
                if progress.step % opt.log_every == 0:
                    log_step(run, outcome)
                save_between_epochs(run)
        means = progress.mean_terms(run.epoch_steps)
        progress.epoch += 1
        finish_epoch(run, {"epoch": progress.epoch, "step": progress.step} | means, bar)


def large_batch_step(run: Run) -> LargeBatchStep | None:
    """What takes the place of the step's lines with --accumulate or several processes."""
    if not run.opt.accumulate and distributed.world() == 1:
        return None
    return LargeBatchStep(run.network, run.method, run.miner, amp=run.opt.amp, scaler=run.optimisation.scaler,
                          chunk=run.opt.accumulate)


def refuse_metrics(opt) -> None:
    """A UsageError for metrics that cannot be computed, before any work."""
    parsed = {name: parse_metric(name) for name in opt.evaluation_metrics}
    for name, (_, number) in parsed.items():
        few = opt.embed_dim != NO_PROJECTION and abs(number) > opt.embed_dim
        if name.startswith("rho_spectrum@") and few:
            raise UsageError(f"--evaluation_metrics {name} drops more singular values than --embed_dim {opt.embed_dim} "
                             "has: name others, or a larger --embed_dim.")
    has_columns = any(isinstance(metric, QueryMetric) for metric, _ in parsed.values())
    if opt.eval_per_class and not opt.evaluate_only and not has_columns:
        raise UsageError("--eval_per_class has no metric of single images to write: add one such as e_recall@1 to "
                         "--evaluation_metrics.")


def run(opt) -> None:
    """Build everything, then train, or evaluate a checkpoint."""
    path = resume.run_folder(opt)
    past = resume.past_of(opt)
    if past and resume.is_finished(opt, past, path):
        print(f"{path} is finished, with {counted(opt.n_epochs, 'epoch')}; nothing is left to do.")
        return
    device = prepared_device(opt)
    refuse_metrics(opt)
    if opt.json:
        refuse_input("--json", opt.json, [opt.checkpoint])
        refuse_place("--json", opt.json)
    rows_decide = opt.dataset == "embeddings" and opt.embed_dim == NO_PROJECTION  # the width of all parts
    if not opt.evaluate_only:
        if path is None and opt.dataset == "image_folder":
            refuse_within("--save_path", opt.save_path, opt.source_path)
        if not rows_decide:
            refuse_settings(opt)
        note_lengths(opt)
        note_warmup(opt)
    seed_everything(opt.seed)
    splits = read_splits(opt)
    if rows_decide and not opt.evaluate_only:
        refuse_settings(opt)
    if past:
        refuse_other_images(past, splits, path)
    asked = dict(vars(opt))
    network = prepared_network(opt, device)
    settled = [flag for flag, value in vars(opt).items() if value != asked[flag]]
    loaders = build_loaders(opt, splits, network, device)
    if opt.evaluate_only:
        evaluate_only(opt, splits, network, loaders, device)
        return
    start_projection(opt, network, loaders["train"], device)
    if opt.compile:
        require_compiler(device)
        network.compile_backbone()
    method = build_method(opt, network, len(splits.train.class_names)).to(device)
    optimisation = build_optimisation(opt, network, method, len(loaders["train"]))
    with run_folder(opt, path) as folder:
        print(f"{opt.dataset}: {splits}." + (f" Writing to {folder.path}" if folder else ""))
        state = resume.state_of(opt)
        current = build_run(opt, splits, loaders, network, method, optimisation, device, folder, state)
        if folder:
            record_options(folder, opt, settled, device, state)
        fill_storage(current)
        with current.interruption.catch_signals(), current.trackers_closed(), progress_bar(current) as bar:
            train(current, bar)
        with optimisation.averaged(), room_for("the evaluation", EVALUATION_ADVICE):
            write_results(current)


def prepared_device(opt) -> torch.device:
    """Where this process computes, its arithmetic set; several processes have joined."""
    own_gpu = distributed.own_gpu()
    set_arithmetic(tf32=opt.tf32, deterministic=opt.deterministic)
    # of several processes on a machine without a GPU, each computes on the CPU
    is_on_gpu = own_gpu is not None and opt.device != "cpu"
    device = choose_device(opt.device, [own_gpu] if is_on_gpu else opt.gpu)
    if opt.evaluate_on_gpu and not torch.cuda.is_available():
        print("note: --evaluate_on_gpu: torch sees no GPU, so that the CPU evaluates.")
    if device.type == "cpu":
        keep_freed_memory()
    distributed.join(device, opt.timeout_minutes)
    return device


def progress_bar(run: Run) -> tqdm:
    """The progress of the whole run."""
    return new_bar(total=run.opt.n_epochs * run.epoch_steps, initial=run.progress.step, desc="train", unit="step",
                   smoothing=0.05, leave=True, hidden=distributed.rank() > 0)


def evaluate_only(opt, splits, network, loaders: dict, device: torch.device) -> None:
    """Print the metrics of --evaluate_only, and write them where --json says."""
    present = [splits.test.class_names[label] for label in set(splits.test.labels)]
    print(f"{opt.dataset}: {splits._replace(train=None, val=None)}.")
    for note in notes_on_classes(opt.checkpoint, present, splits.test.class_names):
        print(printable(note))
    if note := note_of_all(vars(opt)):
        print(note)
    metrics = score_split(opt, network, loaders, "test", device, opt.evaluation_metrics,
                          **evaluation_arguments(opt))
    print(metric_table({opt.checkpoint: metrics}))
    if opt.json and distributed.rank() == 0:
        write_json(opt.json, metrics)


def options(argv: list[str]):
    """The flags of the command line; with --evaluate_only those of the checkpoint where it has none, with --resume
    those of the run."""
    explicit = explicit_flags(argv)
    if explicit.get("evaluate_only") and explicit.get("checkpoint"):
        return get_options(argv, trained=checkpoint.load(explicit["checkpoint"])["options"])
    if explicit.get("resume"):
        return resume.options(argv, explicit)
    return get_options(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    argv = sys.argv[1:] if argv is None else argv

    def command() -> None:
        with distributed.name_lost_processes():
            opt = options(argv)
            if opt.list:
                print_names(list_names(opt.list))
            else:
                run(opt)
    with distributed.print_on_rank_zero():
        return answer("main.py", command, debug="--debug" in argv,
                      interrupted="Interrupted at once; --resume continues from the run's last checkpoint.")


if __name__ == "__main__":
    sys.exit(main())
