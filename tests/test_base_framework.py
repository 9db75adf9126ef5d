"""The commands of the base framework: its sample runs parse and build, its names are known, and nothing trains on
another data set than the one that was meant."""
import csv
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import main
from parameters import build_parser, get_options
from training.building import build_method, build_miner
from utilities.base_framework import REFUSED

ROOT = Path(__file__).parent.parent
UNIT = "resnet50_frozen_normalize"
ANY = "resnet50_frozen"
# Of each sample run: loss, miner, backbone, and the data sets where it is run (all: three).
RUNS = [
    ("angular", "npair", ANY, "all"), ("arcface", None, UNIT, "all"), ("contrastive", "distance", UNIT, "all"),
    ("histogram", None, UNIT, "all"), ("lifted", "lifted", ANY, "all"), ("margin", "distance", UNIT, "all"),
    ("multisimilarity", None, UNIT, "all"), ("npair", "npair", ANY, "all"), ("proxynca", None, UNIT, "birds cars"),
    ("quadruplet", "distance", UNIT, "all"), ("snr", "distance", UNIT, "all"), ("softmax", "distance", UNIT, "all"),
    ("softtriplet", None, UNIT, "birds cars"), ("triplet", "distance", UNIT, "all"),
    ("triplet", "random", UNIT, "all"), ("triplet", "semihard", UNIT, "all"), ("triplet", "softhard", UNIT, "all"),
    ("contrastive", "rho_distance", UNIT, "all"), ("margin", "rho_distance", UNIT, "all"),
    ("snr", "rho_distance", UNIT, "all"), ("triplet", "rho_distance", UNIT, "all"),
]
# Data set, its flags, and what its runs set: bins of the histogram, rate of softmax, share of exchanged negatives.
SETS = {
    "birds": ([], 150, 65, None, {"margin": 0.35, "snr": 0.3, "contrastive": 0.4, "triplet": 0.4, "margin 0.6": 0.4}),
    "cars": (["--dataset", "cars196"], 150, 65, None, 0.35),
    "products": (["--dataset", "online_products"], 100, 11, 0.002, 0.15),
}


def sample_runs():
    """Every sample run once, without its seed: the words after main.py."""
    for name, (dataset, epochs, nbins, rate, shares) in SETS.items():
        for loss, miner, arch, where in RUNS:
            if where != "all" and name not in where:
                continue
            for beta in (None, 0.6) if loss == "margin" else (None,):
                words = ["--kernels", 6, *dataset, "--source", "images", "--n_epochs", epochs, "--log_online",
                         "--project", "Runs", "--group", f"{name}_{loss}", "--seed", 0, "--gpu", 0]
                words += ["--loss_margin_beta", beta] if beta else []
                words += ["--bs", 112, "--samples_per_class", 2, "--loss", loss]
                words += ["--batch_mining", miner] if miner else []
                words += ["--arch", arch]
                if loss == "histogram":
                    words += ["--loss_histogram_nbins", nbins]
                if loss == "softmax" and rate:
                    words += ["--loss_softmax_lr", rate]
                if miner == "rho_distance":
                    share = shares[f"{loss} {beta}" if beta else loss] if isinstance(shares, dict) else shares
                    words += ["--miner_rho_distance_cp", share]
                yield [str(word) for word in words]


# the first line of the file is one of them without a project
FIRST = shlex.split("--kernels 6 --source images --n_epochs 150 --seed 0 --gpu 1 --bs 112 --samples_per_class 2 "
                    "--loss npair --batch_mining npair --arch resnet50_frozen")
SAMPLES = [FIRST, *sample_runs()]


def test_there_are_as_many_samples_as_there():
    assert len(SAMPLES) == len(set(map(tuple, SAMPLES))) == 1 + 23 + 23 + 21


