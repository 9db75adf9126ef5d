"""Every flag of main.py: what it means, its unit and its default.

Defaults of an experiment stand in recipes.py, combinations that cannot work in utilities/rules.py.
The flags of a loss or miner are the arguments of its class, with the defaults of its signature.
Nothing here loads torch, so that `--help`, `--list` and wrong flags answer at once.
"""
import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from recipes import RECIPES, layered_defaults
from utilities import base_framework, config, listing, source
from utilities.choices import belongs, loss_names, registry
from utilities.command_line import Formatter, Parser
from utilities.errors import UsageError, answer
from utilities.flags import as_recorded
from utilities.ranges import (
    LONG,
    Number,
    below_one,
    depth,
    dimensions,
    finite,
    long,
    named,
    non_negative,
    non_negative_int,
    pixels,
    positive,
    positive_int,
    probability,
    share,
    whole,
    width,
)
from utilities.rules import ARGUMENTS, completed, is_folder_name, problems, why_idle

# Where is written.
WRITTEN = {"save_path", "cache_path"}
# Flags that no options.json decides.
NOT_REPEATED = WRITTEN | {"repeat", "resume", "evaluate_only", "json", "debug", "gpu", "list"}
MACHINE = NOT_REPEATED | {
    "savename", "device", "kernels", "checkpoint", "weights_dir", "timeout_minutes",
}
# Flags of older versions that decide nothing any more.
REMOVED = {"decode", "policy_episode"}
# Images at a time; the pairs among so many fit in the memory of a large machine.
BATCH = whole(1, 65_536)
# From half a second to a week.
PATIENCE = Number(float, "a number from 0.01 to 10,080", lambda x: 0.01 <= x <= 10_080)
# Arguments of a constructor that follow from the run or from other flags.
NOT_FLAGS = {
    "n_classes", "embed_dim", "seed", "base", "name",
    "rank", "world", "device", "samples_per_class", "epoch_steps",
}


def add_run_flags(parser: Parser) -> None:
    """What runs, where, and where the results go."""
    group = parser.add_argument_group("run", "What runs, where, and where its results go.")
    add = group.add_argument
    add("--recipe", default="default", choices=[*RECIPES], help="""
        Set of defaults for the method: 'default' learns the sharpness of the pair weights by a
        look-ahead reward; 'paper' is the method as published; 'revisiting': a loss alone, as the
        base framework trains it (docs/from_revisiting.md).""")
    add("--save_path", default="runs", metavar="FOLDER", help="""
        Folder of all runs; a run writes to SAVE_PATH/DATASET/SAVENAME.""")
    add("--savename", default="", metavar="NAME", help="""
        Name of the run's folder; empty: recipe, loss and seed. An existing folder is never
        overwritten: -2, -3, ... is added to the name.""")
    add("--seed", type=long, default=1, help="Seed of everything random.")
    add("--device", default="auto", choices=["auto", "cpu", "cuda"], help="""
        Where to compute; 'auto': the GPU if there is one, else the CPU with a notice.""")
    add("--gpu", type=non_negative_int, nargs="+", metavar="ID", help="""
        Number of the GPU to use; default: the first. Refused on a machine without a GPU.""")
    add("--kernels", type=whole(0, 1024), metavar="N", help="""
        Worker processes that load images; 0: the main process loads them. Default: 0 for the
        convnet and for rows, else one for each core that can be used, at most 8 (6 with
        --recipe revisiting). Their number does not change what they load.""")
    add("--checkpoint", metavar="FILE", help="""
        Start from the network of this checkpoint (last.pt or best_*.pt of a run).""")
    add("--resume", metavar="auto|RUN", help="""
        Continue a run after the last step in its last.pt, bit for bit. 'auto': the run of this
        name, or a new one if there is none; RUN: its folder or checkpoint. Flags that are not given
        are the run's. Other values are refused, except for more --n_epochs, machine, paths,
        trackers, pages and pictures; so are other images than the run's.""")
    add("--checkpoint_minutes", type=non_negative, default=10.0, metavar="MINUTES", help="""
        Time between checkpoints within an epoch. One is also written after every epoch, on SIGTERM,
        SIGHUP and Ctrl-C.""")
    add("--timeout_minutes", type=PATIENCE, default=30.0, metavar="MINUTES", help="""
        Of several processes (torchrun), how long one waits for another before it ends with a
        sentence. The first evaluates alone: give more where that takes longer.""")
    add("--evaluate_only", action="store_true", help="""
        Evaluate --checkpoint on the test classes, print the metrics and stop. Flags that are not
        given are those of the checkpoint's run.""")
    add("--repeat", metavar="FILE", help="""
        Repeat a run in a new folder, with the flags in its options.json; those of the command line
        override them. Differences of versions, commit and device are printed.""")
    add("--config", metavar="FILE", default=argparse.SUPPRESS, help="""
        Flags from a YAML file, one a line (bs: 80), or from a run's options.json. They count as
        typed; those of the command line override them.""")
    add("--list", choices=listing.LISTS, metavar="WHAT", help=f"""
        Print names, one a line, and stop. WHAT: {', '.join(listing.FLAGS)}; timm or torchvision
        (their models); or weights (files of pretrained weights, with addresses and checksums).""")
    add("--debug", action="store_true", help="""
        Show the traceback of an error instead of one sentence.""")


def add_record_flags(parser: Parser) -> None:
    """Where else the numbers go."""
    group = parser.add_argument_group("records", "Where numbers go besides the run's folder.")
    add = group.add_argument
    add("--tensorboard", action=argparse.BooleanOptionalAction, default=False, help="""
        Write steps and epochs for TensorBoard too, into the folder tensorboard of the run.""")
    add("--log_online", action=argparse.BooleanOptionalAction, default=False, help="""
        Send steps and epochs to Weights & Biases too; WANDB_MODE=offline keeps them for a later
        upload. The key is that of wandb login or WANDB_API_KEY.""")
    add("--project", default="lm-metric", help="Project of --log_online.")
    add("--group", default="", help="""
        Group of runs of --log_online, such as the seeds of one setting.""")
    add("--json", metavar="FILE", help="""
        Write the metrics of --evaluate_only to this file, with all digits.""")


