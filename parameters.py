"""Every flag of main.py: what it means, its unit, its default, and which combinations cannot work.

Defaults come in layers, each overriding the one before: the flag's own, those of the size of the network
(`convnet` on small images, or a large pretrained backbone), those of `--recipe`, those that `--loss` needs; flags given
on the command line override all.
This module imports no torch, so that `--help` and wrong flags answer at once.
"""
import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from utilities.command_line import (
    Formatter,
    Parser,
    below_one,
    finite,
    non_negative,
    non_negative_int,
    positive,
    positive_int,
    share,
)
from utilities.errors import UsageError

SMALL = {"embed_dim": 128, "cache": "ram", "augmentation": "shift", "bs": 112, "n_epochs": 32, "lr": 4e-3,
         "tau": [26, 30], "gamma": 0.3, "warmup_epochs": 0, "eval_every": 8, "kernels": 0, "xbm_start": 100,
         "loss_smoothap_tau": 0.08}
LARGE = {"embed_dim": 512, "cache": "none", "augmentation": "base", "bs": 180, "n_epochs": 100, "lr": 1e-4,
         "tau": [20, 40, 60, 80], "gamma": 0.5, "warmup_epochs": 5, "eval_every": 1, "kernels": 8, "xbm_start": 1000}
RECIPES = {
    "default": {"loss": "smoothap", "batch_mining": "none", "pair_weight_on": "term",
                "relation_order": "permuted", "relation_share_projection": False,
                "policy_action": "sharpness", "policy_granularity": "batch", "policy_input": "both",
                "policy_reward": "lookahead", "policy_samples": 8, "policy_baseline": "leave_one_out",
                "policy_scale": "mean", "policy_act": "expected", "memory": "realnvp", "memory_decode": "mode"},
    "paper": {"loss": "margin", "batch_mining": "distance", "pair_weight_on": "distance",
              "relation_order": "batch", "relation_share_projection": True, "relation_hidden": 0,
              "policy_action": "weight", "policy_granularity": "anchor", "policy_input": "state",
              "policy_reward": "batch_ap", "policy_samples": 1, "policy_baseline": "none",
              "policy_scale": "none", "policy_act": "sample", "policy_entropy_bonus": 0.0, "policy_lr": 1e-4,
              "memory": "glow", "memory_decode": "sample"},
}
BY_LOSS = {
    "angular": {"batch_mining": "npair"},
    "arcface": {"policy_action": "weight", "policy_granularity": "anchor"},
    "contrastive": {"batch_mining": "distance"},
    "cosface": {"policy_action": "weight", "policy_granularity": "anchor"},
    "margin": {"batch_mining": "distance"},
    "npair": {"batch_mining": "npair"},
    "pml": {"pair_weighting": "uniform"},
    "proxyanchor": {"policy_action": "weight", "policy_granularity": "anchor"},
    "proxynca": {"policy_action": "weight", "policy_granularity": "anchor"},
    "quadruplet": {"batch_mining": "distance"},
    "snr": {"batch_mining": "distance"},
    "softmax": {"policy_action": "weight", "policy_granularity": "anchor"},
    "softtriplet": {"policy_action": "weight", "policy_granularity": "anchor"},
    "triplet": {"batch_mining": "distance"},
}
ONLY_WITH = {                                                  # prefix of flags: (flag that switches them on, its off)
    "policy_": ("pair_weighting", "uniform"), "memory_": ("memory", "none"), "relation_": ("relation", "none"),
    "xbm_": ("xbm_size", 0), "proxies_": ("proxies_weight", 0), "cache_": ("cache", "none"),
}
BY_STORAGE = ("greedy_coreset", "d2_coreset", "disthist_batchmatch", "fid_batchmatch")
SAMPLER_FLAGS = {                                              # flag: samplers that it is an argument of
    "data_batchmatch_bigbs": BY_STORAGE, "data_batchmatch_ncomps": ("disthist_batchmatch", "fid_batchmatch"),
    "data_gc_softened": ("greedy_coreset",), "data_d2_coreset_lambda": ("d2_coreset",),
    "data_sampler_lowproj_dim": BY_STORAGE, "data_storage_no_update": BY_STORAGE, "data_mb_mom": BY_STORAGE,
    "data_mb_lr": BY_STORAGE,
}
IDLE = (                                                       # flags, by how they begin; when they do nothing; words
    (("weights_dir",), lambda opt: opt.checkpoint, "with --checkpoint"),
    (("weights_dir",), lambda opt: opt.weights, "with --weights"),
    (("weights_dir",), lambda opt: opt.not_pretrained, "with --not_pretrained"),
    (("project", "group"), lambda opt: not opt.log_online, "without --log_online"),
    (("tensorboard", "log_online", "repeat", "compile", "figures", "map_", "explorer_", "eval_per_class"),
     lambda opt: opt.evaluate_only, "with --evaluate_only"),
    (("json",), lambda opt: not opt.evaluate_only, "without --evaluate_only"),
    (("map_", "explorer_", "eval_per_class"), lambda opt: not opt.figures, "with --no-figures"),
    (("map_thumbnails",), lambda opt: not opt.map_images, "with --map_images 0"),
    (("glyphs_",), lambda opt: opt.dataset != "glyphs", "with --dataset {dataset}"),
    (("cache_path",), lambda opt: opt.cache == "ram", "with --cache ram"),
    (("tv_split",), lambda opt: not opt.use_tv_split, "without --use_tv_split"),
    (("frozen_bn_affine",), lambda opt: "_frozen" not in opt.arch, "with --arch {arch}: pass --arch {arch}_frozen"),
    (("data_mb_",), lambda opt: opt.data_storage_no_update, "with --data_storage_no_update"),
    (("data_mb_lr",), lambda opt: opt.data_mb_mom < 0, "without --data_mb_mom"),
    (("pair_weight_on",), lambda opt: opt.pair_weighting == "uniform", "with --pair_weighting uniform"),
    (("policy_constant",), lambda opt: opt.pair_weighting != "constant", "with --pair_weighting {pair_weighting}"),
)
ONLY_FOR = {                                                   # flag: (flag that it needs, values of that)
    "momentum": ("optim", ("sgd", "rmsprop")), "nesterov": ("optim", ("sgd",)),
    "tau": ("scheduler", ("step", "multistep")), "gamma": ("scheduler", ("step", "multistep")),
    "lr_min": ("scheduler", ("cosine",)),
} | {flag: ("data_sampler", names) for flag, names in SAMPLER_FLAGS.items()}
MACHINE = {"save_path", "savename", "device", "gpu", "kernels", "cache_path", "checkpoint", "evaluate_only", "json",
           "debug", "repeat", "resume", "weights_dir", "list"}     # flags that no checkpoint decides
