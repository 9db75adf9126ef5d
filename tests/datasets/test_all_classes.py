"""Training on all classes: which images train, which are held, and what a run says of it."""
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

import main
from architectures import export
from datasets import check, select, split_validation
from datasets.all_classes import with_all_classes
from datasets.base import Splits, image_list
from evaluation.embed import embed
from evaluation.tables.command import main as tabulate
from parameters import get_options
from training.building import build_loaders, prepared_network, read_splits
from utilities import checkpoint
from utilities.errors import UsageError
from utilities.table import read_rows

SIZES = {"a": 10, "b": 5, "c": 2, "d": 1, "e": 7}

pytestmark = pytest.mark.slow


def rows_of(names, root="images"):
    return [(Path(root, name, f"{i}.png"), name) for name in names for i in range(SIZES[name])]


def splits_of(root="images", super_of=None):
    """Train, validation, test and gallery."""
    gallery = image_list(rows_of("e", root), super_of)
    query = image_list([(Path(root, "e", "query.png"), "e")], super_of)
    train = image_list(rows_of("ab", root), super_of)
    return Splits(train, image_list(rows_of("c", root), super_of), query, gallery)


def test_every_image_of_every_split_trains():
    splits = with_all_classes(splits_of())
    assert splits.present().keys() == {"train"}
    assert splits.train.class_names == ["a", "b", "c", "e"]
    assert Counter(splits.train.labels) == {0: 10, 1: 5, 2: 2, 3: 8}
    assert len(set(splits.train.paths)) == 25
    assert check(splits, is_zero_shot=False) is splits


@pytest.mark.parametrize("share, held", [
    (0.2, {"a": 2, "b": 1, "c": 1, "d": 0, "e": 1}),
    (0.5, {"a": 5, "b": 2, "c": 1, "d": 0, "e": 4}),
    (0.99, {"a": 9, "b": 4, "c": 1, "d": 0, "e": 6}),
    (0.01, {"a": 1, "b": 1, "c": 1, "d": 0, "e": 1}),
])
def test_a_share_of_each_class_is_held(share, held):
    usual = Splits(image_list(rows_of("abc")), None, image_list(rows_of("de")))
    splits = with_all_classes(usual, share)
    counts = Counter(splits.test.class_names[label] for label in splits.test.labels)
    assert {name: counts[name] for name in SIZES} == held
    assert splits.gallery == splits.train
    assert splits.test.class_names == splits.train.class_names == list("abcde")
    assert not set(splits.test.paths) & set(splits.train.paths)
    assert set(splits.test.paths) | set(splits.train.paths) == {path for path, _ in rows_of("abcde")}
    assert all(path.parent.name == splits.test.class_names[label]
               for path, label in zip(splits.test.paths, splits.test.labels))


def test_held_images_stay_where_the_data_set_moves_or_grows():
    held = with_all_classes(Splits(image_list(rows_of("ab")), None, image_list(rows_of("ce"))), 0.2).test
    moved = with_all_classes(Splits(image_list(rows_of("ae", "/far")), None, image_list(rows_of("bcd", "/far"))), 0.2)
    assert [path.parts[-2:] for path in moved.test.paths] == [path.parts[-2:] for path in held.paths]
    # not simply the first ones
    assert {path.name for path in held.paths if path.parent.name == "a"} != {"0.png", "1.png"}


def test_super_classes_are_kept():
    super_of = dict.fromkeys("abc", "left") | dict.fromkeys("de", "right")
    splits = with_all_classes(splits_of(super_of=super_of), 0.3)
    for images in (splits.train, splits.test):
        assert [images.super_names[label] for label in images.super_labels] == ["left", "left", "left", "right"]


def test_without_a_second_image_nothing_can_be_held():
    single = Splits(image_list(rows_of("d")), None, image_list([(Path("x.png"), "x")]))
    with pytest.raises(UsageError, match="no class has a second image"):
        with_all_classes(single, 0.2)


def test_two_classes_are_enough_and_one_is_not(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(UsageError, match="at least 4 classes"):
        select("image_folder", tmp_path)
    assert str(select("image_folder", tmp_path, train_on_all=True)) == "train 4 images of 2 classes"
    for path in (tmp_path / "b").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="one class, a; .* two or more."):
        select("image_folder", tmp_path, train_on_all=True)


def test_validation_images_are_none_of_the_held_ones():
    splits = with_all_classes(splits_of(), 0.2)
    train, val = split_validation(splits.train, 0.6, by_samples=True)
    assert train.class_names == splits.test.class_names
    assert not set(val.paths) & {*splits.test.paths, *train.paths}


# ------------------------------------------------------------------------------------------- runs


@pytest.fixture
def flags(glyphs, tmp_path):
    return [*glyphs, "--glyphs_images_per_class", "6", "--save_path", str(tmp_path), "--relation", "none",
            "--pair_weighting", "uniform", "--explorer_images", "20", "--map_images", "20", "--savename", "run"]


def finished(flags, tmp_path, *more):
    assert main.main([*flags, "--train_on_all", *more]) == 0
    folder = tmp_path / "glyphs" / "run"
    return folder, json.loads((folder / "result.json").read_text())