def add_data_flags(parser: Parser) -> None:
    """The data set and its halves."""
    group = parser.add_argument_group("data", "The data set, and which of it trains and tests.")
    add = group.add_argument
    add("--dataset", default="glyphs", help="""
        'glyphs': the built-in data set, characters drawn once from matplotlib's fonts, without a
        download; 'cub200', 'cars196', 'online_products' (or 'sop'), 'in_shop': the benchmarks, with
        their usual splits; 'image_folder': your own images; 'embeddings': features from anywhere, on
        which a head trains.""")
    add("--source_path", "--source", default="", metavar="FOLDER", help="""
        Benchmarks: the data set's own folder or its parent, as the archive has it or as python -m
        datasets.prepare made it (docs/datasets.md). image_folder: a folder with one folder per
        class, or with labels.csv (path,label[,super_label][,split]). embeddings: a .npy file of rows
        with labels.csv beside it. glyphs: where the images are kept.""")
    add("--use_tv_split", action=argparse.BooleanOptionalAction, default=False, help="""
        Take validation classes out of the training half. They then choose the best checkpoint, and
        the test classes are only reported.""")
    add("--tv_split_perc", type=share, default=0.8, metavar="SHARE", help="""
        Share of the training classes that stays for training.""")
    add("--tv_split_by_samples", action=argparse.BooleanOptionalAction, default=False, help="""
        Take images of every class instead of classes.""")
    add("--train_on_all", action=argparse.BooleanOptionalAction, default=False, help="""
        The final model: train on all classes, those for validation and test too, without a test.""")
    add("--test_by_images", type=share, metavar="SHARE", help="""
        With --train_on_all, hold this share of each class's images for testing, between 0 and 1;
        each is searched among the images that are not held. For closed sets and re-identification;
        default: none are held.""")
    add("--glyphs_classes", type=width, default=240, metavar="N", help="""
        Characters, half of them for testing.""")
    add("--glyphs_images_per_class", type=width, default=24, metavar="N", help="""
        Images of each character.""")
    add("--glyphs_size", type=pixels, default=32, metavar="PIXELS", help="""
        Side of a drawn image.""")
    add("--glyphs_seed", type=whole(0, LONG - 1), default=0, help="Seed of the drawing; independent of --seed.")


def add_image_flags(parser: Parser) -> None:
    """From files to what the network sees."""
    group = parser.add_argument_group("images", "From files to what the network sees.")
    add = group.add_argument
    add("--image_size", type=pixels, metavar="PIXELS", help="""
        Side of the square input image; default: that of the backbone.""")
    add("--crop_size", type=pixels, metavar="PIXELS", help="""
        Side of the square input if it differs from --image_size; the shorter side is then resized
        to --image_size before the crop: --image_size 256 --crop_size 224 is the usual pair.""")
    add("--augmentation", choices=[*registry("augmentation")], help="""
        Training images: 'base' random resized crop and flip, 'adv' and random colours, 'big' base
        at 256/224 of the side, 'red' random crop of the resized image and flip, 'shift' random
        shift by up to an eighth (characters must not be flipped), 'none'.""")
    add("--cache", choices=["none", "ram", "disk"], help="""
        Keep decoded images: in memory that all workers share, or in a file that later runs use too.
        It is filled before training; larger images are kept at --cache_side (docs/datasets.md).""")
    add("--cache_side", type=pixels, metavar="PIXELS", help="""
        Upper limit of the shorter side of a kept image; default: 1.71 times the input's side (384
        at 224).""")
    add("--cache_path", default=".cache", metavar="FOLDER", help="""
        Where --cache disk keeps its files.""")


def add_batch_flags(parser: Parser) -> None:
    """Batches and their samplers."""
    group = parser.add_argument_group("batches", "How batches are made of the images.")
    add = group.add_argument
    add("--bs", type=BATCH, metavar="IMAGES", help="Images in a batch.")
    add("--samples_per_class", type=BATCH, default=4, metavar="IMAGES", help="""
        Images of each class in a batch; --bs must be a multiple. A class with fewer images is drawn
        from with replacement.""")
    add("--steps_per_epoch", type=non_negative_int, default=0, metavar="STEPS", help="""
        Batches of an epoch; 0: as many as the training images fill.""")
    add("--data_sampler", default="class_random", help="""
        'class_random': random classes, --samples_per_class images of each; 'random': random images;
        'hierarchical': two super-classes, and classes of each. By the images' embeddings:
        'greedy_coreset', 'd2_coreset' (images that cover a larger batch), 'disthist_batchmatch',
        'fid_batchmatch' (batches like it). docs/datasets.md has the formulas.""")
    add("--data_batchmatch_bigbs", type=BATCH, default=512, metavar="IMAGES", help="""
        Random images from which the samplers by embeddings choose a batch.""")
    add("--data_batchmatch_ncomps", type=width, default=10, metavar="BATCHES", help="""
        Random batches of which disthist_batchmatch and fid_batchmatch take the best.""")
    add("--data_gc_softened", action=argparse.BooleanOptionalAction, default=False, help="""
        greedy_coreset draws each image from the farthest 3 %% instead of taking the farthest.""")
    add("--data_d2_coreset_lambda", type=non_negative, default=1.0, metavar="POWER", help="""
        Power of the distances in d2_coreset; 0: the density alone.""")
    add("--data_sampler_lowproj_dim", type=whole(-1, 16_384), default=-1, metavar="D", help="""
        Choose in a random projection of the embeddings to D dimensions; below 1: in the embeddings
        themselves.""")
    add("--data_storage_no_update", action=argparse.BooleanOptionalAction, default=False, help="""
        Choose by the embeddings of the untrained network; otherwise those of each training batch
        replace them.""")
    add("--data_mb_mom", type=finite, default=-1.0, metavar="MOMENTUM", help="""
        Add to a replaced embedding its drift so far, averaged with this momentum; negative: add
        nothing.""")
    add("--data_mb_lr", type=non_negative, default=1.0, metavar="FACTOR", help="Factor of that drift.")


def add_network_flags(parser: Parser) -> None:
    """The network."""
    group = parser.add_argument_group("network", "Backbone and embedding.")
    add = group.add_argument
    add("--arch", metavar="NAME", help=f"""
        {', '.join(registry("arch"))}, or a model of a library: torchvision.NAME, timm.NAME (--list
        architectures, torchvision, timm). convnet is for small images and the CPU. The suffix
        _frozen keeps the batch norm statistics fixed, _normalize gives the loss unit rows. Default:
        by --dataset. _normalize is added where relation, pair weights or memory need unit rows.""")
    add("--embed_dim", type=dimensions, metavar="D", help="""
        Length of an embedding; 'none': no projection, an embedding is the feature itself. With
        --n_epochs 0 the backbone is evaluated as it is.""")
    add("--projection_init", choices=["random", "pca"], default="random", help="""
        What the projection starts from: 'random' weights, or the principal components of the
        features of up to 10,000 training images ('pca'), so that training starts from the
        backbone's own similarities. Default: with --freeze and --dataset embeddings in the recipe
        'default' pca.""")
    add("--pooling", choices=[*registry("pooling")], help="""
        How the backbone's map becomes a feature: average, average plus maximum, generalised mean
        with a learned power, maximum, or 'own': what the library's last linear layer sees. Default:
        avg+max. A transformer on tokens has its own pooling and takes no other.""")
    add("--feature_norm", action=argparse.BooleanOptionalAction, default=False, help="""
        Layer norm of the feature before the projection, without learned scale and shift.""")
    add("--not_pretrained", action=argparse.BooleanOptionalAction, default=False, help="""
        Start from random weights instead of ImageNet's.""")
    add("--weights", metavar="FILE", help="""
        Start the backbone from these weights instead of the library's: a safetensors file, or one
        by torch.save that holds only tensors (docs/backbones.md). A model.json beside it says how
        images are prepared.""")
    add("--weights_dir", metavar="FOLDER", help="""
        Folder that is searched for the library's files of weights before a download; --list weights
        names them.""")
    group = parser.add_argument_group("input", """
        How images are prepared; default: as for the weights of --arch.""")
    add = group.add_argument
    add("--input_mean", type=finite, nargs=3, metavar="X", help="""
        Mean of each channel, in the order of --input_channels and on the scale of
        --input_value_range.""")
    add("--input_std", type=positive, nargs=3, metavar="X", help="""
        Standard deviation of each channel, likewise.""")
    add("--input_channels", choices=["RGB", "BGR"], help="Order of the channels.")
    add("--input_value_range", type=positive, metavar="X", help="""
        Largest value of a pixel before the mean is subtracted: 1, or 255 as in Caffe.""")


