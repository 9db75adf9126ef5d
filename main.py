"""Train LM-Metric, or one of its base losses, on images and evaluate retrieval of unseen classes.

`python main.py` trains the full method on the embedded data set; `python main.py --help` explains every flag.
"""
import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from evaluation import QueryMetric, parse_metric
from evaluation.embed import embed
from parameters import explicit_flags, get_options, read_options
from training import resume
from training.building import (
    build_loaders,
    build_method,
    build_miner,
    build_optimisation,
    name_of,
    prepared_network,
    read_splits,
)
from training.guard import room_for
from training.loop import Parts, Training
from training.results import EVALUATION_ADVICE, conclude, evaluate_all, score_split
from utilities import checkpoint, distributed
from utilities.cells import metric_table
from utilities.device import choose_device, require_compiler, set_arithmetic
from utilities.errors import RunError, UsageError, answer
from utilities.listing import print_list
from utilities.logger import FULL, RunFolder, differences, provenance, write_json
from utilities.seed import preserved_randomness, seed_everything


def fill_storage(loaders: dict, parts: Parts) -> None:
    """Embed all training images once, for a batch sampler that chooses by embeddings; a resumed one has them."""
    sampler, images = loaders["train"].batch_sampler.sampler, loaders.pop("storage", None)
    if images is not None and sampler.storage is None:
        with preserved_randomness(), room_for("the evaluation", EVALUATION_ADVICE):
            sampler.fill(embed(parts.network, images, parts.device, amp=parts.amp)[0])


def refuse_metrics(opt) -> None:
    """A UsageError for metrics that there are not, before any work."""
    asked = [parse_metric(name)[0] for name in opt.evaluation_metrics]
    if opt.eval_per_class and not any(isinstance(metric, QueryMetric) for metric in asked):
        raise UsageError("--eval_per_class has no metric of single images to write: add one such as e_recall@1 to "
                         "--evaluation_metrics.")


def run(opt) -> None:
    """Build everything, then train, or evaluate a checkpoint."""
    own_gpu = distributed.local_rank()
    set_arithmetic(tf32=opt.tf32, deterministic=opt.deterministic)
    device = choose_device(opt.device, opt.gpu if own_gpu is None or opt.device == "cpu" else [own_gpu])
    distributed.join(device)
    refuse_metrics(opt)
    seed_everything(opt.seed)
    splits = read_splits(opt)
    network = prepared_network(opt, device)
    loaders = build_loaders(opt, splits, network, device)
    if opt.evaluate_only:
        report(opt, score_split(opt, network, loaders["test"], device, opt.evaluation_metrics,
                                gallery=loaders.get("gallery"), bootstrap=opt.eval_bootstrap))
        return
    if opt.compile:
        require_compiler(device)
        network.compile_backbone()
    method = build_method(opt, network, len(splits.train.class_names)).to(device)
    parts = Parts(network, method, build_miner(opt), build_optimisation(opt, network, method, len(loaders["train"])),
                  device, opt.amp)
    path = resume.run_folder(opt.resume, opt.save_path, opt.dataset, name_of(opt)) if opt.resume else None
    with run_folder(opt, path, device) as folder:
        print(f"{opt.dataset}: {splits}." + (f" Writing to {folder.path}" if folder else ""))
        training = Training(opt, parts, loaders["train"], folder, partial(evaluate_all, opt, parts, loaders),
                            partial(score_split, opt, network, loaders.get("val"), device),
                            {name: images.class_names for name, images in splits._asdict().items() if images})
        if path and (state := resume.state_of(opt.resume, path)):
            training.load_state_dict(state)
            print(f"Continuing at step {training.step}, in epoch {min(training.epoch + 1, opt.n_epochs)} of "
                  f"{opt.n_epochs}.")
        fill_storage(loaders, parts)
        training.run()
        with parts.optimisation.averaged(), room_for("the evaluation", EVALUATION_ADVICE):
            conclude(opt, training, splits, loaders, folder)


@contextlib.contextmanager
def run_folder(opt, path: Path | None, device: torch.device) -> Iterator[RunFolder | None]:
    """The folder of the run, new or that of the one to continue, which other runs are kept out of meanwhile; None for
    all processes but the first."""
    if distributed.rank() > 0:
        yield None
        return
    folder = RunFolder(opt.save_path, opt.dataset, name_of(opt)) if path is None else RunFolder.at(path)
    try:
        if not (folder / "options.json").exists():
            here = provenance(vars(opt), str(device))
            folder.write_json("options.json", here)
            for line in differences(read_options(opt.repeat), here) if opt.repeat else ():
                print(line)
        yield folder
    except OSError as error:
        if error.errno in FULL:
            raise RunError(f"The disk of {folder.path} is full ({error.strerror}); what was complete is intact. Free "
                           f"space, then --resume {folder.path} continues from the last checkpoint.") from error
        raise
    finally:
        folder.close()


def report(opt, metrics: dict) -> None:
    """Print the metrics of --evaluate_only, and write them where --json says."""
    print(metric_table({opt.checkpoint: metrics}))
    if opt.json:
        write_json(opt.json, metrics)


def options(argv: list[str]):
    """The flags of the command line; with --evaluate_only those of the checkpoint where it has none, with --resume
    those of the run."""
    explicit = explicit_flags(argv)
    if explicit.get("evaluate_only") and explicit.get("checkpoint"):
        return get_options(argv, trained=checkpoint.load(explicit["checkpoint"])["options"])
    if explicit.get("resume"):
        opt = get_options(argv)
        path = resume.run_folder(opt.resume, opt.save_path, opt.dataset, name_of(opt))
        if path and (state := resume.state_of(opt.resume, path)):
            resume.refuse_differences(state["options"], explicit, path)
            return get_options(argv, trained=state["options"])
    return get_options(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    argv = sys.argv[1:] if argv is None else argv

    def command() -> None:
        with distributed.lost_ones_named():
            opt = options(argv)
            print_list(opt.list) if opt.list else run(opt)
    with distributed.first_speaks():
        return answer("main.py", command, debug="--debug" in argv,
                      interrupted="Interrupted at once; --resume continues from the run's last checkpoint.")


if __name__ == "__main__":
    sys.exit(main())
