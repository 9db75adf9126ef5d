"""What a run has learned: its metrics while it trains; its result, table and pictures when it has."""
from typing import NamedTuple

import torch
from torch import Tensor

from architectures.network import Network
from criteria.method.context_health import has_health
from datasets import Splits
from datasets.row_paths import RowPaths
from evaluation import evaluate, explorer, query_values, report
from evaluation.embed import embed
from evaluation.metrics.confusions import Confusion, confusions
from evaluation.metrics.per_class import class_table
from evaluation.ranking import nearest, searched
from evaluation.run_files import read_run
from parameters import evaluation_arguments, search_arguments
from training import held_out
from training.guard import room_for
from training.records import peak_memory_mib
from training.run import Run, metrics_of
from utilities import distributed
from utilities.cells import metric_table
from utilities.logger import RunFolder, write_json
from utilities.metric_names import reported, with_ends
from utilities.seed import preserved_randomness
from utilities.tested import note_of_all, tested_on
from utilities.text import counted, printable

# side of an image in gallery.png where the network has no side of its own
LONGEST = 224
EVALUATION_ADVICE = "a smaller --bs, which is also the number of images embedded at once, or a smaller --eval_block"


class Embedded(NamedTuple):
    """Of a split's images, and of the gallery that they are searched in, if it is another.

    The names are those of the arguments of `evaluate`.
    """

    embeddings: Tensor
    labels: Tensor
    gallery: Tensor | None = None
    gallery_labels: Tensor | None = None


def embed_split(opt, network: Network, loaders: dict, split: str, device: torch.device) -> Embedded:
    """The embeddings of a split; of the test images together with those of their gallery."""
    own = embed(network, loaders[split], device, amp=opt.amp)
    if split != "test" or "gallery" not in loaders:
        return Embedded(*own)
    return Embedded(*own, *embed(network, loaders["gallery"], device, amp=opt.amp))


def evaluate_run(run: Run) -> dict:
    """Metrics of the test images and, with the prefix val_, of the validation images; in the first process also the
    gain of the policy and the health of the context, on classes that are not trained on. Training notices nothing."""
    opt = run.opt
    loaders = run.loaders
    metrics = {}
    for split, prefix in (("val", "val_"), ("test", "")):
        if split in loaders:
            values = score_split(opt, run.network, loaders, split, run.device, opt.evaluation_metrics,
                                 **evaluation_arguments(opt))
            metrics |= {prefix + name: value for name, value in values.items()}
    if distributed.rank() == 0 and not opt.train_on_all:
        has_other_classes = "val" in loaders and not opt.tv_split_by_samples
        split = "val" if has_other_classes else "test"
        with preserved_randomness(), room_for("the evaluation", EVALUATION_ADVICE):
            gain = held_out.policy_gain(run, split, held_out.BATCHES)
            context = held_out.context_health(run, split, held_out.BATCHES)
        metrics |= held_out.columns(gain, context)
    return metrics


def held_out_so_far(history: list[dict]) -> dict:
    """What policy and context were on held-out classes at the last evaluation that says so."""
    known = {}
    for row in history:
        known |= {name: value for name, value in row.items() if name.startswith(held_out.PREFIX)}
    return known


def fill_storage(run: Run) -> None:
    """Embed all training images once, for a batch sampler that chooses by embeddings; a resumed one has them."""
    images = run.loaders.pop("storage", None)
    if images is not None and run.sampler.storage is None:
        with preserved_randomness(), room_for("the evaluation", EVALUATION_ADVICE):
            rows, _ = embed(run.network, images, run.device, amp=run.opt.amp)
            run.sampler.fill(rows)


def score_split(opt, network: Network, loaders: dict, split: str, device: torch.device, names: list[str],
                bootstrap: int = 0, context: int = 0, context_power: float = 3.0) -> dict:
    """The metrics called for, of the images of one split, searched among each other or in the gallery, and what
    `evaluation_arguments` adds; all processes embed, the first computes, and all learn the result."""
    with preserved_randomness(), room_for("the evaluation", EVALUATION_ADVICE):
        own = embed_split(opt, network, loaders, split, device)
        metrics = None
        if distributed.rank() == 0:
            metrics = evaluate(**own._asdict(), metrics=names, bootstrap=bootstrap, context=context,
                               context_power=context_power, **search_arguments(opt))
        columns = reported(names, context)
        if bootstrap:
            columns = with_ends(columns)
        return distributed.broadcast_from_first(metrics, columns, device)