EXCLUDE_SELF = "Leave the query out of its own ranking instead of keeping it as its first positive."
# Per loss: each argument of its class, explained.
LOSS_HELP = {
    "adversarial_separation": {
        "parts": "Equal parts of the embedding that are separated; a divisor of --embed_dim.",
        "hidden": "Hidden width of the regressors.",
        "weight": "Weight of the separation beside the loss.",
        "reg_weight": "Weight of the regulariser on the regressors' weights and biases.",
        "lr": "Learning rate of the regressors; negative: that of --fc_lr.",
    },
    "angular": {
        "alpha": "Bound on the angle at the negative (degrees).",
        "npair_ang_weight": "Weight of the angular term beside the N-pair term.",
        "npair_l2": "Weight of the mean length of the embeddings.",
        "angular_only": "The angular term alone, unweighted, without N-pair term and lengths.",
    },
    "arcface": {
        "angular_margin": "Margin added to the angle to the own proxy (radians).",
        "feature_scale": "Scale of the cosines.",
        "lr": "Learning rate of the proxies.",
    },
    "circle": {
        "margin": (
            "Relaxation: positives are pulled to 1 - margin, negatives pushed to margin (cosine)."
        ),
        "gamma": "Scale of the similarities.",
    },
    "contrastive": {
        "pos_margin": "Positive pairs are pulled down to this distance.",
        "neg_margin": "Negative pairs are pushed up to this distance.",
        "avg_nonzero": "Average over the pairs beyond their margin instead of all.",
    },
    "cosface": {
        "margin": "Margin taken from the own similarity (cosine).",
        "scale": "Scale of the cosines.",
        "lr": "Learning rate of the proxies.",
    },
    "histogram": {
        "nbins": "Nodes of the histograms of similarities, from -1 to 1.",
    },
    "lifted": {
        "neg_margin": "Negatives are pushed up to this distance.",
        "l2": "Weight of the mean length of the embeddings.",
    },
    "margin": {
        "margin": "Margin around the boundary (distance).",
        "beta": "Boundary, or its start where it is learned (distance).",
        "beta_lr": "Learning rate of the boundaries.",
        "beta_constant": "Keep one fixed boundary instead of one per class.",
        "nu": "Weight of the regulariser on the boundaries.",
    },
    "multisimilarity": {
        "pos_weight": "Scale of positive pairs (alpha).",
        "neg_weight": "Scale of negative pairs (beta).",
        "margin": "Mining margin (cosine).",
        "thresh": "Threshold lambda (cosine).",
    },
    "npair": {
        "l2": "Weight of the mean length of the embeddings.",
        "multiclass": (
            "Negatives are the positives of the other pairs instead of all images of other "
            "classes."
        ),
    },
    "pml": {
        "args": "Arguments of the class given by --loss pml.CLASS, such as margin=0.1 swap=True.",
        "lr": "Learning rate of what the loss learns (proxies).",
    },
    "proxyanchor": {
        "alpha": "Scale of the similarities.",
        "delta": "Margin (cosine).",
        "lr": "Learning rate of the proxies.",
    },
    "proxynca": {
        "scale": "Length to which embeddings and proxies are normalised.",
        "include_positive": "Count the own proxy among those that push.",
        "lr": "Learning rate of the proxies.",
    },
    "quadruplet": {
        "margin_alpha_1": "Margin between the positive and the anchor's negative (distance).",
        "margin_alpha_2": "Margin between the positive and the pair of negatives (distance).",
        "squared": "Compare squared distances.",
    },
    "recallatk": {
        "ks": "Lengths k of the short lists (images).",
        "tau1": "Temperature of the sigmoid that tells whether a rank is at most k (ranks).",
        "tau2": "Temperature of the sigmoid that counts what stands above (cosine).",
    },
    "smoothap": {
        "tau": (
            "Temperature of the sigmoid (cosine); 0.08 on the small convnet, where it was "
            "measured."
        ),
        "exclude_self": EXCLUDE_SELF,
    },
    "snr": {
        "margin": "Margin between positive and negative (ratio of variances).",
        "reg_lambda": "Weight of the anchors' absolute sums, which pulls their means to zero.",
    },
    "softmax": {
        "temperature": "Temperature of the similarities (cosine).",
        "lr": "Learning rate of the proxies.",
    },
    "softtriplet": {
        "n_centroids": "Centroids of each class.",
        "margin_delta": "Margin taken from the own similarity (cosine).",
        "gamma": "Temperature of the choice among the centroids of a class (cosine).",
        "scale": "Scale lambda of the similarities.",
        "reg_weight": "Weight of the distances between the centroids of a class.",
        "lr": "Learning rate of the centroids.",
    },
    "supap": {
        "tau": "Temperature of the sigmoid (cosine).",
        "rho": "Slope of the bound beyond delta (1/cosine).",
        "delta": "Lead of a negative from which the bound is a line (cosine).",
        "alpha": "Positive pairs are pulled up to this similarity (cosine).",
        "beta": "Negative pairs are pushed down to this similarity (cosine).",
        "calibration": "Share of the two hinges in the loss; the rest is the ranking's.",
        "exclude_self": EXCLUDE_SELF,
    },
    "supcon": {
        "temperature": "Temperature of the similarities (cosine).",
    },
    "triplet": {
        "margin": "Margin between positive and negative (squared distance; euclidean: distance).",
        "euclidean": "Compare distances instead of their squares.",
        "avg_nonzero": "Average over the triplets within the margin instead of all.",
        "soft_margin": "log(1 + exp(.)) in the place of the hinge and its margin.",
    },
}
# Per miner, likewise.
MINER_HELP = {
    "all": {
        "cap": "Triplets; above this number a random subset.",
    },
    "distance": {
        "lower_cutoff": "Smaller distances count as this one.",
        "upper_cutoff": "Negatives at larger distances are not drawn.",
    },
    "multisimilarity": {
        "eps": "Mining margin (cosine).",
        "cap": "Triplets; above this number a random subset.",
    },
    "parametric": {
        "mode": (
            "Distances that are drawn at first: uniform (all), semihards (0.3 to 0.7), hards (to "
            "0.5), veryhards (to 0.3)."
        ),
        "n_support": "Support points of the distribution, one more than bins.",
        "support_lim": "First and last support point (distance).",
        "self_regularise": (
            "Draw the negative from the whole batch, the anchor and its class too, and let the "
            "anchor be its own positive, as the authors do."
        ),
        "alpha": "Factor by which the policy lowers the mass of a bin.",
        "beta": "Factor by which the policy raises the mass of a bin.",
        "every": "Training steps between two actions of the policy.",
        "lr": "Learning rate of the policy.",
    },
    "random_distance": {
        "lower_cutoff": "Smaller distances count as this one.",
        "upper_cutoff": "Negatives at larger distances are not drawn.",
    },
    "rho_distance": {
        "lower_cutoff": "Smaller distances count as this one.",
        "upper_cutoff": "Negatives at larger distances are not drawn.",
        "cp": "Probability that a row of the anchor's class takes the negative's place.",
    },
    "semihard": {
        "margin": "Width of the band beyond the positive (distance).",
    },
}
# Names of the base framework that cannot be arguments of a Python function.
SYNONYMS = {"--loss_softtriplet_scale": ("--loss_softtriplet_lambda",)}
UNEXPLAINED = "See the docstring of the class."


