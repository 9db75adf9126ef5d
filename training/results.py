"""What a run has learned: its metrics while it trains; its result, table and pictures when it has."""
import torch

from architectures.network import Network
from evaluation import evaluate, query_values
from evaluation.embed import embed
from evaluation.explorer import write_run_explorer
from evaluation.explorer.data import NEIGHBOURS
from evaluation.metrics.confusions import Confusion, confusions
from evaluation.metrics.per_class import class_table
from evaluation.ranking import nearest
from evaluation.report import write_report
from evaluation.report.gallery import SHOWN, draw_run_gallery
from evaluation.report.map import draw_run_map, place_images
from parameters import search_arguments
from training import held_out
from training.building import build_miner
from training.guard import room_for
from training.loop import Parts, Training, metrics_of
from training.records import peak_memory_mib
from utilities import distributed
from utilities.cells import metric_table
from utilities.logger import RunFolder
from utilities.plots import plot_policy, plot_progress
from utilities.seed import preserved_randomness

EVALUATION_ADVICE = "a smaller --bs, which is also the number of images embedded at once, or a smaller --eval_block"


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


def draw_curves(opt, parts: Parts, folder: RunFolder, history: list[dict], records: list[dict]) -> None:
    """progress.png, and policy.png where a policy was trained."""
    plot_progress(history, opt.evaluation_metrics, folder / "progress.png")
    if records:
        weighting = parts.method.weighting
        names = ("phi_p", "phi_n") if opt.policy_action == "weight" else ("b_p", "b_n")
        plot_policy(records, folder / "policy.png", weighting.grid_positive.tolist(), weighting.grid_negative.tolist(),
                    names=names, history=history)


def picture(opt, found: tuple, splits, folder: RunFolder) -> None:
    """What the test embeddings look like: gallery.png, embedding.png, the classes mixed up, and the worst; all of it to
    walk through in explorer.html."""
    images = splits.test
    rows, labels, among, there = found
    among = rows if among is None else among
    depth = min(max(SHOWN, NEIGHBOURS), len(among) - (there is None))
    score, index = nearest(rows, among, depth, exclude_self=there is None, **search_arguments(opt))
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
