"""Train LM-Metric, or one of its base losses, on images and evaluate retrieval of unseen classes.

`python main.py` trains the full method on the embedded data set; `python main.py --help` explains every flag.
"""
import math
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from tqdm import tqdm

import architectures
import batchminer
import criteria
import datasets
from architectures.memory import select as select_memory
from architectures.network import Network
from batchminer.base import Miner
from criteria.lm_metric import LMMetric
from criteria.pair_weighting import BatchRelation, PairWeighting
from criteria.policy_health import held_out_advantage, policy_record
from criteria.xbm import CrossBatchMemory
from datasets import batches, make_loader, samplers, transforms
from evaluation import QueryMetric, evaluate, parse_metric, query_values
from evaluation.confusions import Confusion, confusions
from evaluation.embed import embed
from evaluation.gallery import SHOWN, draw_run_gallery
from evaluation.map import draw_run_map
from evaluation.neighbours import nearest_neighbours
from evaluation.per_class import class_table
from evaluation.tables import metric_table
from parameters import explicit_flags, get_options, kwargs_for, loss_arguments, loss_names, search_arguments
from utilities import checkpoint
from utilities.device import autocast, choose_device
from utilities.errors import RunError, UsageError, answer
from utilities.logger import RunFolder, provenance, write_json
from utilities.plots import plot_policy, plot_progress
from utilities.registry import accepted
from utilities.seed import preserved_randomness, seed_everything


class Parts(NamedTuple):
    """What a training step needs."""

    network: Network
    method: LMMetric
    miner: Miner | None
    optimizer: torch.optim.Optimizer
    device: torch.device
    amp: str
    scaler: torch.amp.GradScaler


# ------------------------------------------------------------------------------------------------------ the loop


def train_epoch(parts: Parts, loader, first_step: int, log_every: int, bar: tqdm, validate: Callable
                ) -> tuple[dict, list[dict]]:
    """One pass over the loader: the mean of every loss term, and the records of the policy's health.

    validate(names) gives metrics of the validation classes, for a miner that adapts to them.
    """
    network, method, miner, optimizer, device, amp, scaler = parts
    sums, records = None, []
    network.train()
    method.train()
    for step, batch in enumerate(batches(loader), start=first_step):
        image, label, index = (part.to(device, non_blocking=True) for part in batch)
        with autocast(device, amp):
            features = network(image)                                              # embed
        related = method.relate(network, features)                                 # relate
        triplets = miner(related.z, label) if miner else None                      # mine
        terms = method(network, features, related, label, index, triplets)         # weigh, compare, remember
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(terms["total"]).backward()
        scaler.step(optimizer)
        scaler.update()
        values = torch.stack([term.detach() for term in terms.values()])           # stays on the device
        sums = values if sums is None else sums + values
        bar.update()
        if miner and miner.adapts and step % miner.every == 0:
            miner.adapt(validate(miner.metrics), progress=bar.n / bar.total)
        if step % log_every == 0:                                                  # the one reading by the host
            require_finite(dict(zip(terms, values.tolist())), step)
            if method.learns:
                records.append({"step": step} | policy_record(method, related, label, triplets))
    means = dict(zip(terms, (sums / len(loader)).tolist()))
    require_finite(means, step)
    return {"loss": means.pop("total")} | means, records


