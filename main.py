"""Train LM-Metric, or one of its base losses, on images and evaluate retrieval of unseen classes.

`python main.py` trains the full method on the embedded data set; `python main.py --help` explains every flag.
"""
import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

import architectures
import batchminer
import criteria
import datasets
from architectures.memory import select as select_memory
from architectures.network import Network
from architectures.weights import load_file, preprocessing_beside
from batchminer.base import Miner
from criteria.class_proxies import ClassProxies
from criteria.lm_metric import LMMetric
from criteria.pair_weighting import BatchRelation, PairWeighting
from criteria.xbm import CrossBatchMemory
from datasets import make_loader, samplers, transforms
from datasets.cache import open_cache
from datasets.on_device import require_nvjpeg
from evaluation import QueryMetric, evaluate, parse_metric, query_values
from evaluation.cells import metric_table
from evaluation.confusions import Confusion, confusions
from evaluation.embed import embed
from evaluation.explorer import write_run_explorer
from evaluation.explorer_data import NEIGHBOURS
from evaluation.gallery import SHOWN, draw_run_gallery
from evaluation.map import draw_run_map, place_images
from evaluation.neighbours import nearest_neighbours
from evaluation.per_class import class_table
from evaluation.report import write_report
from parameters import (
    explicit_flags,
    get_options,
    kwargs_for,
    loss_arguments,
    loss_names,
    read_options,
    search_arguments,
)
from training import held_out, optimisation, resume
from training.ema import AveragedWeights
from training.guard import room_for
from training.loop import Parts, Training, metrics_of
from training.optimisation import Optimisation
from training.records import peak_memory_mib
from training.schedule import Schedule
from utilities import checkpoint, distributed
from utilities.device import choose_device, require_compiler, set_arithmetic
from utilities.errors import RunError, UsageError, answer
from utilities.listing import print_list
from utilities.logger import FULL, RunFolder, differences, provenance, write_json
from utilities.plots import plot_policy, plot_progress
from utilities.registry import accepted
from utilities.seed import preserved_randomness, seed_everything

EVALUATION_ADVICE = "a smaller --bs, which is also the number of images embedded at once, or a smaller --eval_block"

# ------------------------------------------------------------------------------------------------ evaluation, records


def evaluate_all(opt, parts: Parts, loaders: dict) -> dict:
    """Metrics of the test classes and, with the prefix val_, of the validation classes, and in the first process what
    the policy is worth on them; training notices nothing."""
    found = {}
    for split, prefix in (("val", "val_"), ("test", "")):
        if loaders.get(split) is not None:
            gallery = loaders.get("gallery") if split == "test" else None
            values = score_split(opt, parts.network, loaders[split], parts.device, opt.evaluation_metrics,
                                 gallery=gallery, bootstrap=opt.eval_bootstrap)
            found |= {prefix + name: value for name, value in values.items()}
    if distributed.rank() == 0:
        other_classes = "val" in loaders and not opt.tv_split_by_samples
        with preserved_randomness(), room_for("the evaluation", EVALUATION_ADVICE):
            worth = worth_on(opt, parts, loaders["val" if other_classes else "test"], at_most=held_out.BATCHES)
        found |= held_out.columns(worth)
    return found


def worth_on(opt, parts: Parts, loader, at_most: int | None = None) -> dict | None:
    """What the policy is worth on batches of the loader's images."""
    return held_out.policy_worth(parts.method, parts.network, loader, build_miner(opt), parts.device, bs=opt.bs,
                                 samples_per_class=opt.samples_per_class, seed=opt.seed, at_most=at_most)


def score_split(opt, network: Network, loader, device: torch.device, names, gallery=None, bootstrap: int = 0) -> dict:
    """The metrics called for, of the images of one loader, searched among each other or in those of another; all
    processes embed, the first computes, and all learn the result."""
    with preserved_randomness(), room_for("the evaluation", EVALUATION_ADVICE):
        rows, labels = embed(network, loader, device, amp=opt.amp)
        there = embed(network, gallery, device, amp=opt.amp) if gallery else (None, None)
        found = None
        if distributed.rank() == 0:
            found = evaluate(rows, labels, names, gallery=there[0], gallery_labels=there[1], bootstrap=bootstrap,
                             **search_arguments(opt))
        ends = ("", "_low", "_high") if bootstrap else ("",)
        return distributed.from_first(found, [name + end for name in names for end in ends], device)