@pytest.mark.parametrize("argv", SAMPLES)
def test_a_sample_run_trains_the_loss_alone_on_its_data_set(argv):
    opt = get_options([*argv, "--recipe", "revisiting"])
    given = dict(zip(argv, argv[1:]))
    assert opt.dataset == given.get("--dataset", "cub200") and opt.source_path == "images"
    assert (opt.loss, opt.arch) == (given["--loss"], given["--arch"])
    assert opt.n_epochs == int(given["--n_epochs"]) and (opt.bs, opt.samples_per_class) == (112, 2)
    assert opt.miner_rho_distance_cp == float(given.get("--miner_rho_distance_cp", 0.2))
    assert opt.loss_margin_beta == float(given.get("--loss_margin_beta", 1.2))
    assert (opt.relation, opt.memory, opt.pair_weighting, opt.pooling) == ("none", "none", "uniform", "avg")
    method = build_method(opt, SimpleNamespace(feature_dim=8, embed_dim=opt.embed_dim), 4)
    miner = build_miner(opt)
    assert (method.relation, method.policy) == (None, None)
    assert bool(miner) == method.base.needs_triplets
    if miner:
        assert opt.batch_mining == given["--batch_mining"]


@pytest.mark.parametrize("argv", [SAMPLES[0], SAMPLES[3]])
def test_a_sample_run_without_its_recipe_or_data_set_asks_for_them(argv, tmp_path, capsys):
    (tmp_path / "cub200" / "images").mkdir(parents=True)
    argv = [str(tmp_path) if word == "images" else word for word in argv]
    with pytest.raises(SystemExit):
        get_options(argv)
    error = capsys.readouterr().err
    assert "holds cub200: pass --dataset cub200" in error and "--recipe revisiting" in error


# ---- defaults


# those of the base framework, from its parameters.py; the data set has no schedule until epoch 1000
DEFAULTS = {
    "dataset": "cub200", "use_tv_split": False, "tv_split_perc": 0.8, "augmentation": "base", "lr": 1e-5, "fc_lr": -1,
    "decay": 4e-4, "n_epochs": 150, "bs": 112, "seed": 1, "scheduler": "none", "gamma": 0.3,
    "tau": [1000], "optim": "adam", "loss": "margin", "batch_mining": "distance", "embed_dim": 128,
    "not_pretrained": False, "arch": UNIT, "evaluate_on_gpu": False, "storage_metrics": ["e_recall@1"],
    "loss_contrastive_pos_margin": 0, "loss_contrastive_neg_margin": 1, "loss_triplet_margin": 0.2,
    "loss_margin_margin": 0.2, "loss_margin_beta_lr": 5e-4, "loss_margin_beta": 1.2, "loss_margin_nu": 0,
    "loss_margin_beta_constant": False, "loss_proxynca_lr": 50 * 1e-5, "loss_npair_l2": 0.005,
    "loss_angular_alpha": 45, "loss_angular_npair_ang_weight": 2, "loss_angular_npair_l2": 0.005,
    "loss_multisimilarity_pos_weight": 2, "loss_multisimilarity_neg_weight": 40, "loss_multisimilarity_margin": 0.1,
    "loss_multisimilarity_thresh": 0.5, "loss_lifted_neg_margin": 1, "loss_lifted_l2": 0.005,
    "loss_quadruplet_margin_alpha_1": 0.2, "loss_quadruplet_margin_alpha_2": 0.2, "loss_softtriplet_n_centroids": 2,
    "loss_softtriplet_margin_delta": 0.01, "loss_softtriplet_gamma": 0.1, "loss_softtriplet_scale": 8,
    "loss_softtriplet_reg_weight": 0.2, "loss_softtriplet_lr": 1e-5, "loss_softmax_lr": 1e-5,
    "loss_softmax_temperature": 0.05, "loss_histogram_nbins": 65, "loss_snr_margin": 0.2, "loss_snr_reg_lambda": 0.005,
    "loss_arcface_lr": 5e-4, "loss_arcface_angular_margin": 0.5, "loss_arcface_feature_scale": 16,
    "miner_distance_lower_cutoff": 0.5, "miner_rho_distance_lower_cutoff": 0.5, "miner_rho_distance_cp": 0.2,
    "data_sampler": "class_random", "samples_per_class": 2, "data_batchmatch_bigbs": 512, "data_batchmatch_ncomps": 10,
    "data_storage_no_update": False, "data_d2_coreset_lambda": 1, "data_sampler_lowproj_dim": -1,
    "data_gc_softened": False, "data_mb_mom": -1, "data_mb_lr": 1, "log_online": False,
}