class Explained(NamedTuple):
    """An argument as a flag. limits: the range of a number, or None."""

    default: Any
    help: str
    limits: Number | None


# Class by name: its arguments.
Flags = dict[str, dict[str, Explained]]


@cache
def loss_flags() -> Flags:
    """The arguments of every loss."""
    explained = constructor_flags("loss", LOSS_HELP)
    pml = source.find(source.file_of("criteria.pml"), "PML")
    explained["pml"] = with_help(source.signature(pml), LOSS_HELP["pml"])
    text = "Loss that the separation is added to; its own --loss_ flags hold."
    on = Explained("multisimilarity", text, None)
    explained["adversarial_separation"] = {"on": on} | explained["adversarial_separation"]
    return explained


@cache
def miner_flags() -> Flags:
    """The arguments of every miner."""
    return constructor_flags("batch_mining", MINER_HELP)


def constructor_flags(flag: str, texts: dict) -> Flags:
    """The arguments of every class in a flag's registry."""
    explained = {}
    for name, cls in registry(flag).items():
        explained[name] = with_help(source.signature(cls), texts.get(name, {}))
    return explained


def with_help(arguments: dict, texts: dict[str, str]) -> dict[str, Explained]:
    """The arguments that are flags: those with a literal default."""
    explained = {}
    for name, (default, kind) in arguments.items():
        if name not in NOT_FLAGS and default not in (None, source.NO_DEFAULT):
            text = texts.get(name, UNEXPLAINED)
            explained[name] = Explained(default, text, named(kind))
    return explained


def add_loss_flags(parser: Parser) -> None:
    """Base criteria and miners; each flag is an argument of its class."""
    group = parser.add_argument_group("base loss and mining", "docs/criteria.md has the formulas.")
    add = group.add_argument
    add("--loss", help=f"""
        {', '.join(registry('loss'))}; pml.CLASS: a loss of pytorch-metric-learning; or
        MODULE.CLASS: your own, from MODULE.py beside main.py (docs/extending.md).""")
    add("--batch_mining", help=f"""
        {', '.join(registry('batch_mining'))}; MODULE.CLASS: your own; or 'none' for losses over the
        whole batch.""")
    for kind, classes in (("loss", loss_flags()), ("miner", miner_flags())):
        for name, arguments in classes.items():
            for argument, explained in arguments.items():
                add_constructor_flag(group, f"--{kind}_{name}_{argument}", explained)


def add_constructor_flag(group, flag: str, explained: Explained) -> None:
    """A flag for an argument; a truth value becomes a switch, a tuple a list of values."""
    names = (flag, *SYNONYMS.get(flag, ()))
    default = explained.default
    kind = explained.limits or (str if isinstance(default, tuple) else type(default))
    settings = {"type": kind, "default": default}
    if isinstance(default, bool):
        settings = {"action": argparse.BooleanOptionalAction, "default": default}
    elif isinstance(default, tuple):
        settings["nargs"] = "+"
    group.add_argument(*names, help=explained.help, **settings)


def add_pair_flags(parser: Parser) -> None:
    """More pairs than those of the batch."""
    group = parser.add_argument_group("cross-batch memory", """
        Pairs with the embeddings of past batches, for a loss that compares images with images.""")
    add = group.add_argument
    add("--xbm_size", type=whole(0, 10_000_000), default=0, metavar="IMAGES", help="""
        Embeddings that are kept, those of the last SIZE / BS batches; 0: no memory.""")
    add("--xbm_start", type=non_negative_int, metavar="STEPS", help="""
        Steps before the memory joins the loss; embeddings must change slowly by then.""")
    add("--xbm_weight", type=non_negative, default=1.0, help="Weight of the term with the memory.")
    group = parser.add_argument_group("proxies of classes", """
        Pairs with a learned proxy of every training class, beside any loss.""")
    add = group.add_argument
    add("--proxies_weight", type=non_negative, default=0.0, help="""
        Weight of the term with the proxies; 0: no proxies.""")
    add("--proxies_sharpness", type=non_negative, default=20.0, help="""
        Sharpness of the softmax over the proxies of other classes; 0: all count alike.""")
    add("--proxies_lr", type=non_negative, default=1e-2, help="Learning rate of the proxies.")


def add_relation_flags(parser: Parser) -> None:
    """The first part of the method."""
    group = parser.add_argument_group("relation", "Context of every image from the whole batch.")
    add = group.add_argument
    add("--relation", default="gru", choices=[*registry("relation"), "none"], help="""
        How the batch is read.""")
    add("--relation_hidden", type=whole(0, 16_384), metavar="H", help="""
        Width of the state; default: half that of the backbone's feature, at most 512. 0: that of
        the feature.""")
    add("--relation_order", choices=["permuted", "batch"], help="""
        'permuted' shuffles the batch for the relation, so that the position does not tell the
        class.""")
    add("--relation_bidirectional", action=argparse.BooleanOptionalAction, default=True, help="""
        Read the batch from both ends, or from the first image on alone (gru).""")
    add("--relation_share_projection", action=argparse.BooleanOptionalAction, help="""
        Use the embedding's projection for the context too; needs --relation_hidden 0.""")
    add("--context_norm", default="none", choices=["none", "batch"], help="""
        'batch' standardises each logit of the context over the batch, without learned scale and
        shift, so that the context cannot become a constant.""")
    add("--context_loss_weight", type=non_negative, default=0.0, help="""
        Weight of a loss of the context alone: --loss on its unit rows, unweighted, with triplets
        and parameters of its own. 0: none.""")