NOT_REPEATED = {"repeat", "resume", "evaluate_only", "json", "debug", "gpu", "list"}
LISTS = ("architectures", "augmentations", "datasets", "flows", "losses", "memories", "metrics", "miners", "poolings",
         "samplers", "timm", "torchvision", "weights")         # what --list knows
REFUSED = {                                                    # flags of the base framework that there cannot be
    "--wandb_key": "--wandb_key would leave your key in the shell's history and among the run's files: log in with "
                   "wandb login, or set WANDB_API_KEY",
}


def add_run_flags(parser: Parser) -> None:
    """What runs, where, and where the results go."""
    group = parser.add_argument_group("run", "What runs, where, and where its results go.")
    add = group.add_argument
    add("--recipe", default="default", choices=["default", "paper"],
        help="Set of defaults for the method: 'default' learns the sharpness of the pair weights by a look-ahead "
             "reward; 'paper' is the method as published.")
    add("--save_path", default="runs", metavar="FOLDER",
        help="Folder of all runs; a run writes to SAVE_PATH/DATASET/SAVENAME.")
    add("--savename", default="", metavar="NAME",
        help="Name of the run's folder; empty: recipe, loss and seed. An existing folder is never overwritten: "
             "-2, -3, ... is added.")
    add("--seed", type=int, default=1, help="Seed of everything random.")
    add("--device", default="auto", choices=["auto", "cpu", "cuda"],
        help="Where to compute; 'auto': the GPU where there is one, else the CPU with a notice.")
    add("--gpu", type=non_negative_int, nargs="+", default=None, metavar="ID",
        help="Number of the GPU to use; the first where there is one. Refused on a machine without a GPU.")
    add("--kernels", type=non_negative_int, default=None, metavar="N",
        help="Worker processes that load images; 0 loads in the main process.")
    add("--checkpoint", default=None, metavar="FILE",
        help="Start from the network of this checkpoint (last.pt or best_*.pt of a run).")
    add("--resume", default=None, metavar="auto|RUN",
        help="Continue a run after the last step that its last.pt holds, bit for bit: the run of this name with 'auto' "
             "(a new one where there is none), or the given folder or checkpoint. Flags that are not given are the "
             "run's; others are refused, but for --n_epochs, machine and paths.")
    add("--checkpoint_minutes", type=float, default=10.0, metavar="MINUTES",
        help="Time between checkpoints within an epoch; one is written after every epoch, and on SIGTERM and Ctrl-C.")
    add("--evaluate_only", action="store_true",
        help="Evaluate --checkpoint on the test classes, print the metrics and stop. Flags that are not given are "
             "those of the checkpoint's run.")
    add("--repeat", default=None, metavar="FILE",
        help="Take the flags of a run from its options.json, in a new folder; those of the command line go before "
             "them. What differs from then (versions, commit, device) is printed.")
    add("--list", default=None, choices=LISTS, metavar="WHAT",
        help=f"Print the exact names, one a line, of {', '.join(LISTS[:-3])}, of the models of timm or torchvision, or "
             "the files of weights with their addresses and sums, and stop.")
    add("--debug", action="store_true", help="Show the traceback of an error instead of one sentence.")


def add_record_flags(parser: Parser) -> None:
    """Where else the numbers go."""
    group = parser.add_argument_group("records", "Where numbers go besides the run's folder.")
    add = group.add_argument
    add("--tensorboard", action="store_true",
        help="Write steps and epochs for TensorBoard too, into the folder tensorboard of the run.")
    add("--log_online", action="store_true",
        help="Send steps and epochs to Weights & Biases too; WANDB_MODE=offline keeps them for a later upload. The key "
             "is that of wandb login or WANDB_API_KEY.")
    add("--project", default="lm-metric", help="Project of --log_online.")
    add("--group", default="", help="Group of runs of --log_online, such as the seeds of one setting.")
    add("--json", default=None, metavar="FILE", help="Write the metrics of --evaluate_only to this file, all digits.")


def add_data_flags(parser: Parser) -> None:
    """The data set and its halves."""
    group = parser.add_argument_group("data", "The data set, and who of it trains and tests.")
    add = group.add_argument
    add("--dataset", default="glyphs",
        help="'glyphs': characters drawn from the fonts that matplotlib ships, made once, needs no download; "
             "'cub200', 'cars196', 'online_products' (or 'sop'), 'in_shop': the benchmarks, by their usual splits; "
             "'image_folder': your own images.")
    add("--source_path", default="", metavar="FOLDER",
        help="Benchmarks: the data set's own folder or the one that holds it, as the archive has it or prepared by "
             "python -m datasets.prepare (docs/datasets.md). image_folder: the folder with one folder per class, or "
             "with labels.csv (path,label[,super_label][,split]). glyphs: where the images are kept.")
    add("--use_tv_split", action="store_true",
        help="Take validation classes out of the training half; they then choose the best checkpoint, and the test "
             "classes are only reported.")
    add("--tv_split_perc", type=share, default=0.8, metavar="SHARE",
        help="Share of the training classes that stays for training.")
    add("--tv_split_by_samples", action="store_true", help="Split off images of every class instead of classes.")
    add("--glyphs_classes", type=positive_int, default=240, metavar="N", help="Characters, half of them for testing.")
    add("--glyphs_images_per_class", type=positive_int, default=24, metavar="N", help="Images of each character.")
    add("--glyphs_size", type=positive_int, default=32, metavar="PIXELS", help="Side at which characters are drawn.")
    add("--glyphs_seed", type=int, default=0, help="Seed of the drawing; independent of --seed.")


def add_image_flags(parser: Parser) -> None:
    """From files to what the network sees."""
    group = parser.add_argument_group("images", "From files to what the network sees.")
    add = group.add_argument
    add("--image_size", type=positive_int, default=None, metavar="PIXELS",
        help="Side of the square input image; default: that of the backbone.")
    add("--crop_size", type=positive_int, default=None, metavar="PIXELS",
        help="Side of the square input where it differs from --image_size, to which the shorter side is then resized "
             "before the crop: --image_size 256 --crop_size 224 is the usual pair.")
    add("--augmentation", default=None, choices=["base", "adv", "big", "red", "shift", "none"],
        help="Training images: 'base' random resized crop and flip, 'adv' and random colours, 'big' base at 256/224 of "
             "the side, 'red' random crop of the resized image and flip, 'shift' random shift by up to an eighth "
             "(characters must not be flipped), 'none'.")
    add("--cache", default=None, choices=["none", "ram", "disk"],
        help="Keep decoded images: in memory that all workers share, or in a file for later runs too. They are filled "
             "before training; larger images are kept at --cache_side (docs/datasets.md).")
    add("--cache_side", type=positive_int, default=None, metavar="PIXELS",
        help="Longest that the shorter side of a kept image may be; default: 1.71 times the input's side (384 at 224).")
    add("--cache_path", default=".cache", metavar="FOLDER", help="Where --cache disk keeps its files.")


