"""The defaults of an experiment: the file to edit for a new one.

From first to last, each layer overrides those before it: the flag's own default (parameters.py),
BY_GRANULARITY, SMALL or LARGE, RECIPES, WITHOUT_RELATION, WITHOUT_PROJECTION, BY_LOSS, FACTORS, the
flags of the command line.
"""
import re

from utilities.choices import loss_names
from utilities.cores import usable_cores
from utilities.ranges import NO_PROJECTION

# One action of the policy for the whole batch, or one for every anchor.
BY_GRANULARITY = {
    "batch": {"policy_lr": 1e-2, "policy_entropy_bonus": 0.02},
    "anchor": {"policy_lr": 1e-3, "policy_entropy_bonus": 0.1},
}
# By --dataset, where it is not ResNet-50.
BACKBONES = {"embeddings": "features_normalize", "glyphs": "convnet_normalize"}
# convnet on small images.
SMALL = {
    "embed_dim": 128,
    "cache": "ram",
    "augmentation": "shift",
    "kernels": 0,
    "bs": 112,
    "n_epochs": 32,
    "eval_every": 8,
    "lr": 4e-3,
    "tau": [26, 30],
    "gamma": 0.3,
    "warmup_epochs": 0,
    "xbm_start": 100,
    "loss_smoothap_tau": 0.08,
}
# A large pretrained backbone.
LARGE = {
    "embed_dim": 512,
    "cache": "none",
    "augmentation": "base",
    "kernels": 8,
    "bs": 180,
    "n_epochs": 100,
    "eval_every": 1,
    "lr": 1e-4,
    "tau": [20, 40, 60, 80],
    "gamma": 0.5,
    "warmup_epochs": 5,
    "xbm_start": 1000,
    "policy_init": "unweighted",
}
# Farther than any two points of the unit sphere.
NO_CUTOFF = 4.0
# Rows in the place of images: a head trains from the first step.
ROWS = {
    "augmentation": "none",
    "kernels": 0,
    "warmup_epochs": 0,
    "pooling": None,
    "image_size": None,
    "crop_size": None,
}
# A head on features that stay as they are.
HEAD = {"projection_init": "pca"}
RECIPES = {
    "default": {
        "loss": "smoothap",
        "batch_mining": "none",
        "pair_weight_on": "term",
        "relation_order": "permuted",
        "relation_share_projection": False,
        "policy_action": "sharpness",
        "policy_granularity": "batch",
        "policy_input": "both",
        "policy_reward": "lookahead",
        "policy_samples": 8,
        "policy_baseline": "leave_one_out",
        "policy_scale": "mean",
        "policy_act": "expected",
        "memory": "realnvp",
        "memory_decode": "mode",
    },
    # What the published code runs.
    "paper": {
        "loss": "smoothap",
        "loss_smoothap_tau": 0.01,
        "loss_margin_beta_constant": True,
        "batch_mining": "none",
        "pair_weight_on": "rank",
        "relation_order": "batch",
        "relation_share_projection": True,
        "relation_hidden": 0,
        "policy_action": "weight",
        "policy_granularity": "anchor",
        "policy_input": "state",
        "policy_state": "raw",
        "policy_init": "default",
        "policy_reward": "batch_ap",
        "policy_samples": 1,
        "policy_baseline": "none",
        "policy_scale": "none",
        "policy_act": "sample",
        "policy_entropy_bonus": 0.0,
        "policy_lr": 1e-4,
        "memory": "glow",
        "memory_decode": "sample",
        "memory_nll": "sum",
        "memory_gradient": True,
        "memory_dual_loss": "own",
    },
}
# Of the recipe 'paper' with a large backbone, with one of ViT, and on Stanford Online Products.
PAPER_LARGE = {
    "image_size": 256,
    "n_epochs": 200,
    "tau": [*range(20, 200, 20)],
}
PAPER_VIT = {
    "embed_dim": 384,
    "image_size": None,
    "crop_size": None,
    "feature_norm": True,
    "relation_bidirectional": False,
    "policy_levels": 128,
    "policy_largest": 2.0,
    "memory_weight": 0.02,
}
PAPER_PRODUCTS = {
    "data_sampler": "hierarchical",
    "steps_per_epoch": 660,
}
# No factor leaves the loss as it is.
FACTORS = {"policy_init": "zero"}
# Where its weights enter in other losses.
PAPER_WEIGHT_ON = {
    "margin": "distance",
    "proxyanchor": "positive",
}
# A loss alone, as "Revisiting Training Strategies and Generalization Performance in Deep Metric
# Learning" (ICML 2020) trained it; relation, weights and memory, where given, are the default's.
RECIPES["revisiting"] = RECIPES["default"] | {
    "dataset": "cub200",
    "kernels": 6,
    "augmentation": "base",
    "cache": "none",
    "bs": 112,
    "samples_per_class": 2,
    "pooling": "avg",
    "embed_dim": 128,
    "loss": "margin",
    "batch_mining": "distance",
    "miner_distance_upper_cutoff": NO_CUTOFF,
    "miner_random_distance_upper_cutoff": NO_CUTOFF,
    "miner_rho_distance_upper_cutoff": NO_CUTOFF,
    "loss_softtriplet_lr": 1e-5,
    "relation": "none",
    "pair_weighting": "uniform",
    "n_epochs": 150,
    "lr": 1e-5,
    "decay": 4e-4,
    "scheduler": "none",
    "tau": [1000],
    "gamma": 0.3,
    "warmup_epochs": 0,
    "eval_every": 1,
    "evaluation_metrics": [
        "e_recall@1",
        "e_recall@2",
        "e_recall@4",
        "nmi",
        "f1",
        "mAP_1000",
        "mAP_lim",
        "mAP_c",
        "dists@intra",
        "dists@inter",
        "dists@intra_over_inter",
        "rho_spectrum@0",
        "rho_spectrum@-1",
        "rho_spectrum@1",
        "rho_spectrum@2",
        "rho_spectrum@10",
    ],
}
WITHOUT_RELATION = {"memory": "none", "policy_input": "statistics"}
# No new layer that could train alone, and nothing that is added to the feature.
WITHOUT_PROJECTION = {"memory": "none", "warmup_epochs": 0}
# A loss that is not the recipe's.
ANY_LOSS = {"batch_mining": "none", "pair_weight_on": "term"}
WEIGHTS_OF_IMAGES = {"policy_action": "weight", "policy_granularity": "anchor"}
BY_LOSS = {
    "angular": {"batch_mining": "npair"},
    "arcface": WEIGHTS_OF_IMAGES,
    "contrastive": {"batch_mining": "distance"},
    "cosface": WEIGHTS_OF_IMAGES,
    "margin": {"batch_mining": "distance"},
    "npair": {"batch_mining": "npair"},
    "pml": {"pair_weighting": "uniform"},
    "proxyanchor": WEIGHTS_OF_IMAGES,
    "proxynca": WEIGHTS_OF_IMAGES,
    "quadruplet": {"batch_mining": "distance"},
    "snr": {"batch_mining": "distance"},
    "softmax": WEIGHTS_OF_IMAGES,
    "softtriplet": WEIGHTS_OF_IMAGES,
    "triplet": {"batch_mining": "distance"},
}