def add_policy_flags(parser: Parser) -> None:
    """Pair weights and the policy behind them."""
    group = parser.add_argument_group("pair weighting", """
        How strongly each pair counts, and the policy that decides.""")
    add = group.add_argument
    weightings = ["learned", "uniform", "random", "constant", "shuffled"]
    add("--pair_weighting", default="learned", choices=weightings, help="""
        'learned' by policy gradient; 'uniform': no weights; controls: 'random' actions, the
        'constant' action --policy_constant, learned but 'shuffled' over the anchors.""")
    add("--pair_weight_on", choices=["term", "distance", "rank", "positive"], help="""
        A weight scales the loss term. As published: the distance inside the hinge (margin); by the
        positive weight of the ranked image its whole count ('rank', smoothap), or the exponentials
        of both signs ('positive', proxyanchor).""")
    add("--policy_action", choices=[*registry("policy_action")], help="""
        'sharpness' of a softmax over an anchor's pairs, from a grid; or one 'weight' of {1..A}/A
        per anchor and sign.""")
    add("--policy_granularity", choices=["batch", "anchor"], help="""
        One action for the batch, or one for each anchor.""")
    add("--policy_input", choices=["state", "statistics", "both"], help="""
        What the policy sees: the relation's state, label-aware statistics of the pairs, or
        both.""")
    add("--policy_state", default="unit", choices=["unit", "raw"], help="""
        The relation's state as a unit row after a layer norm, or as it is (as published).""")
    add("--policy_init", default="zero", choices=["zero", "unweighted", "default"], help="""
        The first policy is uniform, takes the loss as it is with probability 0.9, or is torch's
        default for a linear layer (as published). Default: 'unweighted' with a large backbone and
        --policy_action sharpness, 'zero' with convnet.""")
    add("--policy_levels", type=width, default=64, metavar="A", help="""
        Number of weights (--policy_action weight).""")
    add("--policy_largest", type=positive, default=1.0, metavar="WEIGHT", help="""
        The largest of them; published: 1, and 2 with a transformer (--policy_action weight).""")
    add("--policy_scale", choices=["mean", "none"], help="""
        Divide weights by their mean over the batch, or leave them (--policy_action weight).""")
    add("--policy_constant", type=finite, nargs=2, metavar=("POSITIVE", "NEGATIVE"), help="""
        The action of --pair_weighting constant, such as 5 20.""")
    add_policy_training_flags(add)


def add_policy_training_flags(add: Callable) -> None:
    """How the policy learns, in the same group of flags."""
    add("--policy_reward", choices=[*registry("policy_reward")], help="""
        AP after a virtual step under the sampled weights; or AP without a step (as published; it
        does not depend on the action).""")
    add("--policy_mix", type=probability, default=0.0, metavar="SHARE", help="""
        Share of the batch's mean AP in the reward of an anchor, 0 to 1.""")
    add("--policy_samples", type=depth, metavar="K", help="""
        Actions that are sampled for a batch.""")
    add("--policy_step", type=positive, default=0.2, help="""
        RMS length of the rows of the virtual step (unit sphere).""")
    add("--policy_baseline", choices=["leave_one_out", "none"], help="""
        Subtract the mean reward of the other samples and divide by the standard deviation, or leave
        the reward.""")
    add("--policy_entropy_bonus", type=non_negative, help="""
        Weight of the entropy (nats); default: 0.02 with one action a batch, 0.1 with one an
        anchor.""")
    add("--policy_act", choices=["sample", "expected", "greedy"], help="""
        The network trains with one sampled action, the expected weight, or the most likely
        action.""")
    add("--policy_lr", type=non_negative, help="""
        Learning rate; default: 1e-2 with one action a batch, 1e-3 with one an anchor. 0 leaves the
        policy as it starts: with --recipe paper that is what the published code trains, where the
        policy's loss is commented out.""")


def add_memory_flags(parser: Parser) -> None:
    """The contextual memory and the second loss."""
    group = parser.add_argument_group("memory", """
        A conditional flow that gives the context from the image alone.""")
    add = group.add_argument
    add("--memory", help="""
        'realnvp' (vector flow), 'glow' (published), 'none'; controls 'constant', 'mlp'.""")
    add("--memory_decode", choices=["mode", "mean", "sample", "off"], help="""
        Context at test time: the flow's mode, the mean of samples, one sample (repeatable), or
        none.""")
    add("--memory_couplings", type=depth, default=6, help="Coupling layers of realnvp.")
    add("--memory_hidden", type=width, default=128, help="""
        Hidden width of realnvp's couplings, and of mlp.""")
    add("--memory_levels", type=depth, default=2, help="Levels of glow.")
    add("--memory_steps", type=depth, default=8, help="Steps of a level of glow.")
    add("--memory_channels", type=width, default=128, help="""
        Hidden channels of glow's couplings.""")
    add("--memory_condition", default="unit", choices=["unit", "scaled", "raw"], help="""
        What realnvp and mlp see of the embedding e: its unit row, sqrt(D) times that, or e.""")
    add("--memory_samples", type=depth, default=16, help="Samples of --memory_decode mean.")
    add("--memory_temperature", type=non_negative, default=0.6, help="""
        Standard deviation of the sampled noise.""")
    add("--memory_target", default="own", choices=["own", *registry("memory_target")], help="""
        What the memory learns: the image's own context, or the mean embedding of its 'positives' in
        the batch or of its 'neighbours' in the cross-batch memory (--xbm_size).""")
    add("--memory_weight", type=non_negative, default=1.0, help="""
        Weight of the negative log-likelihood.""")
    add("--memory_nll", default="mean", choices=["mean", "sum"], help="""
        The likelihood in nats per dimension, or in nats per image (as published).""")
    add("--memory_gradient", action=argparse.BooleanOptionalAction, default=False, help="""
        Let the second loss train the memory and, through what it is conditioned on, the network (as
        published).""")
    add("--memory_dual", default="decoded", choices=["decoded", "embedding", "none"], help="""
        What the second loss compares: embedding plus decoded context, the embedding alone, or no
        second loss.""")
    add("--memory_dual_loss", default="shared", choices=["shared", "own"], help="""
        The second loss has the triplets and parameters (proxies, boundaries) of the first, or its
        own of both (as published).""")


def add_further_flags(parser: Parser) -> None:
    """A flag for every argument of a relation, reward, ... that has none above."""
    group = parser.add_argument_group("arguments of new classes")
    known = set(parser._option_string_actions)
    for prefix, switch in ARGUMENTS:
        for definition in registry(switch).values():
            for argument, explained in with_help(source.signature(definition), {}).items():
                flag = f"--{prefix}{argument}"
                if flag not in known:
                    add_constructor_flag(group, flag, explained)
                    known.add(flag)