def add_batch_flags(parser: Parser) -> None:
    """Batches and their samplers."""
    group = parser.add_argument_group("batches", "How batches are made of the images.")
    add = group.add_argument
    add("--bs", type=positive_int, default=None, metavar="IMAGES", help="Images in a batch.")
    add("--samples_per_class", type=positive_int, default=4, metavar="IMAGES",
        help="Images of each class in a batch; --bs must be a multiple. A class with fewer images is drawn from "
             "with replacement.")
    add("--data_sampler", default="class_random",
        help="'class_random': random classes, --samples_per_class images of each; 'random': random images; "
             "'hierarchical': two super-classes, and classes of each. By the images' embeddings: 'greedy_coreset', "
             "'d2_coreset' (images that cover a larger batch), 'disthist_batchmatch', 'fid_batchmatch' (batches like "
             "it). docs/datasets.md has the formulas.")
    add("--data_batchmatch_bigbs", type=positive_int, default=512, metavar="IMAGES",
        help="Random images that the samplers by embeddings choose a batch from.")
    add("--data_batchmatch_ncomps", type=positive_int, default=10, metavar="BATCHES",
        help="Random batches of which disthist_batchmatch and fid_batchmatch take the best.")
    add("--data_gc_softened", action="store_true",
        help="greedy_coreset draws each image from the farthest 3 %% instead of taking the farthest.")
    add("--data_d2_coreset_lambda", type=non_negative, default=1.0, metavar="POWER",
        help="Power of the distances in d2_coreset; 0: the density alone.")
    add("--data_sampler_lowproj_dim", type=int, default=-1, metavar="D",
        help="Choose in a random projection of the embeddings to so many dimensions; below 1: in the embeddings.")
    add("--data_storage_no_update", action="store_true",
        help="Keep the embeddings that are chosen by as they are before training; else those of each training batch "
             "replace them.")
    add("--data_mb_mom", type=float, default=-1.0, metavar="MOMENTUM",
        help="Add to a replaced embedding its drift so far, averaged with this momentum; negative: none.")
    add("--data_mb_lr", type=float, default=1.0, metavar="FACTOR", help="Factor of that drift.")


def add_network_flags(parser: Parser) -> None:
    """The network."""
    group = parser.add_argument_group("network", "Backbone and embedding.")
    add = group.add_argument
    add("--arch", default=None, metavar="NAME",
        help="bninception, convnet (small images, CPU), googlenet, resnet18, 34, 50, 101, vit_small, or any of a "
             "library: torchvision.NAME, timm.NAME (--list architectures, torchvision, timm); suffix _frozen keeps the "
             "batch norm statistics fixed, _normalize gives the loss unit rows. Chosen by --dataset where it is not "
             "given.")
    add("--embed_dim", type=positive_int, default=None, metavar="D", help="Length of an embedding.")
    add("--pooling", default=None, choices=["avg", "max", "avg+max", "gem"],
        help="How the backbone's map becomes a feature: average, maximum, their sum, or the generalised mean with a "
             "learnt power. Default: avg+max; a transformer on tokens has a pooling of its own and takes none.")
    add("--feature_norm", action="store_true",
        help="Layer norm of the feature before the projection, without learnt scale and shift.")
    add("--not_pretrained", action="store_true", help="Start from random weights instead of ImageNet's.")
    add("--weights", default=None, metavar="FILE",
        help="Start the backbone from these weights instead of the library's: a safetensors file, or one by torch.save "
             "that holds tensors alone (docs/backbones.md). A model.json beside it says how images are prepared.")
    add("--weights_dir", default=None, metavar="FOLDER",
        help="Folder in which the library's files of weights are looked for before they are downloaded; --list weights "
             "names them.")
    group = parser.add_argument_group("input", "How images are prepared; default: as for the weights of --arch.")
    add = group.add_argument
    add("--input_mean", type=finite, nargs=3, default=None, metavar="X",
        help="Mean of each channel, in the order of --input_channels and on the scale of --input_value_range.")
    add("--input_std", type=positive, nargs=3, default=None, metavar="X", help="Standard deviation of each, likewise.")
    add("--input_channels", default=None, choices=["RGB", "BGR"], help="Order of the channels.")
    add("--input_value_range", type=positive, default=None, metavar="X",
        help="Largest value of a pixel before the mean is subtracted: 1, or 255 as in Caffe.")