def train(opt, parts: Parts, loaders: dict, folder: RunFolder) -> dict:
    """All epochs: train, evaluate, keep checkpoints and records. Returns what result.json will hold."""
    scheduler = torch.optim.lr_scheduler.MultiStepLR(parts.optimizer, opt.tau if opt.scheduler == "step" else [],
                                                     opt.gamma)
    steps, history, records, best = len(loaders["train"]), [], [], {}
    begin, training = time.perf_counter(), 0.0
    with tqdm(total=opt.n_epochs * steps, desc="train", unit="step", smoothing=0.05) as bar:
        for epoch in range(opt.n_epochs + 1):                                      # epoch 0: the untrained network
            row, started = {"epoch": epoch, "step": epoch * steps}, time.perf_counter()
            if epoch > 0:
                parts.network.backbone.requires_grad_(epoch > opt.warmup_epochs)
                means, new = train_epoch(parts, loaders["train"], (epoch - 1) * steps + 1, opt.log_every, bar,
                                         partial(score_split, opt, parts.network, loaders.get("val"), parts.device))
                scheduler.step()
                records += [{"epoch": epoch} | record for record in new]
                row |= means
            training += time.perf_counter() - started
            if epoch % opt.eval_every == 0 or epoch == opt.n_epochs:
                row |= evaluate_all(opt, parts, loaders)
                bar.set_postfix({name: f"{row[name]:.3f}" for name in opt.storage_metrics})
            row["seconds"] = round(time.perf_counter() - begin, 3)
            history.append(row)
            folder.write_csv("metrics.csv", history)
            keep_checkpoints(opt, parts, scheduler, folder, row, best)
    draw_curves(opt, parts, folder, history, records)
    return {"final": metrics_of(opt, history[-1]), "untrained": metrics_of(opt, history[0]), "best": best,
            "policy": records[-1] if records else None, "steps": opt.n_epochs * steps,
            "seconds": history[-1]["seconds"], "seconds_per_epoch": round(training / max(1, opt.n_epochs), 3)}


def require_finite(terms: dict, step: int) -> None:
    """Stop at a loss that is no number, with the terms that show where it came from."""
    if not all(math.isfinite(value) for value in terms.values()):
        listing = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
        raise RunError(f"The loss is not finite at step {step} ({listing}). The last checkpoint is in the run's "
                       "folder; a lower --lr is the usual cure.")


# ------------------------------------------------------------------------------------------------ evaluation, records


def evaluate_all(opt, parts: Parts, loaders: dict) -> dict:
    """Metrics of the test classes and, with the prefix val_, of the validation classes; training notices nothing."""
    found = {}
    for split, prefix in (("val", "val_"), ("test", "")):
        if loaders.get(split) is not None:
            values = score_split(opt, parts.network, loaders[split], parts.device, opt.evaluation_metrics,
                                 bootstrap=opt.eval_bootstrap)
            found |= {prefix + name: value for name, value in values.items()}
    return found


def score_split(opt, network: Network, loader, device: torch.device, names, bootstrap: int = 0) -> dict:
    """The metrics called for, of the images of one loader."""
    with preserved_randomness():
        rows, labels = embed(network, loader, device, amp=opt.amp)
        return evaluate(rows, labels, names, bootstrap=bootstrap, **search_arguments(opt))


def metrics_of(opt, row: dict) -> dict:
    """The metrics in a row of the history, with their intervals."""
    names = [metric + end for metric in opt.evaluation_metrics for end in ("", "_low", "_high")]
    return {name: row[name] for name in names if name in row}


def keep_checkpoints(opt, parts: Parts, scheduler, folder: RunFolder, row: dict, best: dict) -> None:
    """last.pt after every evaluation, best_<metric>.pt where validation (else test) is best so far."""
    chosen = {name: row.get(f"val_{name}", row.get(name)) for name in opt.storage_metrics}
    if None in chosen.values():
        return
    state = {"epoch": row["epoch"], "options": vars(opt), "metrics": metrics_of(opt, row),
             "network": parts.network.state_dict(), "method": parts.method.state_dict(),
             "optimizer": parts.optimizer.state_dict(), "scheduler": scheduler.state_dict(),
             "scaler": parts.scaler.state_dict(),
             "miner": parts.miner.state_dict() if parts.miner else None}
    checkpoint.save(folder / "last.pt", state)
    for name, value in chosen.items():
        if name not in best or value > best[name]["value"]:
            best[name] = {"epoch": row["epoch"], "value": value, "chosen_on": "val" if f"val_{name}" in row else "test",
                          "metrics": metrics_of(opt, row)}
            checkpoint.save(folder / f"best_{name}.pt", state)


def draw_curves(opt, parts: Parts, folder: RunFolder, history: list[dict], records: list[dict]) -> None:
    """progress.png, and policy.png where a policy was trained."""
    plot_progress(history, opt.evaluation_metrics, folder / "progress.png")
    if records:
        weighting = parts.method.weighting
        names = ("b_p", "b_n") if opt.policy_action == "sharpness" else ("phi_p", "phi_n")
        plot_policy(records, folder / "policy.png", weighting.grid_positive.tolist(), weighting.grid_negative.tolist(),
                    names=names)