def add_training_flags(parser: Parser) -> None:
    """Epochs and learning rates."""
    group = parser.add_argument_group("training", "Optimisation.")
    add = group.add_argument
    add("--n_epochs", type=non_negative_int, help="""
        Passes over the training images; 0 only evaluates the untrained network.""")
    add("--lr", type=non_negative, help="Learning rate of the backbone.")
    add("--fc_lr", type=finite, default=-1.0, help="""
        Learning rate of the new layers; negative: that of --lr.""")
    add("--relation_lr", type=finite, default=-1.0, help="""
        Learning rate of the relation; negative: that of --fc_lr.""")
    add("--memory_lr", type=finite, default=-1.0, help="""
        Learning rate of the memory; negative: that of --fc_lr.""")
    add("--scheduler", default="step", choices=["step", "multistep", "cosine", "none"], help="""
        'step', also called 'multistep': times --gamma at the epochs --tau; 'cosine': falls at every
        step, to --lr_min at the end.""")
    add("--tau", type=positive_int, nargs="+", metavar="EPOCH", help="""
        Epochs at which the rate falls.""")
    add("--gamma", type=non_negative, help="Factor by which the rate falls.")
    add("--lr_min", type=below_one, default=0.0, metavar="SHARE", help="""
        Where --scheduler cosine ends, as a share of the first rate.""")
    add("--lr_warmup_epochs", type=non_negative, default=0.0, metavar="EPOCHS", help="""
        Epochs in which every learning rate rises linearly from zero; fractions count.""")
    add("--warmup_epochs", type=non_negative_int, metavar="EPOCHS", help="""
        First epochs in which only new layers train; the backbone stays as it is, batch norm
        statistics too.""")
    add("--freeze", action=argparse.BooleanOptionalAction, default=False, help="""
        Keep the backbone as it is in all epochs. Its features are then computed once, and an epoch
        of the new layers takes seconds; with --cache disk they are kept for later runs in
        --cache_path.""")
    add("--freeze_views", type=whole(1, 1024), default=4, metavar="VIEWS", help="""
        With --freeze, how many augmented views of each training image features are computed of; a
        batch takes one of them at random.""")
    add_optimizer_flags(add)


def add_optimizer_flags(add) -> None:
    """The optimizer, and what else happens to gradients and weights."""
    add("--optim", default="adam", choices=["adam", "adamw", "sgd", "rmsprop"], help="""
        Optimizer; 'adamw': Adam with decoupled weight decay.""")
    add("--momentum", type=below_one, default=0.9, help="Momentum of sgd and rmsprop.")
    add("--nesterov", action=argparse.BooleanOptionalAction, default=False, help="""
        Nesterov's momentum, for sgd.""")
    add("--decay", type=non_negative, default=1e-4, help="""
        Weight decay of backbone, new layers, relation and memory; criterion and policy have
        none.""")
    add("--frozen_bn_affine", action=argparse.BooleanOptionalAction, default=False, help="""
        Keep scale and shift of batch norm fixed too, if --arch has the suffix _frozen.""")
    add("--grad_clip", type=non_negative, default=0.0, metavar="NORM", help="""
        Upper limit of the gradient's norm over all parameters together; 0: no limit.""")
    add("--ema", type=below_one, default=0.0, metavar="DECAY", help="""
        Average the network's weights over the steps with this decay, and evaluate and save the
        average; 0.999 is usual. 0: no average.""")


def add_speed_flags(parser: Parser) -> None:
    """Precision, memory and speed."""
    group = parser.add_argument_group("speed", "Precision, memory and speed.")
    add = group.add_argument
    add("--amp", default="none", choices=["none", "bf16", "fp16"], help="""
        Precision of the backbone, in training and evaluation; everything after it stays in float32.
        'fp16' scales the loss.""")
    add("--accumulate", type=non_negative_int, default=0, metavar="IMAGES", help="""
        Most images that the backbone sees at once, for batches that do not fit in memory. The loss
        still compares the whole batch, with the same gradient, for one more forward pass. 0: all at
        once.""")
    add("--tf32", action=argparse.BooleanOptionalAction, default=True, help="""
        Compute the backbone's float32 in TF32 (10 bits of mantissa) on GPUs from Ampere on;
        relation, policy, memory and losses stay in full float32.""")
    add("--channels_last", action=argparse.BooleanOptionalAction, default=True, help="""
        Store images and convolutions with the channel as the last axis in memory, which makes them
        a fifth to a third faster.""")
    add("--compile", action=argparse.BooleanOptionalAction, default=False, help="""
        Compile the backbone for training: the first steps take seconds to minutes longer, all
        others less. Needs a C++ compiler, or Triton on a GPU; evaluation does not use it.""")
    add("--deterministic", action=argparse.BooleanOptionalAction, default=False, help="""
        On a GPU, give the same numbers in every run, where torch can; slower. On a CPU this is
        always so.""")
    add("--log_every", type=positive_int, default=10, metavar="STEPS", help="""
        Steps between rows of steps.csv, which is also when the host waits for the device.""")


def add_evaluation_flags(parser: Parser) -> None:
    """What is measured, how, and what is drawn of it."""
    group = parser.add_argument_group("evaluation", "Retrieval of classes outside training.")
    add = group.add_argument
    metrics = ["e_recall@1", "e_recall@2", "e_recall@4", "e_recall@8", "nmi", "mAP_r", "mAP"]
    add("--evaluation_metrics", nargs="+", default=metrics, metavar="METRIC", help="""
        Any of those that docs/metrics.md defines.""")
    add("--storage_metrics", nargs="+", default=["e_recall@1"], metavar="METRIC", help="""
        Metrics whose best checkpoint is kept as best_METRIC.pt; the best is the lowest value of
        fnmr, dists@intra and rho_spectrum, the highest of the others.""")
    add_search_flags(group)
    add_context_flags(group)
    add("--eval_every", type=positive_int, metavar="EPOCHS", help="""
        Epochs between evaluations (the untrained and the final network are always evaluated).""")
    add("--eval_per_class", action=argparse.BooleanOptionalAction, default=False, help="""
        Write per_class.csv after training: the retrieval metrics of every test class, worst
        first.""")
    add("--figures", action=argparse.BooleanOptionalAction, default=True, help="""
        Draw the run's pictures and write its pages and confusions.csv after training, in 3 s or
        more; --no-figures leaves numbers and checkpoints, for many short runs.""")
    add("--map_images", type=non_negative_int, default=2000, metavar="IMAGES", help="""
        Test images in embedding.png, the 2-D map drawn after training (some 10 s for 3000); 0: no
        map.""")
    add("--map_thumbnails", action=argparse.BooleanOptionalAction, default=False, help="""
        Show images in the map where there is room.""")
    add("--explorer_images", type=non_negative_int, default=5000, metavar="IMAGES", help="""
        Test images in explorer.html, the page of thumbnails with their nearest neighbours; 0: no
        page. 5000 photographs make some 15 MB, 5000 of 60000 some 40.""")