# Per criterion, argument of its constructor: (default, help)
LOSS_FLAGS = {
    "adversarial_separation": {
        "on": ("multisimilarity", "Loss that the separation is added to; its own --loss_ flags hold."),
        "parts": (2, "Equal parts of the embedding that are separated; a divisor of --embed_dim."),
        "hidden": (512, "Hidden width of the regressors."),
        "weight": (1500.0, "Weight of the separation beside the loss."),
        "reg_weight": (0.0, "Weight of the regulariser on the regressors' weights and biases."),
        "lr": (-1.0, "Learning rate of the regressors; negative: that of --lr."),
    },
    "angular": {
        "alpha": (45.0, "Bound on the angle at the negative (degrees)."),
        "npair_ang_weight": (2.0, "Weight of the angular term beside the N-pair term."),
        "npair_l2": (0.005, "Weight of the mean length of the embeddings."),
        "angular_only": (False, "The angular term alone, unweighted, without N-pair term and lengths."),
    },
    "arcface": {
        "angular_margin": (0.5, "Margin added to the angle to the own proxy (radians)."),
        "feature_scale": (16.0, "Scale of the cosines."),
        "lr": (5e-4, "Learning rate of the proxies."),
    },
    "circle": {
        "margin": (0.4, "Relaxation: positives are pulled to 1 - margin, negatives pushed to margin (cosine)."),
        "gamma": (80.0, "Scale of the similarities."),
    },
    "contrastive": {
        "pos_margin": (0.0, "Positive pairs are pulled down to this distance."),
        "neg_margin": (1.0, "Negative pairs are pushed up to this distance."),
        "avg_nonzero": (False, "Average over the pairs beyond their margin instead of all."),
    },
    "cosface": {
        "margin": (0.35, "Margin taken from the own similarity (cosine)."),
        "scale": (64.0, "Scale of the cosines."),
        "lr": (1e-2, "Learning rate of the proxies."),
    },
    "histogram": {
        "nbins": (65, "Nodes of the histograms of similarities, from -1 to 1."),
    },
    "lifted": {
        "neg_margin": (1.0, "Negatives are pushed up to this distance."),
        "l2": (0.005, "Weight of the mean length of the embeddings."),
    },
    "margin": {
        "margin": (0.2, "Margin around the boundary (distance)."),
        "beta": (1.2, "Boundary, or its start where it is learned (distance)."),
        "beta_lr": (5e-4, "Learning rate of the boundaries."),
        "beta_constant": (False, "Keep one fixed boundary instead of one per class."),
        "nu": (0.0, "Weight of the regulariser on the boundaries."),
    },
    "multisimilarity": {
        "pos_weight": (2.0, "Scale of positive pairs (alpha)."),
        "neg_weight": (40.0, "Scale of negative pairs (beta)."),
        "margin": (0.1, "Mining margin (cosine)."),
        "thresh": (0.5, "Threshold lambda (cosine)."),
    },
    "npair": {
        "l2": (0.005, "Weight of the mean length of the embeddings."),
        "multiclass": (False, "Negatives are the positives of the other pairs instead of all images of other classes."),
    },
    "pml": {
        "args": ((), "Arguments of the class given by --loss pml.CLASS, such as margin=0.1 swap=True."),
        "lr": (1e-2, "Learning rate of what the loss learns (proxies)."),
    },
    "proxyanchor": {
        "alpha": (32.0, "Scale of the similarities."),
        "delta": (0.1, "Margin (cosine)."),
        "lr": (1e-2, "Learning rate of the proxies."),
    },
    "proxynca": {
        "scale": (3.0, "Length to which embeddings and proxies are normalised."),
        "include_positive": (False, "Count the own proxy among those that push."),
        "lr": (5e-4, "Learning rate of the proxies."),
    },
    "quadruplet": {
        "margin_alpha_1": (0.2, "Margin between the positive and the anchor's negative (distance)."),
        "margin_alpha_2": (0.2, "Margin between the positive and the pair of negatives (distance)."),
        "squared": (False, "Compare squared distances."),
    },
    "recallatk": {
        "ks": ((1, 2, 4, 8, 16), "Lengths k of the short lists (images)."),
        "tau1": (1.0, "Temperature of the sigmoid that tells whether a rank is at most k (ranks)."),
        "tau2": (0.01, "Temperature of the sigmoid that counts what stands above (cosine)."),
    },
    "smoothap": {
        "tau": (0.01, "Temperature of the sigmoid (cosine); 0.08 on the small convnet, where it was measured."),
        "exclude_self": (False, "Leave the query out of its own ranking instead of keeping it as its first positive."),
    },
    "snr": {
        "margin": (0.2, "Margin between positive and negative (ratio of variances)."),
        "reg_lambda": (0.005, "Weight of the anchors' absolute sums, which pulls their means to zero."),
    },
    "softmax": {
        "temperature": (0.05, "Temperature of the similarities (cosine)."),
        "lr": (1e-5, "Learning rate of the proxies."),
    },
    "softtriplet": {
        "n_centroids": (2, "Centroids of each class."),
        "margin_delta": (0.01, "Margin taken from the own similarity (cosine)."),
        "gamma": (0.1, "Temperature of the choice among the centroids of a class (cosine)."),
        "scale": (8.0, "Scale lambda of the similarities."),
        "reg_weight": (0.2, "Weight of the distances between the centroids of a class."),
        "lr": (1e-2, "Learning rate of the centroids."),
    },
    "supap": {
        "tau": (0.01, "Temperature of the sigmoid (cosine)."),
        "rho": (100.0, "Slope of the bound beyond delta (1/cosine)."),
        "delta": (0.05, "Lead of a negative from which the bound is a line (cosine)."),
        "alpha": (0.9, "Positive pairs are pulled up to this similarity (cosine)."),
        "beta": (0.6, "Negative pairs are pushed down to this similarity (cosine)."),
        "calibration": (0.5, "Share of the two hinges in the loss; the rest is the ranking's."),
    },
    "supcon": {
        "temperature": (0.1, "Temperature of the similarities (cosine)."),
    },
    "triplet": {
        "margin": (0.2, "Margin between positive and negative (squared distance; euclidean: distance)."),
        "euclidean": (False, "Compare distances instead of their squares."),
        "avg_nonzero": (False, "Average over the triplets within the margin instead of all."),
        "soft_margin": (False, "log(1 + exp(.)) in the place of the hinge and its margin."),
    },
}
# Names of the base framework that cannot be arguments of a Python function.
SYNONYMS = {"--loss_softtriplet_scale": ("--loss_softtriplet_lambda",)}
# Per miner, likewise.
MINER_FLAGS = {
    "all": {
        "cap": (65536, "Triplets; above this number a random subset."),
    },
    "distance": {
        "lower_cutoff": (0.5, "Smaller distances count as this one."),
        "upper_cutoff": (1.4, "Negatives at larger distances are not drawn."),
    },
    "multisimilarity": {
        "eps": (0.1, "Mining margin (cosine)."),
        "cap": (65536, "Triplets; above this number a random subset."),
    },
    "parametric": {
        "mode": ("semihards", "Distances that are drawn at first: uniform (all), semihards (.3 to .7), hards (to .5), "
                              "veryhards (to .3)."),
        "n_support": (30, "Support points of the distribution, one more than bins."),
        "support_lim": ((0.1, 1.4), "First and last support point (distance)."),
        "alpha": (0.8, "Factor by which the policy lowers the mass of a bin."),
        "beta": (1.25, "Factor by which the policy raises the mass of a bin."),
        "every": (30, "Training steps between two actions of the policy."),
        "lr": (1e-3, "Learning rate of the policy."),
    },
    "random_distance": {
        "lower_cutoff": (0.5, "Smaller distances count as this one."),
        "upper_cutoff": (1.4, "Negatives at larger distances are not drawn."),
    },
    "rho_distance": {
        "lower_cutoff": (0.5, "Smaller distances count as this one."),
        "upper_cutoff": (1.4, "Negatives at larger distances are not drawn."),
        "cp": (0.2, "Probability that a row of the anchor's class takes the negative's place."),
    },
    "semihard": {
        "margin": (0.2, "Width of the band beyond the positive (distance)."),
    },
}