def conclude(opt, parts: Parts, splits, loaders: dict, folder: RunFolder, result: dict) -> None:
    """After training: the policy's worth on held-out classes, result.json, the closing table and the pictures."""
    if parts.method.learns:
        sampler = samplers.select("class_random", labels=splits.test.labels, bs=opt.bs,
                                  samples_per_class=opt.samples_per_class, seed=opt.seed)
        loader = make_loader(splits.test, loaders["test"].dataset.transform, batch_sampler=sampler, workers=0,
                             seed=opt.seed)
        result["held_out_advantage_over_uniform"] = held_out_advantage(
            parts.method, parts.network, build_miner(opt), batches(loader), parts.device)
    result["peak_memory_mib"] = peak_memory_mib(parts.device)
    folder.write_json("result.json", result)
    print(metric_table({"untrained": result["untrained"], "trained": result["final"]}))
    picture(opt, parts, splits.test, loaders["test"], folder)
    print(f"{result['seconds_per_epoch']:.2f} s an epoch, {result['steps']} steps. Everything is in {folder.path}")


def picture(opt, parts: Parts, images, loader, folder: RunFolder) -> None:
    """What the test embeddings look like: gallery.png, embedding.png, the classes mixed up, and the worst."""
    rows, labels = embed(parts.network, loader, parts.device, amp=parts.amp)
    depth = min(SHOWN, len(rows) - 1)
    score, index = nearest_neighbours(rows, rows, depth, exclude_self=True, **search_arguments(opt))
    draw_run_gallery(score, index, images, opt.image_size, folder / "gallery.png", seed=opt.seed)
    pairs = confusions(index[:, 0], labels, images.class_names)
    folder.write_csv("confusions.csv", [pair._asdict() for pair in pairs], Confusion._fields)
    for pair in pairs[:3]:
        print(f"Mixed up most: {pair}")
    if opt.eval_per_class:
        values, query = query_values(rows, labels, opt.evaluation_metrics, **search_arguments(opt))
        folder.write_csv("per_class.csv", class_table(values, query, labels, images.class_names))
    if opt.map_images:
        draw_run_map(rows, images, folder / "embedding.png", limit=opt.map_images, thumbnails=opt.map_thumbnails)


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory held so far: of the GPU where one is used, of the process otherwise."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


# ----------------------------------------------------------------------------------------------------- building


def build_network(opt) -> Network:
    """Backbone, projection and memory."""
    memory = select_memory(opt.memory, opt.embed_dim, **kwargs_for(opt, "memory_"))
    return architectures.select(opt.arch, embed_dim=opt.embed_dim, pretrained=not opt.not_pretrained, memory=memory)


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
                                 **kwargs_for(opt, "relation_"))
    policy = kwargs_for(opt, "policy_")
    if opt.pair_weighting != "uniform":
        weighting = PairWeighting(relation.state_dim if relation else 0, seed=opt.seed,
                                  **accepted(PairWeighting, policy))
    xbm = None
    if opt.xbm_size:
        xbm = CrossBatchMemory(base, opt.embed_dim, miner=build_miner(opt), **kwargs_for(opt, "xbm_"))
    return LMMetric(base, relation, weighting, xbm=xbm, pair_weighting=opt.pair_weighting,
                    memory_weight=opt.memory_weight, memory_dual=opt.memory_dual, **accepted(LMMetric, policy))


def build_miner(opt) -> Miner | None:
    """The miner, or None for losses over the whole batch."""
    if opt.batch_mining == "none":
        return None
    miner = batchminer.select(opt.batch_mining, seed=opt.seed, **kwargs_for(opt, f"miner_{opt.batch_mining}_"))
    miner.second_negative = criteria.CRITERIA[loss_names(vars(opt))[-1]].needs_quadruplets
    return miner


def build_optimizer(opt, network: Network, method: LMMetric) -> torch.optim.Optimizer:
    """One optimizer over the backbone (--lr), the new layers (--fc_lr), the policy (--policy_lr) and what the base
    criterion learns (at rates of its own)."""
    fc_lr = opt.fc_lr if opt.fc_lr >= 0 else opt.lr
    new = [p for name, p in network.named_parameters() if not name.startswith("backbone.")]
    groups = [{"params": list(network.backbone.parameters()), "lr": opt.lr}, {"params": new, "lr": fc_lr}]
    groups += method.param_groups(fc_lr, opt.policy_lr)
    if opt.optim == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=opt.decay)
    return torch.optim.Adam(groups, weight_decay=opt.decay, fused=True)