def add_search_flags(group) -> None:
    """How metrics are computed; evaluation.score takes the same flags."""
    add = group.add_argument
    add("--evaluate_on_gpu", action=argparse.BooleanOptionalAction, default=False, help="""
        Search on all visible GPUs where faiss-gpu is installed, and cluster on the first.""")
    add("--search_backend", default="auto", choices=["auto", "faiss", "torch"], help="""
        Library of the exact neighbour search; 'auto': faiss if it is installed and rows are on the
        CPU. Metrics of classes with few images count ranks instead.""")
    add("--search_precision", default="float32", choices=["float32", "half"], help="""
        'half' proposes neighbours in half precision (torch only) and scores them again exactly; the
        numbers are the same.""")
    add("--eval_block", type=positive_int, default=1024, metavar="QUERIES", help="""
        Queries that are searched at once; memory grows with it.""")
    add("--eval_bootstrap", type=whole(0, 1_000_000), default=0, metavar="DRAWS", help="""
        Draws of test classes from which each metric gets a 95 %% interval; 1000 is usual, 0: no
        intervals.""")


def add_context_flags(group) -> None:
    """Context from the collection; embed, score and search of evaluation take the same flags."""
    add = group.add_argument
    add("--eval_context", type=non_negative_int, default=0, metavar="K", help="""
        Add to each embedding the mean of its K nearest others in the collection, which is the
        gallery where there is one; metrics of these are ctx_METRIC, beside the plain ones. 8 is
        usual, 0: no context. It sees all test images (docs/metrics.md).""")
    add("--eval_context_power", type=non_negative, default=3.0, metavar="POWER", help="""
        Neighbours weigh as much as their cosine similarity to this power; 0: all alike.""")


def with_context_flags(parser: Parser, argv: list[str] | None) -> argparse.Namespace:
    """The flags of a command that has those of add_context_flags."""
    # argparse leaves what is there already
    opt = parser.parse_args(argv, argparse.Namespace(eval_context_power=None))
    if opt.eval_context_power is None:
        opt.eval_context_power = parser.get_default("eval_context_power")
    elif not opt.eval_context:
        parser.error("--eval_context_power has no effect with --eval_context 0")
    return opt


def evaluation_arguments(opt: argparse.Namespace) -> dict:
    """What else is computed beside the metrics, as arguments of evaluation.evaluate."""
    return {
        "bootstrap": opt.eval_bootstrap,
        "context": opt.eval_context,
        "context_power": opt.eval_context_power,
    }


def search_arguments(opt: argparse.Namespace) -> dict:
    """The flags of `add_search_flags`, as arguments of evaluation.evaluate."""
    return {
        "backend": opt.search_backend,
        "block": opt.eval_block,
        "gpu": opt.evaluate_on_gpu,
        "precision": opt.search_precision,
    }


GROUPS = (
    add_run_flags,
    add_record_flags,
    add_data_flags,
    add_image_flags,
    add_batch_flags,
    add_network_flags,
    add_loss_flags,
    add_pair_flags,
    add_relation_flags,
    add_policy_flags,
    add_memory_flags,
    add_further_flags,
    add_training_flags,
    add_speed_flags,
    add_evaluation_flags,
)


def build_parser() -> Parser:
    """The parser with every flag and its own default."""
    description = """
        Train LM-Metric (learned pair weighting and contextual memory) or its base losses on images,
        and evaluate retrieval on unseen classes. Without flags the full method trains on the
        built-in data set. Defaults shown are those of the given --recipe, --dataset and --arch."""
    parser = Parser(
        prog="python main.py",
        usage="python main.py [flags]",
        description=description,
        formatter_class=Formatter,
        allow_abbrev=False,
        rename=base_framework.rename,
        expand=with_config,
    )
    for add_flags in GROUPS:
        add_flags(parser)
    base_framework.add_flags(parser)
    return parser


# ----------------------------------------------------------------- from the command line to options


def answer_early(argv: list[str]) -> None:
    """Answer --help, --list and wrong flags, and exit; return for what needs torch."""
    def early() -> None:
        explicit = explicit_flags(argv)
        if "evaluate_only" in explicit and "checkpoint" in explicit:
            return  # its flags are those of the checkpoint
        if "resume" in explicit:
            return  # those of the run
        opt = get_options(argv)
        if opt.list in listing.FLAGS:
            listing.print_names(listing.names(opt.list))
            sys.exit()
    if int(os.environ.get("RANK", 0)) == 0:
        code = answer("main.py", early, debug="--debug" in argv)
        if code:
            sys.exit(code)


def get_options(
    argv: list[str], trained: dict | None = None, begun: dict | None = None
) -> argparse.Namespace:
    """Parse the command line; where it cannot work, exit with code 2 and one sentence.

    trained: the options of the checkpoint that is evaluated or continued; they are the defaults.
    begun: those of a run that was left before its first checkpoint; see `repeated`.
    """
    explicit = explicit_flags(argv)
    parser = parser_with_defaults(explicit, trained, begun)
    opt = parser.parse_args(argv)
    opt.arch = completed(vars(opt))
    for problem in problems(opt, explicit):
        parser.error(problem)
    return opt


def parser_with_defaults(
    explicit: dict, trained: dict | None = None, begun: dict | None = None
) -> Parser:
    """The parser with the defaults that hold for these flags; see `get_options`."""
    chosen = repeated(explicit, begun or {})
    own = inherited(explicit, trained or {})
    parser = build_parser()
    parser.set_defaults(**layered_defaults(chosen | own | explicit))
    parser.set_defaults(**chosen)
    parser.set_defaults(**own)
    return parser


def explicit_flags(argv: list[str]) -> dict:
    """The flags that the command line names, with their values."""
    parser = build_parser()
    parser.add_help = False
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    wanted = [word for word in argv if word not in ("-h", "--help")]
    return vars(parser.parse_args(wanted))


def with_config(parser: Parser, words: list[str]) -> list[str]:
    """The words of a command line with those of the files of --config before them."""
    files, typed = config.split(words)
    before = []
    for path in files:
        entries = config.entries_of(path)
        if is_run_options(path):
            entries = config.recorded(path, flags_to_repeat(path, "--config"))
        before += config.words_of(parser, entries)
    return before + typed


def is_run_options(path: str) -> bool:
    """Whether a file is the options.json of a run."""
    try:
        read_options(path)
    except UsageError:
        return False
    return True


@cache
def flag_actions() -> dict[str, argparse.Action]:
    """The action of every flag, in a parser of its own: to read, not to change."""
    return {action.dest: action for action in build_parser()._actions if action.dest != "help"}