def test_the_defaults_are_those_of_the_base_framework():
    opt = vars(get_options(["--recipe", "revisiting", "--source_path", "images"]))
    assert {flag: opt[flag] for flag in DEFAULTS} == DEFAULTS
    assert len(opt["evaluation_metrics"]) == 16 and opt["evaluation_metrics"][-1] == "rho_spectrum@10"
    # no two points of the unit sphere are farther than 2
    assert all(opt[f"miner_{name}distance_upper_cutoff"] > 2 for name in ("", "rho_", "random_"))


def test_a_schedule_where_one_is_given_and_a_pooling_where_there_is_a_map():
    given = ["--recipe", "revisiting", "--source_path", "images"]
    assert get_options([*given, "--tau", "80", "120"]).scheduler == "step"
    assert get_options([*given, "--tau", "80", "--scheduler", "multistep"]).scheduler == "multistep"
    assert get_options([*given, "--arch", "vit_normalize"]).pooling is None


def test_parts_of_the_method_can_be_added():
    opt = get_options(["--recipe", "revisiting", "--source_path", "images", "--loss", "smoothap", "--relation", "gru",
                       "--memory", "realnvp", "--pair_weighting", "learned"])
    assert (opt.relation, opt.memory, opt.policy_action, opt.lr) == ("gru", "realnvp", "sharpness", 1e-5)


PAGE = (ROOT / "docs" / "from_revisiting.md").read_text()


def test_the_page_shows_the_defaults_of_both():
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in PAGE.splitlines()
            if line.startswith("| `--")]
    table = {row[0]: row[1:] for row in rows if len(row) == 4}
    recipes = (["--recipe", "revisiting", "--source_path", "x"], ["--dataset", "cub200", "--source_path", "x"])
    theirs, ours = (vars(get_options(argv)) for argv in recipes)
    assert len(table) >= 15
    for flag, (_, revisiting, default) in table.items():
        for shown, opt in ((revisiting, theirs), (default, ours)):
            value = opt[flag.removeprefix("--")]
            words = value if isinstance(value, list) else [value]
            assert [float(word) if isinstance(value, float) else word for word in shown.split()] == [
                word if isinstance(value, float) else str(word) for word in words], flag


@pytest.mark.parametrize("flag", [*REFUSED, "--no_train_metrics", "--data_gc_coreset_lim", "--data_sim_measure",
                                  "--evaltypes", "--source", "--loss_softtriplet_lambda"])
def test_the_page_has_every_flag_of_another_name(flag):
    assert f"`{flag}`" in PAGE


# ---- flags and names


@pytest.mark.parametrize("words", [
    ["--no_train_metrics"], ["--data_gc_coreset_lim", "1e-9"], ["--data_sim_measure", "euclidean"],
    ["--evaltypes", "discriminative"], ["--evaluate_on_gpu", "True"], ["--evaluate_on_gpu=True"],
])
def test_what_decides_nothing_is_taken_and_not_recorded(words):
    plain = vars(get_options([]))
    known = plain | {"evaluate_on_gpu": "evaluate_on_gpu" in words[0]}
    assert vars(get_options(words)) == known