def draw_curves(opt, parts: Parts, folder: RunFolder, history: list[dict], records: list[dict]) -> None:
    """progress.png, and policy.png where a policy was trained."""
    plot_progress(history, opt.evaluation_metrics, folder / "progress.png")
    if records:
        weighting = parts.method.weighting
        names = ("phi_p", "phi_n") if opt.policy_action == "weight" else ("b_p", "b_n")
        plot_policy(records, folder / "policy.png", weighting.grid_positive.tolist(), weighting.grid_negative.tolist(),
                    names=names, history=history)


def conclude(opt, training: Training, splits, loaders: dict, folder: RunFolder | None) -> None:
    """After training: the policy's worth on held-out classes, result.json, the closing table and the pictures; the
    other processes only help to embed."""
    parts, history = training.parts, training.history
    found = retrieved(opt, parts, loaders) if opt.figures else None
    if folder is None:
        return
    if opt.figures:
        draw_curves(opt, parts, folder, history, training.records)
    result = {"final": metrics_of(opt, history[-1]), "untrained": metrics_of(opt, history[0]), "best": training.best,
              "policy": training.records[-1] if training.records else None, "steps": training.step,
              "seconds": round(training.seconds, 3),
              "seconds_per_epoch": round(training.training_seconds / max(1, opt.n_epochs), 3)}
    if worth := worth_on(opt, parts, loaders["test"]):
        result["held_out_advantage_over_uniform"] = worth
    result["peak_memory_mib"] = peak_memory_mib(parts.device)
    folder.write_json("result.json", result)
    print(metric_table({"untrained": result["untrained"], "trained": result["final"]}))
    if opt.figures:
        picture(opt, found, splits, folder)
        write_report(folder.path)
    print(f"{result['seconds_per_epoch']:.2f} s an epoch, {result['steps']} steps. Everything is in {folder.path}")


def retrieved(opt, parts: Parts, loaders: dict) -> tuple:
    """Embeddings and labels of the test images, and of the gallery or None and None."""
    rows = embed(parts.network, loaders["test"], parts.device, amp=parts.amp)
    return *rows, *(embed(parts.network, loaders["gallery"], parts.device, amp=parts.amp) if "gallery" in loaders else
                    (None, None))


def picture(opt, found: tuple, splits, folder: RunFolder) -> None:
    """What the test embeddings look like: gallery.png, embedding.png, the classes mixed up, and the worst; all of it to
    walk through in explorer.html."""
    images = splits.test
    rows, labels, among, there = found
    among = rows if among is None else among
    depth = min(max(SHOWN, NEIGHBOURS), len(among) - (there is None))
    score, index = nearest_neighbours(rows, among, depth, exclude_self=there is None, **search_arguments(opt))
    draw_run_gallery(score[:, :SHOWN], index[:, :SHOWN], images, opt.image_size, folder / "gallery.png",
                     gallery=splits.gallery, seed=opt.seed)
    pairs = confusions(index[:, 0], labels, images.class_names, there)
    folder.write_csv("confusions.csv", [pair._asdict() for pair in pairs], Confusion._fields)
    for pair in pairs[:3]:
        print(f"Mixed up most: {pair}")
    if opt.eval_per_class:
        values, query = query_values(rows, labels, opt.evaluation_metrics, gallery=among if splits.gallery else None,
                                     gallery_labels=there, **search_arguments(opt))
        folder.write_csv("per_class.csv", class_table(values, query, labels, images.class_names))
    places = place_images(rows, labels, opt.map_images) if opt.map_images else None
    if places:
        draw_run_map(places, rows.shape[1], images, folder / "embedding.png", thumbnails=opt.map_thumbnails)
    if opt.explorer_images:
        write_run_explorer(folder.path, score, index, images, limit=opt.explorer_images, gallery=splits.gallery,
                           places=places)


# ----------------------------------------------------------------------------------------------------- building