def add_loss_flags(parser: Parser) -> None:
    """Base criteria and miners; each flag is an argument of its class."""
    group = parser.add_argument_group("base loss and mining", "docs/criteria.md has the formulas.")
    add = group.add_argument
    add("--loss", default=None,
        help=f"{', '.join(sorted({'gpw', *LOSS_FLAGS} - {'pml'}))}, or pml.CLASS: a loss of pytorch-metric-learning, "
             "or MODULE.CLASS: your own, from MODULE.py beside main.py (docs/extending.md).")
    add("--batch_mining", default=None,
        help="all, batch_hard, distance, intra_random, lifted, multisimilarity, npair, parametric, random, "
             "random_distance, rho_distance, semihard or softhard; MODULE.CLASS: your own; 'none' for losses over the "
             "whole batch.")
    for kind, table in (("loss", LOSS_FLAGS), ("miner", MINER_FLAGS)):
        for name, arguments in table.items():
            for argument, (default, text) in arguments.items():
                add_constructor_flag(group, f"--{kind}_{name}_{argument}", default, text)
    group = parser.add_argument_group("cross-batch memory", "Pairs with the embeddings of past batches, for any loss "
                                                            "that compares images with images.")
    add = group.add_argument
    add("--xbm_size", type=non_negative_int, default=0, metavar="IMAGES",
        help="Embeddings remembered, of the last SIZE / BS batches; 0: no memory.")
    add("--xbm_start", type=non_negative_int, default=None, metavar="STEPS",
        help="Steps before the memory joins the loss; embeddings must drift slowly by then.")
    add("--xbm_weight", type=float, default=1.0, help="Weight of the term with the memory.")
    group = parser.add_argument_group("proxies of classes", "Pairs with a learned proxy of every training class, "
                                                            "beside any loss.")
    add = group.add_argument
    add("--proxies_weight", type=non_negative, default=0.0, help="Weight of the term with the proxies; 0: no proxies.")
    add("--proxies_sharpness", type=non_negative, default=20.0,
        help="Sharpness of the softmax by which the proxies of other classes count; 0: all alike.")
    add("--proxies_lr", type=non_negative, default=1e-2, help="Learning rate of the proxies.")


def add_constructor_flag(group, flag: str, default, text: str) -> None:
    """A flag whose type is that of its default; False becomes a switch, a tuple a list of one or more values."""
    add = partial(group.add_argument, flag, *SYNONYMS.get(flag, ()), help=text)
    if default is False:
        add(action="store_true")
    elif isinstance(default, tuple):
        add(nargs="+", type=type(default[0]) if default else str, default=default)
    else:
        add(type=type(default), default=default)


def add_relation_flags(parser: Parser) -> None:
    """The first part of the method."""
    group = parser.add_argument_group("relation", "Context of every image from the whole batch.")
    add = group.add_argument
    add("--relation", default="gru", choices=["gru", "attention", "none"], help="How the batch is read.")
    add("--relation_hidden", type=non_negative_int, default=512, metavar="H",
        help="Width of the state; 0: that of the backbone's feature.")
    add("--relation_order", default=None, choices=["permuted", "batch"],
        help="'permuted' shuffles the batch for the relation, so that position does not tell the class.")
    add("--relation_share_projection", action=argparse.BooleanOptionalAction, default=None,
        help="Use the embedding's projection for the context too; needs --relation_hidden 0.")


def add_policy_flags(parser: Parser) -> None:
    """Pair weights and the policy behind them."""
    group = parser.add_argument_group("pair weighting", "How strongly each pair counts, and the policy that decides.")
    add = group.add_argument
    add("--pair_weighting", default="learned", choices=["learned", "uniform", "random", "constant", "shuffled"],
        help="'learned' by policy gradient; 'uniform': no weights; controls: 'random' actions, the 'constant' action "
             "--policy_constant, learned but 'shuffled' over the anchors.")
    add("--pair_weight_on", default=None, choices=["term", "distance"],
        help="A weight scales the loss term, or the distance inside the hinge (margin only).")
    add("--policy_action", default=None, choices=["sharpness", "weight"],
        help="'sharpness' of a softmax over an anchor's pairs, from a grid; or one 'weight' of {1..A}/A per anchor and "
             "sign.")
    add("--policy_granularity", default=None, choices=["batch", "anchor"], help="Who gets an action.")
    add("--policy_input", default=None, choices=["state", "statistics", "both"],
        help="What the policy sees: the relation's state, label-aware statistics of the pairs, or both.")
    add("--policy_levels", type=positive_int, default=64, metavar="A",
        help="Number of weights (--policy_action weight).")
    add("--policy_scale", default=None, choices=["mean", "none"],
        help="Divide weights by their batch mean, or leave them (--policy_action weight).")
    add("--policy_constant", type=float, nargs=2, default=None, metavar=("POSITIVE", "NEGATIVE"),
        help="The action of --pair_weighting constant, such as 5 20.")
    add("--policy_reward", default=None, choices=["lookahead", "batch_ap"],
        help="AP after a virtual step under the sampled weights; or AP as it stands (as published; carries no signal).")
    add("--policy_mix", type=float, default=0.0, metavar="SHARE",
        help="Share of the batch's mean AP in the reward of an anchor, 0 to 1.")
    add("--policy_samples", type=positive_int, default=None, metavar="K", help="Actions sampled a batch.")
    add("--policy_step", type=float, default=0.2, help="RMS length of the rows of the virtual step (unit sphere).")
    add("--policy_baseline", default=None, choices=["leave_one_out", "none"],
        help="Subtract the mean reward of the other samples and divide by the spread, or nothing.")
    add("--policy_entropy_bonus", type=float, default=None, help="Weight of the entropy (nats); default .02 with one "
        "action a batch, .1 with one an anchor.")
    add("--policy_act", default=None, choices=["sample", "expected", "greedy"],
        help="The network trains with one sampled action, the expected weight, or the most likely action.")
    add("--policy_lr", type=float, default=None, help="Learning rate; default 1e-2 with one action a batch, 1e-3 with "
        "one an anchor.")


def add_memory_flags(parser: Parser) -> None:
    """The contextual memory and the second loss."""
    group = parser.add_argument_group("memory", "A conditional flow that recalls the context from the image alone.")
    add = group.add_argument
    add("--memory", default=None,
        help="'realnvp' (vector flow), 'glow' (published), 'none'; controls 'constant', 'mlp'.")
    add("--memory_decode", default=None, choices=["mode", "mean", "sample", "off"],
        help="Context at test time: the flow's mode, mean of samples, one sample (repeatable), or none.")
    add("--memory_couplings", type=positive_int, default=6, help="Coupling layers of realnvp.")
    add("--memory_hidden", type=positive_int, default=128, help="Hidden width of realnvp's couplings, and of mlp.")
    add("--memory_levels", type=positive_int, default=2, help="Levels of glow.")
    add("--memory_steps", type=positive_int, default=8, help="Steps of a level of glow.")
    add("--memory_channels", type=positive_int, default=128, help="Hidden channels of glow's couplings.")
    add("--memory_samples", type=positive_int, default=16, help="Draws of --memory_decode mean.")
    add("--memory_temperature", type=float, default=0.6, help="Standard deviation of drawn noise.")
    add("--memory_weight", type=float, default=1.0, help="Weight of the negative log-likelihood (nats per dimension).")
    add("--memory_dual", default="decoded", choices=["decoded", "embedding", "none"],
        help="Where the second loss stands: embedding plus decoded context, embedding alone, or nowhere.")


