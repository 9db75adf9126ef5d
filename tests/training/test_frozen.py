"""A frozen backbone: its features are those of the images, and only what is behind them trains."""
from argparse import Namespace

import numpy as np
import pytest
import torch

import main
from datasets import batches
from datasets.base import Draw
from datasets.images import ImageDataset
from datasets.transforms import train_transform
from parameters import get_options
from training import frozen
from training.building import build_loaders, prepared_network, read_splits
from utilities import checkpoint
from utilities.table import read_rows

CPU = torch.device("cpu")
PLAIN = ["--relation", "none", "--memory", "none", "--pair_weighting", "uniform"]

pytestmark = pytest.mark.slow


@pytest.fixture
def flags(folder, tmp_path):
    """The flags of a short run."""
    return ["--dataset", "image_folder", "--source_path", str(folder), "--save_path", str(tmp_path), "--device", "cpu",
            "--arch", "convnet_normalize", "--embed_dim", "16", "--image_size", "16", "--bs", "8", "--kernels", "0",
            "--n_epochs", "2", "--eval_every", "1", "--log_every", "1", "--no-figures", "--freeze", "--freeze_views",
            "3"]


@pytest.fixture
def disk(tmp_path):
    """Flags that keep features for later runs."""
    return ["--cache", "disk", "--cache_path", str(tmp_path / "cache")]


def built(argv):
    """Options, splits, network, loaders."""
    opt = get_options(argv)
    torch.manual_seed(opt.seed)
    splits = read_splits(opt)
    network = prepared_network(opt, CPU)
    return opt, splits, network, build_loaders(opt, splits, network, CPU)


@pytest.mark.parametrize("cached", [False, True])
def test_features_are_those_of_the_views(flags, disk, cached):
    _, splits, network, loaders = built([*flags, *(disk if cached else []), "--augmentation", "base"])
    views = loaders["train"].dataset.views
    network.eval()
    assert views.shape == (3, 24, network.feature_dim)
    transform = train_transform("base", 16, **network.preprocessing)
    images = ImageDataset(splits.train, transform, seed=frozen.SEED)
    for view in range(3):
        pixels = torch.stack([images[Draw(i, view, i)][0] for i in range(len(images))])
        with torch.no_grad():
            expected = network.pooled(transform.normalise(pixels))
        torch.testing.assert_close(torch.from_numpy(views[view].copy()), expected)
    assert not np.array_equal(views[0], views[1])


def test_images_without_augmentation_have_one_view(flags):
    plain = [flag for flag in flags if flag not in ("--freeze_views", "3")]
    _, _, _, loaders = built([*plain, "--augmentation", "none"])
    assert len(loaders["train"].dataset.views) == 1


def test_evaluation_sees_what_it_sees_without_stored_features(flags):
    _, _, network, loaders = built(flags)
    _, _, _, images = built([flag for flag in flags if flag not in ("--freeze", "--freeze_views", "3")])
    network.eval()
    rows = torch.cat([network.embed(batch.image) for batch in batches(loaders["test"], CPU)])
    expected = torch.cat([network.embed(batch.image) for batch in batches(images["test"], CPU)])
    assert torch.equal(rows, expected)


@pytest.mark.parametrize("more", [[], PLAIN, ["--use_tv_split"], ["--data_sampler", "greedy_coreset"]])
def test_only_the_new_layers_train(flags, tmp_path, more):
    assert main.main([*flags, *more, "--savename", "a"]) == 0
    assert main.main([*flags, *more, "--savename", "start", "--n_epochs", "0"]) == 0
    run = tmp_path / "image_folder"
    after = checkpoint.load(run / "a" / "last.pt")["network"]
    before = checkpoint.load(run / "start" / "last.pt")["network"]
    for name, tensor in after.items():
        fixed = name.startswith("backbone.")
        assert not fixed or torch.equal(tensor, before[name]), name
    assert not torch.equal(after["projection.weight"], before["projection.weight"])


def test_a_checkpoint_gives_the_metrics_of_the_run_from_images(flags, tmp_path, capsys):
    assert main.main([*flags, "--savename", "a", "--evaluation_metrics", "e_recall@1", "mAP_r"]) == 0
    trained = capsys.readouterr().out.split("| trained")[1].splitlines()[0]
    words = ["--evaluate_only", "--checkpoint", str(tmp_path / "image_folder" / "a" / "last.pt"), "--device", "cpu"]
    assert main.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1].split("|")[2:] == trained.split("|")[1:]


@pytest.mark.parametrize("cached", [False, True])
def test_a_run_continues_bit_for_bit(flags, tmp_path, disk, cached):
    flags = [*flags, *(disk if cached else [])]
    assert main.main([*flags, "--savename", "whole"]) == 0
    assert main.main([*flags, "--savename", "parts", "--n_epochs", "1"]) == 0
    parts = tmp_path / "image_folder" / "parts"
    assert main.main(["--resume", str(parts), "--n_epochs", "2"]) == 0
    whole = tmp_path / "image_folder" / "whole"
    assert read_rows(parts / "metrics.csv") == read_rows(whole / "metrics.csv")
    for name, tensor in checkpoint.load(whole / "last.pt")["network"].items():
        assert torch.equal(tensor, checkpoint.load(parts / "last.pt")["network"][name])


def test_features_on_disk_serve_later_runs_with_the_same_backbone(flags, disk, tmp_path, monkeypatch):
    """Another seed of the run draws from the same views; other weights have other features."""
    flags = [*flags, *disk]
    assert main.main([*flags, "--savename", "first"]) == 0
    start = str(tmp_path / "image_folder" / "first" / "last.pt")
    kept = set((tmp_path / "cache").glob("*.npy"))
    assert len(kept) == 2

    def computed(*_, **__):
        raise AssertionError("features are there already")

    with monkeypatch.context() as patch:
        patch.setattr(frozen, "features_of", computed)
        assert main.main([*flags, "--savename", "second", "--checkpoint", start, "--seed", "7"]) == 0
    assert set((tmp_path / "cache").glob("*.npy")) == kept
    assert main.main([*flags, "--savename", "third", "--seed", "8"]) == 0
    assert len(set((tmp_path / "cache").glob("*.npy"))) == 4
    assert main.main([*flags, "--savename", "fourth", "--checkpoint", start, "--no-tf32"]) == 0
    assert len(set((tmp_path / "cache").glob("*.npy"))) == 6


@pytest.mark.parametrize("cached", [False, True])
def test_features_that_do_not_fit_are_refused(flags, disk, monkeypatch, capsys, cached):
    monkeypatch.setattr(frozen, "available_memory", lambda: 100)
    monkeypatch.setattr(frozen.shutil, "disk_usage", lambda _: Namespace(free=100))
    assert main.main([*flags, *(disk if cached else [])]) == 2
    assert "--freeze needs 0.0 GiB of" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(flags, capsys):
    assert main.main([*flags, "--cache", "disk", "--cache_path", "/proc/features"]) == 1
    assert "--cache_path /proc/features: the features" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--pooling", "gem"], ["--compile"], ["--warmup_epochs", "1"],
                                  ["--cache", "disk", "--cache_side", "32"]])
def test_flags_that_frozen_features_leave_nothing_to_do_are_refused(flags, capsys, more):
    with pytest.raises(SystemExit):
        main.main([*flags, *more])
    assert "--freeze" in capsys.readouterr().err


def test_views_need_a_frozen_backbone(flags, capsys):
    with pytest.raises(SystemExit):
        main.main([flag for flag in flags if flag != "--freeze"])
    assert "--freeze_views has no effect without --freeze" in capsys.readouterr().err
