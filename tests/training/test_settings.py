"""Settings under which nothing can be learned are refused before there are data or weights."""
import numpy as np
import pytest

import main
from criteria import CRITERIA
from criteria.base import PairCriterion
from criteria.proxies import ProxyCriterion
from parameters import get_options
from training.settings import note_lengths, note_warmup, refuse_settings
from utilities.errors import UsageError

PLAIN = ["--relation", "none", "--memory", "none", "--pair_weighting", "uniform"]
WITH_PROXIES = [name for name, cls in CRITERIA.items() if issubclass(cls, ProxyCriterion)] + ["softtriplet"]
PAIRS = [name for name, cls in CRITERIA.items() if issubclass(cls, PairCriterion)] + ["adversarial_separation"]


def settled(*argv):
    refuse_settings(get_options([*PLAIN, *argv]))


def test_every_loss_is_of_pairs_or_of_proxies():
    assert set(PAIRS) | set(WITH_PROXIES) == set(CRITERIA) and not set(PAIRS) & set(WITH_PROXIES)


@pytest.mark.parametrize("loss", PAIRS)
@pytest.mark.parametrize("batch", [["8", "1"], ["4", "4"]])
def test_a_loss_over_pairs_needs_two_images_of_two_classes(loss, batch):
    bs, images = batch
    with pytest.raises(UsageError, match=f"--bs {bs} and --samples_per_class {images} .*--loss {loss}"):
        settled("--loss", loss, "--bs", bs, "--samples_per_class", images)
    # Memory and proxies bring other pairs; nothing is learned in no epoch.
    for more in (["--proxies_weight", "1"], ["--n_epochs", "0"]):
        settled("--loss", loss, "--bs", bs, "--samples_per_class", images, *more)


@pytest.mark.parametrize("loss", WITH_PROXIES)
def test_a_loss_with_proxies_does_not(loss):
    settled("--loss", loss, "--bs", "4", "--samples_per_class", "1")
    settled("--loss", loss, "--bs", "4", "--samples_per_class", "4")


@pytest.mark.parametrize("width,words", [(20, None), (18, "its width is 18: pass a multiple of 4")])
def test_parts_without_a_projection_are_as_wide_as_the_rows(tmp_path, capsys, width, words):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(24, width)).astype(np.float32))
    lines = [f"{i},{'abcdef'[i // 4]}\n" for i in range(24)]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(lines))
    code = main.main(["--dataset", "embeddings", "--source_path", str(tmp_path / "x.npy"), "--embed_dim", "none",
                      "--relation", "attention", "--relation_hidden", "0", "--memory", "mlp", "--bs", "6",
                      "--samples_per_class", "2", "--n_epochs", "1", "--no-figures", "--device", "cpu",
                      "--save_path", str(tmp_path / "runs")])
    error = capsys.readouterr().err
    assert code == (2 if words else 0) and (words or "") in error, error


def test_a_cross_batch_memory_brings_pairs():
    settled("--loss", "supcon", "--bs", "4", "--samples_per_class", "1", "--xbm_size", "64")


def test_three_classes_for_quadruplets_and_three_images_for_triplets_of_one_class():
    settled("--loss", "quadruplet", "--bs", "6", "--samples_per_class", "2")
    with pytest.raises(UsageError, match="3 classes or more"):
        settled("--loss", "quadruplet", "--bs", "4", "--samples_per_class", "2")
    intra = ["--loss", "triplet", "--batch_mining", "intra_random"]
    settled(*intra, "--bs", "3", "--samples_per_class", "3")
    with pytest.raises(UsageError, match="3 images of a class"):
        settled(*intra, "--bs", "8", "--samples_per_class", "2")
    with pytest.raises(UsageError, match="3 classes or more"):
        settled("--loss", "quadruplet", "--batch_mining", "intra_random", "--bs", "6", "--samples_per_class", "3")
    with pytest.raises(UsageError, match="2 classes or more, and the policy"):
        refuse_settings(get_options([*intra, "--bs", "8", "--samples_per_class", "8"]))


def test_where_weights_would_enter_says_nothing_of_a_loss_without_them():
    settled("--recipe", "paper", "--arch", "convnet_normalize", "--xbm_size", "100")


def test_random_batches_need_only_be_large_enough():
    settled("--loss", "supcon", "--data_sampler", "random", "--bs", "3")
    with pytest.raises(UsageError, match="--bs 2: "):
        settled("--loss", "supcon", "--data_sampler", "random", "--bs", "2")


def test_a_policy_needs_pairs_whatever_the_loss():
    learned = ["--loss", "softmax", "--bs", "4", "--samples_per_class", "1"]
    with pytest.raises(UsageError, match="average precision within a batch"):
        refuse_settings(get_options(learned))