def add_training_flags(parser: Parser) -> None:
    """Optimizer and schedules."""
    group = parser.add_argument_group("training", "Optimisation.")
    add = group.add_argument
    add("--n_epochs", type=non_negative_int, default=None,
        help="Passes over the training images; 0 only evaluates the untrained network.")
    add("--optim", default="adam", choices=["adam", "adamw", "sgd", "rmsprop"],
        help="Optimizer; 'adamw': Adam whose decay stays out of its moments.")
    add("--momentum", type=below_one, default=0.9, help="Momentum of sgd and rmsprop.")
    add("--nesterov", action="store_true", help="Nesterov's momentum, for sgd.")
    add("--lr", type=non_negative, default=None, help="Learning rate of the backbone.")
    add("--fc_lr", type=float, default=-1.0, help="Learning rate of the new layers; negative: that of --lr.")
    add("--relation_lr", type=float, default=-1.0, help="Learning rate of the relation; negative: that of --fc_lr.")
    add("--memory_lr", type=float, default=-1.0, help="Learning rate of the memory; negative: that of --fc_lr.")
    add("--decay", type=non_negative, default=1e-4,
        help="Weight decay of backbone, new layers, relation and memory; criterion and policy have none.")
    add("--scheduler", default="step", choices=["step", "multistep", "cosine", "none"],
        help="'step', also called 'multistep': times --gamma at the epochs --tau; 'cosine': falls at every step, to "
             "--lr_min at the end.")
    add("--tau", type=positive_int, nargs="+", default=None, metavar="EPOCH", help="Epochs at which the rate falls.")
    add("--gamma", type=non_negative, default=None, help="Factor by which the rate falls.")
    add("--lr_min", type=below_one, default=0.0, metavar="SHARE",
        help="Where --scheduler cosine ends, as a share of the first rate.")
    add("--lr_warmup_epochs", type=non_negative, default=0.0, metavar="EPOCHS",
        help="Epochs in which every learning rate rises linearly from zero; fractions count.")
    add("--warmup_epochs", type=non_negative_int, default=None, metavar="EPOCHS",
        help="First epochs in which only new layers train; the backbone is left as it is, batch norm statistics too.")
    add("--frozen_bn_affine", action="store_true",
        help="Keep scale and shift of batch norm fixed too, where --arch has the suffix _frozen.")
    add("--grad_clip", type=non_negative, default=0.0, metavar="NORM",
        help="Largest norm of the gradient over all parameters together; a longer one is shortened to it. 0: any.")
    add("--ema", type=below_one, default=0.0, metavar="DECAY",
        help="Average the network's weights over the steps with this decay, and evaluate and save the average; .999 is "
             "usual. 0: the weights themselves.")


def add_speed_flags(parser: Parser) -> None:
    """Precision, memory and speed."""
    group = parser.add_argument_group("speed", "Precision, memory and speed.")
    add = group.add_argument
    add("--amp", default="none", choices=["none", "bf16", "fp16"],
        help="Precision of the backbone, in training and evaluation; what follows and the losses stay in float32. "
             "'fp16' scales the loss.")
    add("--accumulate", type=non_negative_int, default=0, metavar="IMAGES",
        help="Images that the backbone sees at once, for batches that do not fit in memory; the loss still compares "
             "the whole batch, with the same gradient, for one more forward pass. 0: all at once.")
    add("--tf32", action=argparse.BooleanOptionalAction, default=True,
        help="Let the backbone compute its float32 in TF32 (10 bits of a mantissa) on GPUs that can, Ampere and later; "
             "relation, policy, memory and losses stay in full float32.")
    add("--channels_last", action=argparse.BooleanOptionalAction, default=True,
        help="Keep the channel as the fastest axis of images and convolutions, which are a fifth to a third faster so.")
    add("--compile", action="store_true",
        help="Compile the backbone for training: the first steps take longer, by seconds to minutes, all others less. "
             "Needs a C++ compiler, or Triton on a GPU; evaluation does not use it.")
    add("--deterministic", action="store_true",
        help="On a GPU give the same numbers for the same input at every run, where torch can, instead of choosing the "
             "fastest kernels by measurement. A CPU does so in any case.")
    add("--log_every", type=positive_int, default=10, metavar="STEPS",
        help="Steps between rows of steps.csv, which is also when the host reads from the device.")


def add_evaluation_flags(parser: Parser) -> None:
    """What is measured, how, and what is drawn of it."""
    group = parser.add_argument_group("evaluation", "Retrieval of classes that were never trained on.")
    add = group.add_argument
    add("--evaluation_metrics", nargs="+", default=["e_recall@1", "e_recall@2", "e_recall@4", "e_recall@8", "nmi",
        "mAP_r", "mAP"], metavar="METRIC", help="Any of those that docs/metrics.md defines.")
    add("--storage_metrics", nargs="+", default=["e_recall@1"], metavar="METRIC",
        help="Metrics whose best checkpoint is kept as best_METRIC.pt.")
    add_search_flags(group)
    add("--eval_every", type=positive_int, default=None, metavar="EPOCHS",
        help="Epochs between evaluations (the untrained and the final network are always evaluated).")
    add("--eval_per_class", action="store_true",
        help="Write per_class.csv after training: the retrieval metrics of every test class, worst first.")
    add("--figures", action=argparse.BooleanOptionalAction, default=True,
        help="Draw the run's pictures and write its pages and confusions.csv after training, in 3 s or more; "
             "--no-figures leaves numbers and checkpoints, for many short runs.")
    add("--map_images", type=non_negative_int, default=2000, metavar="IMAGES",
        help="Test images in embedding.png, the 2-D map drawn after training; 0: no map. Time grows with it (some 10 s "
             "for 3000).")
    add("--map_thumbnails", action="store_true", help="Show images in the map where there is room.")
    add("--explorer_images", type=non_negative_int, default=5000, metavar="IMAGES",
        help="Test images that explorer.html, the page of thumbnails with their nearest neighbours written after "
             "training, lets you open; 0: no page. 5000 photographs make some 15 MB, 5000 of 60000 some 40.")


def add_search_flags(group) -> None:
    """How metrics are computed; evaluation.score takes the same flags."""
    add = group.add_argument
    add("--evaluate_on_gpu", action="store_true", help="Search and cluster with faiss on the GPUs, all that it sees.")
    add("--search_backend", default="auto", choices=["auto", "faiss", "torch"],
        help="Library of the exact neighbour search; 'auto': faiss where it is installed and rows lie on the CPU. "
             "Metrics of classes with few images count ranks instead.")
    add("--search_precision", default="float32", choices=["float32", "half"],
        help="'half' proposes neighbours in half precision (torch only) and scores them again exactly; the numbers are "
             "the same.")
    add("--eval_block", type=positive_int, default=1024, metavar="QUERIES",
        help="Queries searched at once; memory grows with it.")
    add("--eval_bootstrap", type=non_negative_int, default=0, metavar="DRAWS",
        help="Draws of test classes from which each metric gets a 95 %% interval; 1000 is usual, 0: no intervals.")