@pytest.mark.parametrize("words,sentence", [
    (["--evaltypes", "Combined_a_b-1-1"], "choose from 'discriminative'"),
    (["--data_idx_full_prec"], "leave it out"),
    (["--loss_proxynca_lrmulti", "50"], "--loss_proxynca_lr, 5e-4"),
    (["--loss_softtriplet_lrmulti=1"], "--loss_softtriplet_lr, 1e-5"),
    (["--wandb_key", "abc"], "WANDB_API_KEY"),
    (["--use_tv_split", "False"], "--use_tv_split is a switch"),
    (["--use_tv_split=False"], "--use_tv_split is a switch"),
    (["--bs", "True"], "whole number"),
    (["True"], "True is not a flag"),
])
def test_what_cannot_be_is_answered_in_one_sentence(words, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        get_options(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and sentence in error and error.count("\n") == 1


def test_the_help_does_not_list_them():
    shown = build_parser().format_help()
    assert not [flag for flag in (*REFUSED, "--no_train_metrics", "--evaltypes") if flag in shown]


@pytest.mark.parametrize("flag,there,here", [
    ("data_sampler", "full_random", "random"), ("loss", "proxy_anchor", "proxyanchor"),
    ("arch", "vit_normalize", "vit_small_normalize"), ("arch", "vit_small_normalize", "vit_small_normalize"),
    ("arch", "timm.vit_tiny_patch16_224_normalize", "timm.vit_tiny_patch16_224_normalize"),
])
def test_names_of_there_are_those_of_here(flag, there, here):
    opt = get_options(["--dataset", "cub200", "--source_path", "x", f"--{flag}", there])
    assert vars(opt)[flag] == here
    if flag == "loss":
        assert opt.policy_action == "weight"


# ---- the data set that was meant


@pytest.mark.parametrize("folders,sentence", [
    (["cub200"], "holds cub200: pass --dataset cub200"),
    (["cars196", "Stanford_Online_Products"], "pass --dataset cars196 or online_products"),
    (["holiday"], "does not say what it holds: pass --dataset image_folder or cars196 or cub200"),
])
def test_a_folder_without_the_name_of_its_set_is_asked_about_and_left_as_it_is(folders, sentence, tmp_path, capsys):
    for folder in folders:
        (tmp_path / folder).mkdir()
    for more in ([], ["--resume", "auto"], ["--loss", "margin"]):
        with pytest.raises(SystemExit):
            main.main(["--source", str(tmp_path), *more])
        assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(folders)


def test_the_recipe_does_not_look_for_its_set_where_another_lies(tmp_path, capsys):
    (tmp_path / "cars196").mkdir()
    with pytest.raises(SystemExit):
        get_options(["--recipe", "revisiting", "--source", str(tmp_path)])
    assert "holds cars196" in capsys.readouterr().err
    (tmp_path / "cub200").mkdir()
    assert get_options(["--recipe", "revisiting", "--source", str(tmp_path)]).dataset == "cub200"
    assert get_options(["--recipe", "revisiting", "--source", str(tmp_path / "cub200")]).dataset == "cub200"


def test_the_built_in_set_where_it_is_meant(tmp_path):
    for more in (["--dataset", "glyphs"], ["--glyphs_classes", "9"], ["--resume", "runs/glyphs/a"]):
        assert get_options(["--source_path", str(tmp_path), *more]).dataset == "glyphs"


def test_a_run_of_the_recipe_repeats_with_its_flags(tmp_path):
    path = tmp_path / "options.json"
    for more in ([], ["--tau", "80"], ["--arch", "vit_normalize"], ["--loss", "softmax", "--batch_mining", "distance"]):
        opt = get_options(["--recipe", "revisiting", "--source", "images", *more])
        path.write_text(json.dumps({"flags": vars(opt)}))
        assert vars(get_options(["--repeat", str(path)])) == vars(opt) | {"repeat": str(path)}


# ---- whole runs


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """The layout of the base framework, with eight classes of six images."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for label in range(8):
        folder = root / "cub200" / "images" / f"{label + 1:03}.Bird"
        folder.mkdir(parents=True)
        for i in range(6):
            pixels = np.clip(random.normal(30 * label, 20, (18, 18, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.jpg")
    return root


@pytest.mark.parametrize("words,said", [
    (["--loss", "npair", "--batch_mining", "npair", "--arch", "convnet_frozen"],
     "Trained npair on cub200 (miner npair"),
    (["--loss", "softmax", "--batch_mining", "distance"], "Trained softmax on cub200 (miner none"),
    (["--loss_margin_beta", "0.6", "--batch_mining", "rho_distance", "--miner_rho_distance_cp", "0.4"],
     "Trained margin on cub200 (miner rho_distance"),
    (["--data_sampler", "full_random"], "sampler random, backbone convnet_normalize, relation none"),
])
def test_a_run_ends_with_what_it_trained(words, said, birds, tmp_path, capsys):
    argv = ["--arch", "convnet_normalize", *words, "--source", str(birds), "--n_epochs", "1", "--bs", "8",
            "--samples_per_class", "2", "--kernels", "0", "--image_size", "16", "--device", "cpu", "--no-figures",
            "--save_path", str(tmp_path), "--savename", "a", "--recipe", "revisiting", "--no_train_metrics"]
    assert main.main(argv) == 0
    assert said in capsys.readouterr().out.splitlines()[-1]
    made = tmp_path / "cub200" / "a"
    assert json.loads((made / "result.json").read_text())["steps"] == 3
    columns = next(csv.DictReader((made / "metrics.csv").read_text().splitlines()))
    assert {"f1", "mAP_1000", "mAP_lim", "rho_spectrum@-1", "dists@intra_over_inter"} <= set(columns)
