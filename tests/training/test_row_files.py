"""--dataset embeddings: a head on rows of a file trains as one on the images that the rows came from."""
import csv

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import main
from architectures import export
from evaluation.embed import command as embed
from tests.training.test_frozen import PLAIN, built
from utilities import checkpoint
from utilities.table import read_rows

METRICS = ["--evaluation_metrics", "e_recall@1", "mAP_r", "nmi"]
COMMON = ["--device", "cpu", "--embed_dim", "16", "--bs", "8", "--n_epochs", "2", "--eval_every", "1", "--log_every",
          "1", "--fc_lr", "0.01", "--no-figures", *METRICS]
FROZEN = ["--arch", "convnet_normalize", "--image_size", "16", "--kernels", "0", "--freeze", "--augmentation", "none",
          "--tau", "1", "--gamma", ".5", "--lr", "1e-4"]

pytestmark = pytest.mark.slow


@pytest.fixture
def start(folder, tmp_path):
    """Flags of a run with --freeze and their checkpoint without training."""
    flags = ["--dataset", "image_folder", "--source_path", str(folder), "--save_path", str(tmp_path), *COMMON, *PLAIN,
             *FROZEN, "--loss", "multisimilarity"]
    assert main.main([*flags, "--savename", "start", "--n_epochs", "0"]) == 0
    return flags, tmp_path / "image_folder" / "start" / "last.pt"