def build_network(opt) -> Network:
    """Backbone, projection and memory; weights are fetched or read only where no checkpoint replaces them."""
    memory = select_memory(opt.memory, opt.embed_dim, **kwargs_for(opt, "memory_"))
    replaced = opt.checkpoint or resume.continues(opt.resume, opt.save_path, opt.dataset, name_of(opt))
    own = None if replaced else opt.weights
    if own:
        for key, value in preprocessing_beside(own).items():
            flag = "image_size" if key == "image_size" else f"input_{key}"
            setattr(opt, flag, value if getattr(opt, flag) is None else getattr(opt, flag))
    network = architectures.select(opt.arch, embed_dim=opt.embed_dim, memory=memory, weights_dir=opt.weights_dir,
                                   pretrained=not (opt.not_pretrained or opt.weights or replaced),
                                   frozen_affine=opt.frozen_bn_affine, **architectures.built_by(vars(opt)))
    if own:
        print(load_file(network.backbone, own, opt.arch))
    return network


def build_method(opt, network: Network, n_classes: int) -> LMMetric:
    """Base criterion, relation and policy."""
    base = criteria.select(opt.loss, n_classes=n_classes, embed_dim=opt.embed_dim, weight_on=opt.pair_weight_on,
                           **loss_arguments(opt))
    if base.needs_triplets != (opt.batch_mining != "none"):
        raise UsageError(f"--loss {opt.loss} " + ("needs triplets: pass --batch_mining distance." if base.needs_triplets
                                                  else "compares the whole batch: pass --batch_mining none."))
    relation = weighting = None
    if opt.relation != "none":
        relation = BatchRelation(network.feature_dim, opt.embed_dim, kind=opt.relation, seed=opt.seed,
                                 **accepted(BatchRelation, kwargs_for(opt, "relation_")))
    policy = kwargs_for(opt, "policy_")
    if opt.pair_weighting != "uniform":
        weighting = PairWeighting(relation.state_dim if relation else 0, seed=opt.seed,
                                  **accepted(PairWeighting, policy))
    xbm = None
    if opt.xbm_size:
        xbm = CrossBatchMemory(base, opt.embed_dim, miner=build_miner(opt), **kwargs_for(opt, "xbm_"))
    proxies = ClassProxies(n_classes, opt.embed_dim, **kwargs_for(opt, "proxies_")) if opt.proxies_weight else None
    return LMMetric(base, relation, weighting, xbm=xbm, proxies=proxies, pair_weighting=opt.pair_weighting,
                    memory_weight=opt.memory_weight, memory_dual=opt.memory_dual, **accepted(LMMetric, policy))


def build_miner(opt) -> Miner | None:
    """The miner, or None for losses over the whole batch."""
    if opt.batch_mining == "none":
        return None
    miner = batchminer.select(opt.batch_mining, seed=opt.seed, **kwargs_for(opt, f"miner_{opt.batch_mining}_"))
    miner.second_negative = criteria.CRITERIA[loss_names(vars(opt))[-1]].needs_quadruplets
    return miner


def build_optimisation(opt, network: Network, method: LMMetric, epoch_steps: int) -> Optimisation:
    """One optimizer over everything that trains, each part at its own rate, with schedule, clipping and averages."""
    groups = optimisation.parameter_groups(network, method, lr=opt.lr, fc_lr=opt.fc_lr, relation_lr=opt.relation_lr,
                                           memory_lr=opt.memory_lr, policy_lr=opt.policy_lr)
    optimizer = optimisation.build_optimizer(groups, optim=opt.optim, decay=opt.decay, momentum=opt.momentum,
                                             nesterov=opt.nesterov)
    schedule = Schedule(opt.scheduler, epoch_steps, opt.n_epochs, opt.tau, opt.gamma, opt.lr_min, opt.lr_warmup_epochs)
    scaler = torch.amp.GradScaler(groups[0]["params"][0].device.type, enabled=opt.amp == "fp16")
    return Optimisation(optimizer, schedule, scaler=scaler, grad_clip=opt.grad_clip,
                        average=AveragedWeights(network, opt.ema) if opt.ema else None)


def settle_sizes(opt, network: Network) -> None:
    """The sizes that follow from the network where the command line names none, so that options.json holds them."""
    opt.image_size = opt.image_size or network.image_size
    side = transforms.sides(opt.image_size, opt.crop_size, opt.augmentation).input
    if opt.cache != "none":
        opt.cache_side = opt.cache_side or transforms.cache_side(side)
        if opt.cache_side < side:
            raise UsageError(f"--cache_side {opt.cache_side} is less than the input's {side} pixels: pass at least "
                             f"--cache_side {side}.")