def search_arguments(opt: argparse.Namespace) -> dict:
    """The flags of `add_search_flags`, as arguments of evaluation.evaluate."""
    return {"backend": opt.search_backend, "block": opt.eval_block, "gpu": opt.evaluate_on_gpu,
            "precision": opt.search_precision}


def build_parser() -> Parser:
    """The parser with every flag and its own default."""
    parser = Parser(prog="python main.py", usage="python main.py [flags]", allow_abbrev=False, refused=REFUSED,
                    formatter_class=Formatter,
                    description="Train LM-Metric (learned pair weighting and contextual memory) or its base losses on "
                                "images, and evaluate retrieval on unseen classes. Without flags the full method "
                                "trains on the embedded data set. Defaults shown are those of the given --recipe, "
                                "--dataset and --arch.")
    for add_flags in (add_run_flags, add_record_flags, add_data_flags, add_image_flags, add_batch_flags,
                      add_network_flags, add_loss_flags, add_relation_flags, add_policy_flags, add_memory_flags,
                      add_training_flags, add_speed_flags, add_evaluation_flags):
        add_flags(parser)
    return parser


def get_options(argv: list[str], trained: dict | None = None) -> argparse.Namespace:
    """Parse the command line; exits with code 2 and one sentence where it cannot work. `trained`: the options of the
    checkpoint that is evaluated, which are then the defaults."""
    parser = build_parser()
    explicit = explicit_flags(argv)
    chosen = repeated(explicit)
    parser.set_defaults(**layered_defaults(chosen | explicit) | chosen | inherited(explicit, trained or {}))
    opt = parser.parse_args(argv)
    for problem in problems(opt, explicit):
        parser.error(problem)
    return opt


def inherited(explicit: dict, trained: dict) -> dict:
    """The defaults that a checkpoint's options give: all but those of the machine, and, where another data set is
    asked for, those of the data."""
    left_out = MACHINE
    if explicit.get("dataset", trained.get("dataset")) != trained.get("dataset"):
        of_data = (flag for flag in trained if flag.startswith(("glyphs_", "data_")))
        left_out = {*MACHINE, "dataset", "source_path", *of_data}
    known = {action.dest for action in build_parser()._actions} - left_out
    return {flag: value for flag, value in trained.items() if flag in known}


def repeated(explicit: dict) -> dict:
    """The flags that were chosen for the run of --repeat; what follows from them follows anew, so that a flag of the
    command line has the same consequences as it would have had then."""
    if "repeat" not in explicit:
        return {}
    chosen = chosen_flags(recorded_flags(explicit["repeat"]))
    return {flag: value for flag, value in chosen.items() if flag not in NOT_REPEATED}


def chosen_flags(flags: dict) -> dict:
    """Those of a run's flags that differ from the defaults that hold for such a run."""
    arch = layered_defaults({name: flags[name] for name in ("dataset",) if name in flags})["arch"]
    defaults = {action.dest: action.default for action in build_parser()._actions} | layered_defaults(flags)
    return {flag: value for flag, value in flags.items()
            if flag in defaults and _plain(value) != _plain((defaults | {"arch": arch})[flag])}


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def recorded_flags(path: str) -> dict:
    """The flags in a run's options.json, each checked as if it had been typed; a UsageError for a file without them."""
    known = {action.dest: action for action in build_parser()._actions if action.dest != "help"}
    flags = {flag: value for flag, value in read_options(path)["flags"].items() if value is not None}
    if unknown := sorted(set(flags) - set(known)):
        shown = ", ".join(ascii(flag)[1:-1][:40] for flag in unknown[:5])
        raise UsageError(f"--repeat {path} has flags that this version does not know: {shown}. Remove them from the "
                         "file, or use the commit that it names.")
    for flag, value in flags.items():
        if not _acceptable(known[flag], value):
            raise UsageError(f"--repeat {path}: --{flag} cannot be {ascii(value)[:60]}; correct it in the file.")
    return flags


def read_options(path: str) -> dict:
    """The content of a run's options.json; a UsageError where it is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; give the options.json of a run.") from None
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("flags"), dict):
        raise UsageError(f"{path} is not the options.json of a run.")
    return content


def _acceptable(action: argparse.Action, value) -> bool:
    """Whether the command line could have given this value."""
    if action.nargs == 0:
        return isinstance(value, bool)
    if action.nargs is None:
        return _readable(action, value)
    if not isinstance(value, list) or not all(_readable(action, part) for part in value):
        return False
    return len(value) == action.nargs or (action.nargs == "+" and (len(value) > 0 or action.default == ()))


def _readable(action: argparse.Action, value) -> bool:
    """Whether a single value is one of the flag's type and choices."""
    try:
        same = (action.type or str)(str(value)) == value
    except (ValueError, argparse.ArgumentTypeError):
        return False
    return same and (action.choices is None or value in action.choices)


def explicit_flags(argv: list[str]) -> dict:
    """The flags that the command line names, with their values."""
    parser = build_parser()
    parser.add_help = False
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    wanted = [word for word in argv if word not in ("-h", "--help")]
    return vars(parser.parse_args(wanted))


def layered_defaults(explicit: dict) -> dict:
    """The defaults that hold for the data set, network and recipe of this command line."""
    dataset, recipe = explicit.get("dataset", "glyphs"), explicit.get("recipe", "default")
    arch = explicit.get("arch", "convnet_normalize" if dataset == "glyphs" else "resnet50_frozen_normalize")
    small = arch.startswith("convnet")
    defaults = {"arch": arch} | (SMALL if small else LARGE) | RECIPES[recipe]
    if small and recipe == "default":
        defaults["relation_hidden"] = 64
    if explicit.get("relation", "gru") == "none":
        defaults |= {"memory": "none", "policy_input": "statistics"}
    if explicit.get("loss", defaults["loss"]) != defaults["loss"]:
        inner = loss_names(explicit)[-1]
        defaults |= {"batch_mining": "none", "pair_weight_on": "term"} | BY_LOSS.get(inner, {})
    batch = explicit.get("policy_granularity", defaults["policy_granularity"]) == "batch"
    if dataset == "glyphs":
        defaults["source_path"] = ".cache"
    return {"policy_lr": 1e-2 if batch else 1e-3, "policy_entropy_bonus": 0.02 if batch else 0.1} | defaults