@pytest.fixture
def rows(start):
    """The file of its features, and the table with their paths."""
    flags, first = start
    _, splits, _, loaders = built([*flags, "--checkpoint", str(first)])
    place = first.parent.parent.parent / "rows"
    place.mkdir()
    np.save(place / "f.npy", np.concatenate([loaders[name].dataset.views[0] for name in ("train", "test")]))
    with open(place / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for images in (splits.train, splits.test):
            for path, label in zip(images.paths, images.labels):
                writer.writerow([path.relative_to(path.parent.parent).as_posix(), images.class_names[label]])
    return place / "f.npy"


def flags_of(rows, *more):
    """The flags of a head on these rows."""
    return ["--dataset", "embeddings", "--source_path", str(rows), "--save_path", str(rows.parent.parent), *COMMON,
            *more]


def trained(rows, name, *more):
    """The folder of such a run."""
    assert main.main([*flags_of(rows, *more), "--savename", name]) == 0
    return rows.parent.parent / "embeddings" / name


def test_a_head_trains_bit_for_bit_as_behind_the_frozen_backbone(start, rows, tmp_path):
    flags, first = start
    state = checkpoint.load(first)
    state["options"] |= {"arch": f"features.{state['network']['projection.weight'].shape[1]}_normalize",
                         "pooling": None}
    state["network"] = {name: value for name, value in state["network"].items() if name.startswith("projection.")}
    head = tmp_path / "head.pt"
    checkpoint.save(head, state)
    assert main.main([*flags, "--savename", "images", "--checkpoint", str(first)]) == 0
    found = trained(rows, "rows", *PLAIN, "--loss", "multisimilarity", "--tau", "1", "--gamma", ".5", "--arch",
                    "features_normalize", "--lr", "1e-4", "--checkpoint", str(head))
    expected = tmp_path / "image_folder" / "images"
    assert read_rows(found / "metrics.csv") == read_rows(expected / "metrics.csv")
    weights = checkpoint.load(found / "last.pt")["network"]
    behind = checkpoint.load(expected / "last.pt")["network"]
    assert set(weights) == {"projection.weight", "projection.bias"}
    for name, tensor in weights.items():
        assert torch.equal(tensor, behind[name])
        assert not torch.equal(tensor, state["network"][name])


@pytest.mark.parametrize("more", [[], PLAIN, ["--use_tv_split"], ["--data_sampler", "greedy_coreset"],
                                  ["--recipe", "revisiting", "--samples_per_class", "4"],
                                  ["--train_on_all", "--test_by_images", ".3"],
                                  ["--ema", ".9"], ["--accumulate", "4"]])
def test_a_run_continues_bit_for_bit(rows, more):
    whole = trained(rows, "whole", *more)
    parts = trained(rows, "parts", *more, "--n_epochs", "1")
    assert main.main(["--resume", str(parts), "--n_epochs", "2"]) == 0
    assert read_rows(parts / "metrics.csv") == read_rows(whole / "metrics.csv")
    for name, tensor in checkpoint.load(whole / "last.pt")["network"].items():
        assert torch.equal(tensor, checkpoint.load(parts / "last.pt")["network"][name])


def test_a_run_continues_without_the_checkpoint_that_it_began_with(rows):
    first = trained(rows, "first", *PLAIN, "--n_epochs", "0")
    second = trained(rows, "second", *PLAIN, "--n_epochs", "0", "--checkpoint", str(first / "last.pt"))
    (first / "last.pt").unlink()
    assert main.main(["--resume", str(second), "--n_epochs", "1"]) == 0


def test_other_rows_are_refused_where_a_run_continues(rows, capsys):
    run = trained(rows, "a", *PLAIN)
    values = np.load(rows)
    np.save(rows, values[::-1])
    assert main.main(["--resume", str(run), "--n_epochs", "3"]) == 2
    assert "its images are not those that the run has trained on" in capsys.readouterr().err
    np.save(rows, values)
    assert main.main(["--resume", str(run), "--n_epochs", "3"]) == 0


def test_a_checkpoint_gives_the_metrics_of_its_run_and_the_rows_behind_the_head(rows, tmp_path, capsys):
    run = trained(rows, "a", *PLAIN)
    line = capsys.readouterr().out.split("| trained")[1].splitlines()[0]
    in_training = line.replace(" ", "").split("|")[1:]
    last = str(run / "last.pt")
    assert main.main(["--evaluate_only", "--checkpoint", last, "--device", "cpu"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.replace(" ", "").split("|")[2:] == in_training
    out = tmp_path / "out"
    assert embed.main([last, str(rows), "--out", str(out), "--device", "cpu"]) == 0
    weights = checkpoint.load(last)["network"]
    values = torch.from_numpy(np.load(rows))
    expected = normalize(values @ weights["projection.weight"].T + weights["projection.bias"])
    # the rows of the file are in the order of the classes already
    torch.testing.assert_close(torch.from_numpy(np.load(out / "embeddings.npy")), expected)
    before = read_rows(rows.parent / "labels.csv")
    after = read_rows(out / "labels.csv")
    assert [row["path"] for row in after] == [row["path"] for row in before]
    assert [row["class"] for row in after] == [row["label"] for row in before]


def test_features_go_through_the_head_of_a_network_on_images(start, rows, tmp_path):
    _, first = start
    out = tmp_path / "out"
    assert embed.main([str(first), str(rows), "--out", str(out), "--device", "cpu"]) == 0
    images = tmp_path / "images"
    source = checkpoint.load(first)["options"]["source_path"]
    assert embed.main([str(first), source, "--out", str(images), "--device", "cpu"]) == 0
    found = torch.from_numpy(np.load(out / "embeddings.npy"))
    torch.testing.assert_close(found, torch.from_numpy(np.load(images / "embeddings.npy")))


def test_pictures_are_drawn_where_images_are_named(rows, folder, capsys):
    more = [*PLAIN, "--n_epochs", "0", "--figures"]
    bare = trained(rows, "bare", *more)
    assert "gallery, explorer and thumbnails are left out" in capsys.readouterr().out
    assert (bare / "report.html").is_file()
    assert not (bare / "gallery.png").exists() and not (bare / "explorer.html").exists()
    (rows.parent / "embeddings.json").write_text(f'{{"images": "{folder}"}}')
    shown = trained(rows, "shown", *more)
    assert (shown / "gallery.png").is_file() and (shown / "explorer.html").is_file()


def test_rows_of_another_width_are_refused(rows, tmp_path, capsys):
    last = str(trained(rows, "a", *PLAIN) / "last.pt")
    values = np.load(rows)
    np.save(rows, values[:, 1:])
    width = values.shape[1]
    words = f"the rows have {width - 1} numbers, and the network takes features of {width}"
    assert main.main(["--evaluate_only", "--checkpoint", last, "--device", "cpu"]) == 2
    assert words in capsys.readouterr().err
    assert main.main(["--resume", last, "--n_epochs", "3"]) == 2
    capsys.readouterr()
    assert main.main(flags_of(rows, *PLAIN, "--checkpoint", last)) == 2
    assert words in capsys.readouterr().err
    assert embed.main([last, str(rows), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert f"the rows have {width - 1} numbers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_head_takes_no_images_and_is_not_exported(rows, folder, tmp_path, capsys):
    last = str(trained(rows, "a", *PLAIN) / "last.pt")
    assert embed.main([last, str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert "takes features and no images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    for form in ("onnx", "safetensors"):
        assert export.main([last, "--format", form]) == 2
        assert "is a head on features and takes no images" in capsys.readouterr().err


@pytest.mark.parametrize("more", [
    ["--arch", "resnet50"], ["--freeze"], ["--image_size", "32"], ["--cache", "ram"], ["--augmentation", "base"],
    ["--pooling", "avg"], ["--feature_norm"], ["--not_pretrained"], ["--compile"], ["--warmup_epochs", "1"],
    ["--amp", "bf16"], ["--kernels", "2"], ["--input_channels", "BGR"], ["--embed_dim", "none"],
])
def test_flags_that_need_images_are_refused(rows, capsys, more):
    with pytest.raises(SystemExit):
        main.main(flags_of(rows, *more))
    error = capsys.readouterr().err
    assert "--dataset embeddings" in error and more[0] in error


def test_features_are_no_backbone_of_images(folder, capsys):
    with pytest.raises(SystemExit):
        main.main(["--dataset", "image_folder", "--source_path", str(folder), "--arch", "features_normalize"])
    assert "pass --dataset embeddings" in capsys.readouterr().err