def layered_defaults(flags: dict) -> dict:
    """The defaults that hold where these flags are given."""
    recipe = flags.get("recipe", "default")
    dataset = flags.get("dataset", RECIPES[recipe].get("dataset", "glyphs"))
    arch = flags.get("arch", BACKBONES.get(dataset, "resnet50_frozen_normalize"))
    small = arch.startswith("convnet")
    defaults = {"arch": arch} | (SMALL if small else LARGE) | RECIPES[recipe]
    if dataset == "glyphs":
        defaults["source_path"] = ".cache"
    if recipe == "default" and (dataset == "embeddings" or flags.get("freeze")):
        defaults |= HEAD
    if recipe == "paper":
        defaults |= paper_defaults(arch, dataset, flags)
    if flags.get("relation", defaults.get("relation")) == "none":
        defaults |= WITHOUT_RELATION
    if flags.get("embed_dim") == NO_PROJECTION:
        defaults |= WITHOUT_PROJECTION
    if recipe == "revisiting":
        defaults |= as_revisited(flags, arch)
    if dataset == "embeddings":
        defaults |= ROWS
    loss = flags.get("loss", defaults["loss"])
    if loss != defaults["loss"]:
        inner = loss_names(flags)[-1]
        defaults |= ANY_LOSS | BY_LOSS.get(inner, {})
        if recipe == "paper":
            defaults["pair_weight_on"] = PAPER_WEIGHT_ON.get(inner, "term")
    action = flags.get("policy_action", defaults["policy_action"])
    if action == "weight" and recipe != "paper":
        defaults |= FACTORS
    # more workers than cores only wait for each other
    defaults["kernels"] = min(defaults["kernels"], usable_cores())
    granularity = flags.get("policy_granularity", defaults["policy_granularity"])
    return BY_GRANULARITY[granularity] | defaults


def paper_defaults(arch: str, dataset: str, flags: dict) -> dict:
    """What the published recipe has with this backbone and data set."""
    defaults = {}
    if not arch.startswith("convnet"):
        # without a margin around the crop
        side = flags.get("image_size", PAPER_LARGE["image_size"])
        defaults |= PAPER_LARGE | {"crop_size": side}
    if arch.startswith("vit"):
        defaults |= PAPER_VIT
    if dataset in ("online_products", "sop"):
        defaults |= PAPER_PRODUCTS
    return defaults


def as_revisited(flags: dict, arch: str) -> dict:
    """What follows from the flags in the recipe 'revisiting' alone."""
    changed = {}
    if {"tau", "gamma"} & flags.keys() and "scheduler" not in flags:
        changed["scheduler"] = "step"
    # transformers have no map to pool
    if re.search("vit|deit|beit", arch):
        changed["pooling"] = None
    return changed