@pytest.mark.parametrize("argv,words", [
    (["--loss", "pml.Nothing"], "no loss of this name"),
    (["--loss", "no_such_module.Loss"], "there is no module no_such_module"),
    (["--loss", "margin", "--batch_mining", "no_such_module.Miner"], "there is no module"),
    (["--loss", "margin", "--batch_mining", "none"], "needs triplets"),
    (["--loss", "supcon", "--batch_mining", "distance"], "compares the whole batch"),
    (["--arch", "torchvision.resnet51"], "Did you mean"),
    (["--relation", "attention", "--relation_hidden", "66"], "multiple of 4 as --relation_hidden"),
    (["--loss", "recallatk", "--loss_recallatk_ks", "0"], "at least 1"),
    (["--seed", str(2**64)], "64 bits"),
    (["--checkpoint_minutes", "nan"], "at least 0"),
    (["--policy_mix", "2"], "from 0 to 1"),
    (["--policy_step", "nan"], "above 0"),
    (["--bs", "60000", "--image_size", "8000"], "TiB"),
    (["--memory", "glow", "--memory_channels", "16384", "--memory_steps", "1000"], "TiB"),
])
def test_it_is_said_before_images_are_read(tmp_path, capsys, argv, words):
    data = ["--dataset", "image_folder", "--source_path", str(tmp_path / "no images"), "--save_path", str(tmp_path)]
    small = ["--embed_dim", "16", "--device", "cpu"]
    try:
        code = main.main([*data, *small, *argv])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and words in error and "no images" not in error


@pytest.mark.parametrize("typed,more,arch", [
    ("timm.resnet18", [], "timm.resnet18_normalize"),
    ("convnet", [], "convnet_normalize"),
    ("resnet50_frozen", [], "resnet50_frozen_normalize"),
    ("resnet50_normalize_frozen", [], "resnet50_normalize_frozen"),
    ("timm.resnet18", PLAIN, "timm.resnet18"),
    ("timm.resnet18", [*PLAIN, "--loss", "npair"], "timm.resnet18"),
])
def test_unit_rows_are_implied_where_the_method_needs_them(typed, more, arch):
    assert get_options(["--arch", typed, *more]).arch == arch


@pytest.mark.parametrize("loss", ["npair", "lifted", "angular"])
def test_a_loss_of_row_lengths_is_not_told_to_normalise(loss, capsys):
    with pytest.raises(SystemExit):
        get_options(["--arch", "timm.resnet18", "--loss", loss])
    error = capsys.readouterr().err
    assert "--pair_weighting uniform" in error and "_normalize" not in error


def test_an_unknown_architecture_is_answered_with_a_known_one(capsys):
    assert main.main(["--arch", "resnet51"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean resnet50" in error and "resnet51_normalize" not in error


@pytest.mark.parametrize(("argv", "words"), [
    (["--loss", "supcon", "--arch", "resnet18"], "resnet18_normalize gives the unit rows"),
    (["--loss", "supcon", "--arch", "resnet18_normalize"], None),
    (["--loss", "npair", "--arch", "resnet18"], None),
    (["--loss", "proxynca", "--arch", "resnet18"], None),
    (["--loss", "npair", "--arch", "resnet18_normalize"], "which is constant on the unit rows"),
    (["--loss", "angular", "--arch", "resnet18_normalize_frozen"], "which is constant on the unit rows"),
    (["--loss", "angular", "--loss_angular_angular_only", "--arch", "resnet18_normalize"], None),
    (["--loss", "npair", "--loss_npair_l2", "0", "--arch", "resnet18_normalize"], None),
])
def test_a_loss_says_where_rows_have_not_the_length_that_it_is_published_for(argv, words, capsys):
    note_lengths(get_options([*PLAIN, *argv]))
    said = capsys.readouterr().out
    assert words in said if words else not said


@pytest.mark.parametrize(("argv", "said"), [
    (["--arch", "resnet18", "--n_epochs", "5"], True),
    (["--arch", "resnet18", "--n_epochs", "6"], False),
    (["--arch", "resnet18", "--n_epochs", "0"], False),
    (["--n_epochs", "2", "--warmup_epochs", "2"], True),
    (["--n_epochs", "2"], False),
    (["--arch", "resnet18", "--n_epochs", "3", "--freeze"], False),
])
def test_a_run_says_where_its_backbone_never_trains(argv, said, capsys):
    note_warmup(get_options([*PLAIN, *argv]))
    assert ("trains the backbone" in capsys.readouterr().out) == said