def problems(opt: argparse.Namespace, explicit: dict) -> list[str]:
    """One sentence for everything in the options that cannot work."""
    unused = (cannot_apply(flag, opt) for flag in explicit)
    found = [*filter(None, unused), *_problems_of_batches(opt), *_problems_of_method(opt), *_problems_of_images(opt)]
    if opt.gpu and (len(opt.gpu) > 1 or opt.device == "cpu"):
        found.append("--gpu takes the number of one GPU, and none with --device cpu")
    if (opt.search_precision, opt.search_backend) == ("half", "faiss"):
        found.append("--search_precision half is torch's: pass --search_backend torch or auto")
    if explicit.get("weights") and (explicit.get("not_pretrained") or opt.checkpoint):
        other = "--checkpoint" if opt.checkpoint else "--not_pretrained"
        found.append(f"--weights and {other} both say what the backbone starts from: pass one of them")
    if opt.evaluate_only and not opt.checkpoint:
        found.append("--evaluate_only needs --checkpoint FILE")
    if opt.nesterov and not opt.momentum:
        found.append("--nesterov looks ahead along the momentum: pass --momentum, such as 0.9")
    if opt.lr_warmup_epochs and opt.lr_warmup_epochs >= opt.n_epochs:
        found.append(f"--lr_warmup_epochs {opt.lr_warmup_epochs:g} leaves no epoch at the full rate: pass less than "
                     f"--n_epochs {opt.n_epochs}")
    if missing := [m for m in opt.storage_metrics if m not in opt.evaluation_metrics]:
        found.append(f"--storage_metrics {missing[0]} is not among --evaluation_metrics")
    return found


def _problems_of_batches(opt: argparse.Namespace) -> Iterator[str]:
    """Batches, their samplers and miners."""
    if opt.data_sampler != "random" and opt.bs % opt.samples_per_class:
        yield (f"--bs {opt.bs} is not a multiple of --samples_per_class {opt.samples_per_class}: choose, for example, "
               f"--bs {max(1, opt.bs // opt.samples_per_class) * opt.samples_per_class}")
    if opt.data_mb_mom >= 1:
        yield f"--data_mb_mom {opt.data_mb_mom:g} never forgets: pass less than 1"
    if opt.batch_mining == "parametric" and not opt.use_tv_split:
        yield "--batch_mining parametric learns from validation classes: pass --use_tv_split"
    if opt.batch_mining == "parametric" and opt.xbm_size:
        yield "--batch_mining parametric adapts to one batch and cannot serve a cross-batch memory: pass --xbm_size 0"


def _problems_of_method(opt: argparse.Namespace) -> Iterator[str]:
    """Relation, policy and memory."""
    if opt.relation == "none" and opt.memory != "none":
        yield "--memory has no context to learn with --relation none: pass --memory none"
    if opt.relation == "none" and opt.pair_weighting in ("learned", "shuffled") and opt.policy_input != "statistics":
        yield "--policy_input state needs a relation: pass --policy_input statistics"
    if opt.pair_weighting == "constant" and opt.policy_constant is None:
        yield "--pair_weighting constant needs --policy_constant POSITIVE NEGATIVE, such as 5 20"
    if (opt.relation, opt.pair_weighting) != ("none", "uniform") and not opt.arch.endswith(("_normalize",
                                                                                           "_normalize_frozen")):
        yield f"relation, pair weights and memory work on unit rows: pass --arch {opt.arch}_normalize"


def _problems_of_images(opt: argparse.Namespace) -> Iterator[str]:
    """Where images come from, and their size."""
    if opt.dataset != "glyphs" and not opt.source_path:
        yield f"--dataset {opt.dataset} needs --source_path FOLDER, where your images are"
    if opt.crop_size and not opt.image_size:
        yield ("--crop_size needs --image_size, the shorter side that the crop is cut from: pass both, such as "
               "--image_size 256 --crop_size 224")
    if opt.crop_size and opt.image_size and opt.crop_size > opt.image_size:
        yield f"--crop_size {opt.crop_size} cannot be cut from --image_size {opt.image_size}: pass at most that"
    if opt.crop_size and opt.augmentation == "big":
        yield ("--augmentation big chooses the crop itself, 256/224 of --image_size: pass no --crop_size, or "
               "--augmentation base")


def cannot_apply(flag: str, opt: argparse.Namespace) -> str | None:
    """Why a flag that was given has no effect with the others, or None."""
    for prefix, switch, names in (("loss_", "loss", loss_names(vars(opt))),
                                  ("miner_", "batch_mining", [opt.batch_mining])):
        if flag.startswith(prefix) and not any(belongs(flag, f"{prefix}{name}_") for name in names):
            return f"--{flag} has no effect with --{switch} {getattr(opt, switch)}"
    for prefix, (switch, off) in ONLY_WITH.items():
        if flag.startswith(prefix) and flag != switch and getattr(opt, switch) == off:
            return f"--{flag} has no effect with --{switch} {off}"
    if flag in ONLY_FOR:
        switch, values = ONLY_FOR[flag]
        if getattr(opt, switch) not in values:
            return f"--{flag} has no effect with --{switch} {getattr(opt, switch)}"
    if flag == "repeat" and opt.resume:
        return "--repeat starts a run and --resume continues one: pass one of them"
    for flags, idle, words in IDLE:
        if flag.startswith(flags) and idle(opt):
            return f"--{flag} has no effect {words.format(**vars(opt))}"
    return None


def kwargs_for(opt: argparse.Namespace, prefix: str) -> dict:
    """The flags that start with `prefix`, as keyword arguments without it."""
    return {name.removeprefix(prefix): value for name, value in vars(opt).items() if belongs(name, prefix)}


def belongs(flag: str, prefix: str) -> bool:
    """Whether a flag starts with `prefix`, and not with a longer name that begins alike (random, random_distance)."""
    names = [f"{kind}_{name}_" for kind, table in (("loss", LOSS_FLAGS), ("miner", MINER_FLAGS)) for name in table]
    longer = tuple(name for name in names if name.startswith(prefix) and name != prefix)
    return flag.startswith(prefix) and not flag.startswith(longer)


def loss_names(flags: dict) -> list[str]:
    """The names that the flags of `--loss` go by: its own (`pml` for pml.X), then that of the loss it is added to."""
    if flags["loss"] == "adversarial_separation":
        return [flags["loss"], flags.get("loss_adversarial_separation_on", "multisimilarity")]
    return ["pml" if flags["loss"].startswith("pml.") else flags["loss"]]


def loss_arguments(opt: argparse.Namespace) -> dict:
    """The arguments of the criterion, with those of the one that it is added to as `on_arguments`."""
    own, *inner = (kwargs_for(opt, f"loss_{name}_") for name in loss_names(vars(opt)))
    return own | ({"on_arguments": inner[0]} if inner else {})