def write_results(run: Run) -> None:
    """After training: the policy's gain on held-out classes, result.json, the closing table and the pictures; the
    other processes only help to embed."""
    opt = run.opt
    progress = run.progress
    folder = run.folder
    if opt.figures and "test" in run.loaders:
        embedded = embed_split(opt, run.network, run.loaders, "test", run.device)
    if folder is None:
        return
    if opt.figures:
        draw_curves(run)
    result = {
        "final": metrics_of(opt, progress.history[-1]),
        "untrained": metrics_of(opt, progress.history[0]),
        "best": progress.best,
        "policy": progress.policy_records[-1] if progress.policy_records else None,
        "steps": progress.step,
        "seconds": round(progress.seconds, 3),
        "seconds_per_epoch": round(progress.training_seconds / max(1, progress.epoch), 3),
    }
    if opt.train_on_all:
        result["tested_on"] = tested_on(vars(opt))
    elif gain := held_out.policy_gain(run, "test"):
        result["held_out_advantage_over_uniform"] = gain
    last = held_out_so_far(progress.history)
    result |= {name: value for name, value in last.items() if name.startswith(held_out.CONTEXT)}
    result["peak_memory_mib"] = peak_memory_mib(run.device)
    write_json(folder / "result.json", result)
    if result["final"]:
        print(metric_table({"untrained": result["untrained"], "trained": result["final"]}))
    if note := note_of_all(vars(opt)):
        print(note)
    if opt.figures:
        if "test" in run.loaders:
            draw_pictures(opt, embedded, run.splits, folder)
        report.write_report(folder.path)
    print(f"Trained {trained_parts(run)}: {result['seconds_per_epoch']:.2f} s an epoch, "
          f"{counted(result['steps'], 'step')}. Everything is in {folder.path}")


def trained_parts(run: Run) -> str:
    """What the run trained, in one line: loss, miner, sampler, backbone, data set and the parts of the method."""
    opt = run.opt
    miner = opt.batch_mining if run.miner else "none"
    parts = [f"{opt.loss} on {opt.dataset} (miner {miner}", f"sampler {opt.data_sampler}", f"backbone {opt.arch}",
             f"relation {opt.relation}", f"pair weights {opt.pair_weighting}", f"memory {opt.memory})"]
    return ", ".join(parts)


def draw_curves(run: Run) -> None:
    """progress.png; policy.png where a policy was trained, memory.png where a context is decoded."""
    history = run.progress.history
    metrics = reported(run.opt.evaluation_metrics, run.opt.eval_context)
    report.plot_progress(history, metrics, run.folder / "progress.png")
    if run.progress.policy_records:
        policy = run.method.policy
        report.plot_policy(run.progress.policy_records, run.folder / "policy.png",
                           policy.grid_positive.tolist(), policy.grid_negative.tolist(),
                           names=policy.weighting.names, history=history)
    if has_health(run.network):
        files = read_run(run.folder.path)
        report.plot_context(files.steps, files.history, run.folder / "memory.png")


def have_images(splits: Splits) -> bool:
    """Whether what is tested can be shown; says so where it cannot."""
    for images in filter(None, (splits.test, splits.gallery)):
        if isinstance(images.paths, RowPaths) and not images.paths.are_images():
            print(f"note: {images.paths.file.path}: its table does not name a file for each tested row (column "
                  "path), so that gallery, explorer and thumbnails are left out.")
            return False
    return True


def draw_pictures(opt, embedded: Embedded, splits: Splits, folder: RunFolder) -> None:
    """What the test embeddings look like: gallery.png, embedding.png, the classes mixed up, and the worst; all of it to
    walk through in explorer.html."""
    images = splits.test
    rows, labels, gallery, gallery_labels = embedded
    among_themselves = gallery is None
    search = search_arguments(opt)
    query, others = searched(rows, gallery, cosine=True)
    depth = min(max(report.SHOWN, explorer.NEIGHBOURS), len(others) - among_themselves)
    score, index = nearest(query, others, depth, exclude_self=among_themselves, **search)
    shows_images = have_images(splits)
    if shows_images:
        report.draw_gallery(score[:, :report.SHOWN], index[:, :report.SHOWN], images,
                            folder / "gallery.png", longest=opt.image_size or LONGEST,
                            gallery=splits.gallery, seed=opt.seed)
    pairs = confusions(index[:, 0], labels, images.class_names, gallery_labels)
    folder.write_csv("confusions.csv", [pair._asdict() for pair in pairs], Confusion._fields)
    for pair in pairs[:3]:
        print(printable(f"Mixed up most: {pair}"))
    if opt.eval_per_class:
        values, query = query_values(**embedded._asdict(), metrics=opt.evaluation_metrics, **search)
        folder.write_csv("per_class.csv", class_table(values, query, labels, images.class_names))
    places = report.place_images(rows, labels, opt.map_images) if opt.map_images else None
    if places:
        thumbnails = opt.map_thumbnails and shows_images
        report.draw_map(places, rows.shape[1], images, folder / "embedding.png", thumbnails=thumbnails)
    if opt.explorer_images and shows_images:
        explored = explorer.explore(score, index, images, limit=opt.explorer_images,
                                    gallery=splits.gallery, places=places)
        explorer.write_run_explorer(folder.path, explored)