def test_a_run_without_a_test(flags, tmp_path, capsys):
    folder, result = finished(flags, tmp_path)
    said = capsys.readouterr()
    assert "train 72 images of 12 classes. Writing" in said.out
    assert "Trained on all classes: no images are held for testing." in said.out
    assert "|" not in said.out
    assert not said.err.replace("There is no GPU; computing on the CPU.", "").strip()
    assert result["final"] == result["untrained"] == result["best"] == {}
    assert result["tested_on"] is None
    assert not list(folder.glob("best_*"))
    assert not (folder / "gallery.png").exists()
    assert all("e_recall@1" not in row for row in read_rows(folder / "metrics.csv"))
    page = (folder / "report.html").read_text()
    assert "no images are held for testing" in page
    assert "never trained on" not in page
    assert "not finished" not in page
    assert checkpoint.load(folder / "last.pt")["classes"].keys() == {"train"}
    assert export.classes(checkpoint.load(folder / "last.pt"))["never_seen"] is None


def test_a_run_without_a_test_goes_on_and_is_then_finished(flags, tmp_path, capsys):
    folder, _ = finished(flags, tmp_path)
    assert main.main(["--resume", str(folder)]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main.main(["--resume", str(folder), "--n_epochs", "2"]) == 0
    assert [row["epoch"] for row in read_rows(folder / "metrics.csv")] == ["0", "1", "2"]
    assert main.main([*flags, "--resume", str(folder), "--no-train_on_all"]) == 2
    assert "--train_on_all False (the run has True)" in capsys.readouterr().err


def test_held_images_are_searched_among_the_others(flags, tmp_path, capsys):
    folder, result = finished(flags, tmp_path, "--test_by_images", "0.34")
    said = capsys.readouterr().out
    assert "Tested on images of classes that were trained on" in said
    assert result["tested_on"] == "images of classes that were trained on"
    assert "held_out_advantage_over_uniform" not in result
    page = (folder / "report.html").read_text()
    assert "Percent, on images of classes that were trained on" in page
    assert "never trained on" not in page
    opt = get_options([*flags, "--train_on_all", "--test_by_images", "0.34", "--checkpoint", str(folder / "last.pt")])
    splits = read_splits(opt)
    assert (len(splits.train.paths), len(splits.test.paths)) == (48, 24)
    cpu = torch.device("cpu")
    network = prepared_network(opt, cpu)
    loaders = build_loaders(opt, splits, network, cpu)
    rows, labels = embed(network, loaders["test"], cpu)
    similarity = rows @ embed(network, loaders["gallery"], cpu)[0].T
    nearest = torch.tensor(splits.train.labels)[similarity.argmax(1)]
    assert result["final"]["e_recall@1"] == pytest.approx((nearest == labels).double().mean().item())
    assert (folder / "best_e_recall@1.pt").is_file()
    assert export.classes(checkpoint.load(folder / "last.pt"))["never_seen"] == []
    assert main.main(["--evaluate_only", "--checkpoint", str(folder / "last.pt"), "--device", "cpu", "--json",
                      str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text()) == result["final"]
    assert "note: 12 of 12 classes" in capsys.readouterr().out


def test_an_evaluation_of_a_model_of_all_classes(flags, tmp_path, capsys):
    folder, _ = finished(flags, tmp_path)
    words = ["--evaluate_only", "--checkpoint", str(folder / "last.pt"), "--device", "cpu"]
    with pytest.raises(SystemExit):
        main.main(words)
    assert "pass --no-train_on_all" in capsys.readouterr().err
    assert main.main([*words, "--no-train_on_all"]) == 0
    assert "note: 6 of 6 classes have the name of one that the network was trained on" in capsys.readouterr().out


def test_validation_images_choose_the_checkpoint(flags, tmp_path):
    more = ["--use_tv_split", "--tv_split_by_samples", "--tv_split_perc", "0.5"]
    folder, result = finished(flags, tmp_path, *more)
    assert result["best"]["e_recall@1"]["chosen_on"] == "val"
    assert (folder / "best_e_recall@1.pt").is_file()
    assert "Percent, on images for validation" in (folder / "report.html").read_text()


def test_a_run_is_repeated_on_all_classes(flags, tmp_path):
    assert main.main(flags) == 0
    first = tmp_path / "glyphs" / "run"
    again = ["--repeat", str(first / "options.json"), "--save_path", str(tmp_path), "--savename", "final"]
    source = flags[flags.index("--source_path") + 1]
    assert main.main([*again, "--source_path", source, "--train_on_all", "--device", "cpu"]) == 0
    classes = checkpoint.load(tmp_path / "glyphs" / "final" / "last.pt")["classes"]
    assert len(classes["train"]) == 12


@pytest.mark.parametrize("more, words", [
    (["--test_by_images", ".2"], "--test_by_images has no effect without --train_on_all"),
    (["--train_on_all", "--use_tv_split"], "pass --tv_split_by_samples too"),
    (["--train_on_all", "--test_by_images", "1"], "1 is not a number between 0 and 1"),
])
def test_what_cannot_be_is_refused(flags, capsys, more, words):
    with pytest.raises(SystemExit):
        main.main([*flags, *more])
    assert words in capsys.readouterr().err


def test_context_is_that_of_the_gallery(flags, tmp_path):
    _, result = finished(flags, tmp_path, "--test_by_images", "0.3", "--eval_context", "3", "--eval_per_class")
    assert "ctx_e_recall@1" in result["final"]


def test_a_table_says_what_was_measured(flags, tmp_path, capsys):
    finished(flags, tmp_path, "--test_by_images", "0.3")
    assert tabulate([str(tmp_path)]) == 0
    assert "Measured on images of classes that were trained on: run." in capsys.readouterr().out
    assert main.main([*flags, "--train_on_all", "--savename", "untested"]) == 0
    assert tabulate([str(tmp_path)]) == 2
    assert "untested: it was trained on all classes, without a test" in capsys.readouterr().err