def build_loaders(opt, splits, network: Network, device: torch.device) -> dict:
    """Loaders of train, val (where there is one) and test, and `storage` of all training images where the batch sampler
    chooses by their embeddings."""
    sampler = samplers.select(opt.data_sampler, labels=splits.train.labels, bs=opt.bs,
                              samples_per_class=opt.samples_per_class, seed=opt.seed, rank=distributed.rank(),
                              world=distributed.world(), super_labels=splits.train.super_labels, device=device,
                              **kwargs_for(opt, "data_"))
    if sampler.notice:
        print(sampler.notice)
    cached = (splits.test, splits.gallery) if opt.evaluate_only and opt.cache == "ram" else splits
    cache = open_cache(opt.cache, [path for images in cached if images for path in images.paths], opt.cache_side,
                       opt.cache_path, name=opt.dataset, workers=opt.kernels)
    common = {"workers": opt.kernels, "seed": opt.seed, "device": device, "cache": cache, "decode": opt.decode}
    geometry = {"image_size": opt.image_size, "crop_size": opt.crop_size, "augmentation": opt.augmentation}
    train_transform = transforms.train_transform(**geometry, **network.preprocessing)
    eval_transform = transforms.eval_transform(**geometry, **network.preprocessing)
    loaders = {"train": make_loader(splits.train, train_transform, batch_sampler=sampler, **common)}
    stored = splits.train if sampler.needs_storage else None
    for name, images in (("val", splits.val), ("test", splits.test), ("gallery", splits.gallery), ("storage", stored)):
        if images is not None:
            loaders[name] = make_loader(images, eval_transform, batch_size=opt.bs, **common)
    return loaders


def fill_storage(loaders: dict, parts: Parts) -> None:
    """Embed all training images once, for a batch sampler that chooses by embeddings; a resumed one has them."""
    sampler, images = loaders["train"].batch_sampler.sampler, loaders.pop("storage", None)
    if images is not None and sampler.storage is None:
        with preserved_randomness(), room_for("the evaluation", EVALUATION_ADVICE):
            sampler.fill(embed(parts.network, images, parts.device, amp=parts.amp)[0])


# ----------------------------------------------------------------------------------------------------- the command


def refuse_metrics(opt) -> None:
    """A UsageError for metrics that there are not, before any work."""
    asked = [parse_metric(name)[0] for name in opt.evaluation_metrics]
    if opt.eval_per_class and not any(isinstance(metric, QueryMetric) for metric in asked):
        raise UsageError("--eval_per_class has no metric of single images to write: add one such as e_recall@1 to "
                         "--evaluation_metrics.")


def read_splits(opt) -> datasets.Splits:
    """The images of the data set, with validation images taken out of the training half where that is asked for."""
    splits = datasets.select(opt.dataset, opt.source_path, **kwargs_for(opt, f"{opt.dataset}_"))
    if not opt.use_tv_split:
        return splits
    train, val = datasets.split_validation(splits.train, opt.tv_split_perc, opt.tv_split_by_samples, opt.seed)
    return splits._replace(train=train, val=val)


def prepared_network(opt, device: torch.device) -> Network:
    """The network with its first weights, on the device."""
    network = build_network(opt)
    if opt.checkpoint:
        checkpoint.load_network(opt.checkpoint, network, vars(opt))
    settle_sizes(opt, network)
    architectures.check_side(network, opt.arch, transforms.sides(opt.image_size, opt.crop_size, opt.augmentation).input)
    network.to(device, memory_format=torch.channels_last if opt.channels_last else torch.contiguous_format)
    if distributed.world() > 1 and device.type == "cuda":
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def run(opt) -> None:
    """Build everything, then train, or evaluate a checkpoint."""
    own_gpu = distributed.local_rank()
    set_arithmetic(tf32=opt.tf32, deterministic=opt.deterministic)
    device = choose_device(opt.device, opt.gpu if own_gpu is None or opt.device == "cpu" else [own_gpu])
    if opt.decode == "nvjpeg":
        require_nvjpeg(device)
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


def name_of(opt) -> str:
    """The name of the run's folder."""
    return opt.savename or f"{opt.recipe}-{opt.loss}-s{opt.seed}"


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