def inherited(explicit: dict, trained: dict) -> dict:
    """The defaults that a checkpoint's options give: all, or without --resume all but the machine's.

    Those of the data are left out too where another data set is given.
    """
    data = ("glyphs_", "data_", "dataset", "source_path", "train_on_all", "test_by_images")
    another = explicit.get("dataset", trained.get("dataset")) != trained.get("dataset")
    left_out = NOT_REPEATED - WRITTEN if "resume" in explicit else MACHINE
    known = flag_actions()
    defaults = {}
    for flag, value in trained.items():
        if flag in known and flag not in left_out and not (another and flag.startswith(data)):
            defaults[flag] = value
    if "resume" not in explicit and explicit.keys() & {"image_size", "crop_size"}:
        # a cache for images of the other size
        defaults.pop("cache_side", None)
    refuse_flags_of_checkpoint(defaults, evaluated="evaluate_only" in explicit)
    return defaults


def refuse_flags_of_checkpoint(flags: dict, evaluated: bool) -> None:
    """A UsageError for a flag with a value that the command line could not have given.

    evaluated: the checkpoint is not trained any further, so that it may have been trained with
    choices that this version does not have.
    """
    wrong = wrong_flag(flags, any_choice=evaluated)
    if wrong:
        raise UsageError(f"the checkpoint was trained with --{wrong} {ascii(flags[wrong])[:60]}, "
                         "which this version does not have: use the commit that the run's "
                         "options.json names.")


# ------------------------------------------------------------------------- flags of an earlier run


def repeated(explicit: dict, begun: dict) -> dict:
    """The flags that were chosen for the run of --repeat, or else for the one with flags `begun`.

    What follows from them follows anew: a flag of the command line has the consequences that it
    would have had then.
    """
    if "repeat" not in explicit:
        return {flag: value for flag, value in chosen_flags(begun or {}).items()
                if flag not in NOT_REPEATED - WRITTEN}
    return flags_to_repeat(explicit["repeat"], "--repeat")


def flags_to_repeat(path: str, given_as: str) -> dict:
    """The flags that were chosen for the run of an options.json, without folders and machine.

    given_as: the flag that names the file.
    """
    flags = recorded_flags(path, given_as)
    chosen = chosen_flags(flags)
    if flags.get("dataset", "glyphs") == "glyphs":
        # The pictures are drawn into it.
        chosen.pop("source_path", None)
    if not is_folder_name(chosen.get("savename", "")):
        del chosen["savename"]
    # the defaults of flags without effect may have been others
    used = argparse.Namespace(**(defaults_of(flags) | flags))
    return {flag: value for flag, value in chosen.items() if flag not in NOT_REPEATED and not why_idle(flag, used)}


def chosen_flags(flags: dict) -> dict:
    """Those of a run's flags that differ from the defaults that hold for such a run."""
    defaults = defaults_of(flags)
    return {flag: value for flag, value in flags.items()
            if flag in defaults and as_recorded(value) != as_recorded(defaults[flag])}


def defaults_of(flags: dict) -> dict:
    """The defaults that hold for a run with these flags."""
    defaults = {flag: action.default for flag, action in flag_actions().items()}
    defaults |= layered_defaults(flags)
    data = {"dataset": flags["dataset"]} if "dataset" in flags else {}
    return defaults | {"arch": layered_defaults(data)["arch"]}


def recorded_flags(path: str, given_as: str = "--repeat") -> dict:
    """The flags in a run's options.json, each checked as if typed; a UsageError for other files."""
    known = flag_actions()
    content = read_options(path)
    # what followed from the network follows anew
    settled = content.get("settled")
    left_out = {*REMOVED, *(map(str, settled) if isinstance(settled, list) else ())}
    flags = {flag: value for flag, value in content["flags"].items()
             if value is not None and flag not in left_out}
    unknown = sorted(set(flags) - set(known))
    if unknown:
        shown = ", ".join(ascii(flag)[1:-1][:40] for flag in unknown[:5])
        raise UsageError(f"{given_as} {path} has flags that this version does not know: {shown}. "
                         "Remove them from the file, or use the commit that it names.")
    wrong = wrong_flag(flags)
    if wrong:
        raise UsageError(f"{given_as} {path}: --{wrong} cannot be {ascii(flags[wrong])[:60]}; "
                         "correct it in the file.")
    return flags


def read_options(path: str) -> dict:
    """The content of a run's options.json; a UsageError if it is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        sentence = f"{path}: there is no such file; give the options.json of a run."
        raise UsageError(sentence) from None
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("flags"), dict):
        raise UsageError(f"{path} is not the options.json of a run.")
    return content


def acceptable_flags(flags: dict) -> dict:
    """Those flags of a run's options.json that this command line could have given."""
    known = flag_actions()
    return {flag: value for flag, value in flags.items()
            if flag in known and value is not None and _acceptable(known[flag], value)}


def wrong_flag(flags: dict, any_choice: bool = False) -> str | None:
    """The first flag with a value that the command line could not have given, or None.

    any_choice: of a flag with choices any name counts as one. Flags that this version does not
    have are not looked at.
    """
    known = {flag: action for flag, action in flag_actions().items() if flag in flags}
    given = {flag: action for flag, action in known.items() if flags[flag] is not None}
    for flag, action in given.items():
        if any_choice and action.choices and isinstance(flags[flag], str):
            continue
        if not _acceptable(action, flags[flag]):
            return flag
    needed = layered_defaults({flag: flags[flag] for flag in given} if not any_choice else {})
    absent = [flag for flag in known if flag not in given]
    usual = {flag: action.default for flag, action in known.items()} | needed
    return next((flag for flag in absent if usual[flag] is not None), None)


def _acceptable(action: argparse.Action, value) -> bool:
    """Whether the command line could have given this value."""
    if action.nargs == 0:
        return isinstance(value, bool)
    if action.nargs is None:
        return _readable(action, value)
    if not isinstance(value, list | tuple):
        return False
    if not all(_readable(action, part) for part in value):
        return False
    if action.nargs == "+":
        return len(value) > 0 or action.default == ()
    return len(value) == action.nargs


def _readable(action: argparse.Action, value) -> bool:
    """Whether a single value is one of the flag's type and choices."""
    if not isinstance(value, str | int | float):
        return False
    try:
        same = (action.type or str)(str(value)) == value
    except (ValueError, argparse.ArgumentTypeError):
        return False
    return same and (action.choices is None or value in action.choices)


# --------------------------------------------------------------------------- from options to parts


def kwargs_for(opt: argparse.Namespace, prefix: str) -> dict:
    """The flags that start with `prefix`, as keyword arguments without it."""
    flags = {flag: value for flag, value in vars(opt).items() if belongs(flag, prefix)}
    return {flag.removeprefix(prefix): value for flag, value in flags.items()}


def loss_arguments(opt: argparse.Namespace) -> dict:
    """The arguments of the criterion; `on_arguments` are those of the one that it is added to."""
    name, *inner = loss_names(vars(opt))
    arguments = kwargs_for(opt, f"loss_{name}_")
    if inner:
        arguments["on_arguments"] = kwargs_for(opt, f"loss_{inner[0]}_")
    return arguments