def build_loaders(opt, splits, network: Network, device: torch.device) -> dict:
    """Loaders of train, val (where there is one) and test."""
    sampler = samplers.select(opt.data_sampler, labels=splits.train.labels, bs=opt.bs,
                              samples_per_class=opt.samples_per_class, seed=opt.seed)
    if sampler.notice:
        print(sampler.notice)
    common = {"workers": opt.kernels, "seed": opt.seed, "pin_memory": device.type == "cuda"}
    train_transform = transforms.train_transform(opt.augmentation, opt.image_size, network.mean, network.std)
    eval_transform = transforms.eval_transform(opt.image_size, network.mean, network.std)
    loaders = {"train": make_loader(splits.train, train_transform, batch_sampler=sampler, **common)}
    for name, images in (("val", splits.val), ("test", splits.test)):
        if images is not None:
            loaders[name] = make_loader(images, eval_transform, batch_size=opt.bs, **common)
    return loaders


# ----------------------------------------------------------------------------------------------------- the command


def run(opt) -> None:
    """Build everything, then train, or evaluate a checkpoint."""
    device = choose_device(opt.device, opt.gpu)
    asked = [parse_metric(name)[0] for name in opt.evaluation_metrics]             # refuse a wrong name before any work
    if opt.eval_per_class and not any(isinstance(metric, QueryMetric) for metric in asked):
        raise UsageError("--eval_per_class has no metric of single images to write: add one such as e_recall@1 to "
                         "--evaluation_metrics.")
    seed_everything(opt.seed)
    splits = datasets.select(opt.dataset, opt.source_path, **kwargs_for(opt, f"{opt.dataset}_"))
    if opt.use_tv_split:
        train_images, val_images = datasets.split_validation(splits.train, opt.tv_split_perc, opt.tv_split_by_samples,
                                                             opt.seed)
        splits = splits._replace(train=train_images, val=val_images)
    network = build_network(opt)
    if opt.checkpoint:
        checkpoint.load_network(opt.checkpoint, network, vars(opt))
    network.to(device, memory_format=torch.channels_last)                          # a fifth to a third faster
    loaders = build_loaders(opt, splits, network, device)
    if opt.evaluate_only:
        report(opt, score_split(opt, network, loaders["test"], device, opt.evaluation_metrics, opt.eval_bootstrap))
        return
    method = build_method(opt, network, len(splits.train.class_names)).to(device)
    parts = Parts(network, method, build_miner(opt), build_optimizer(opt, network, method), device, opt.amp,
                  torch.amp.GradScaler(device.type, enabled=opt.amp == "fp16"))
    folder = RunFolder(opt.save_path, opt.dataset, opt.savename or f"{opt.recipe}-{opt.loss}-s{opt.seed}")
    folder.write_json("options.json", provenance(vars(opt), str(device)))
    print(f"{opt.dataset}: {splits}. Writing to {folder.path}")
    result = train(opt, parts, loaders, folder)
    conclude(opt, parts, splits, loaders, folder, result)


def report(opt, metrics: dict) -> None:
    """Print the metrics of --evaluate_only, and write them where --json says."""
    print(metric_table({opt.checkpoint: metrics}))
    if opt.json:
        write_json(opt.json, metrics)


def options(argv: list[str]):
    """The flags of the command line; with --evaluate_only those of the checkpoint where it has none."""
    explicit = explicit_flags(argv)
    if explicit.get("evaluate_only") and explicit.get("checkpoint"):
        return get_options(argv, trained=checkpoint.load(explicit["checkpoint"])["options"])
    return get_options(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0 when all went well, 2 for wrong usage, 1 for what failed while running."""
    argv = sys.argv[1:] if argv is None else argv
    return answer("main.py", lambda: run(options(argv)), debug="--debug" in argv,
                  interrupted="Interrupted; the last checkpoint is in the run's folder.")


if __name__ == "__main__":
    sys.exit(main())
