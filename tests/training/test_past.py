"""A run that is continued is compared with its past: images, flags, length; what changes is recorded."""
import json
import os
import shutil
from pathlib import Path

import pytest

import main
from datasets.base import Splits, image_list
from datasets.identity import image_record
from parameters import get_options
from tests.test_main import PLAIN, flags, folder  # noqa: F401  (a fixture)
from training import bookkeeping
from utilities import checkpoint
from utilities.errors import RunError


@pytest.fixture
def images(folder, tmp_path):  # noqa: F811
    """An own copy of the images, which a test may change."""
    return Path(shutil.copytree(folder, tmp_path / "images"))


def begin(images, tmp_path, *more):
    """A run of one epoch in the folder that is returned."""
    argv = [*flags(images, tmp_path, *PLAIN), "--no-figures", "--savename", "a", "--n_epochs", "1", *more]
    assert main.main(argv) == 0
    return tmp_path / "image_folder" / "a"


def resume(run, *more):
    return main.main(["--resume", str(run), *more])


def content(run):
    return {path.name: path.read_bytes() for path in run.iterdir()}


def options(run):
    return json.loads((run / "options.json").read_text())


def add_class(images):
    shutil.copytree(images / "class0", images / "aaa")


def remove_class(images):
    shutil.rmtree(images / "class7")


def rename_class(images):
    (images / "class1").rename(images / "class1b")


def add_image(images):
    shutil.copy(images / "class2" / "0.png", images / "class2" / "x.png")


def move_image(images):
    (images / "class2" / "0.png").rename(images / "class3" / "x.png")


def rename_image(images):
    (images / "class2" / "0.png").rename(images / "class2" / "zzz.png")


CHANGES = {
    add_class: ["class aaa is new, in train", "class class3 was in train and would now be in test"],
    remove_class: ["class class7 of test is gone"],
    rename_class: ["class class1 of train is gone", "class class1b is new, in train"],
    add_image: ["class class2 has 13 images in train instead of 12"],
    move_image: ["class class2 has 11 images in train instead of 12", "class class3 has 13 images"],
    rename_image: ["train has other images, or the same under other names"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_images_are_named_and_refused(images, tmp_path, capsys, change):
    run = begin(images, tmp_path)
    before = content(run)
    change(images)
    assert resume(run, "--n_epochs", "2") == 2
    error = capsys.readouterr().err
    for words in CHANGES[change]:
        assert words in error
    assert content(run) == before


def test_the_folder_of_the_images_may_move(images, tmp_path):
    run = begin(images, tmp_path)
    moved = images.rename(tmp_path / "moved")
    assert resume(run, "--n_epochs", "2", "--source_path", str(moved)) == 0
    assert options(run)["flags"]["source_path"] == str(moved)
    assert resume(run, "--n_epochs", "3") == 0


def test_a_record_of_images_is_that_of_names_labels_and_order(tmp_path):
    def record(root, train, test=(("c", "d/3.png"),)):
        halves = [image_list([(Path(root, name), label) for label, name in half]) for half in (train, test)]
        return image_record(Splits(halves[0], None, halves[1]))
    train = [("a", "a/1.png"), ("a", "a/2.png"), ("b", "b/1.png")]
    first = record("/data", train)
    assert first["train"]["counts"] == [2, 1] and first["test"]["counts"] == [1]
    assert record("/elsewhere/data", train[::-1]) == first
    assert record("relative", train) == first
    others = [
        [("a", "a/1.png"), ("a", "a/3.png"), ("b", "b/1.png")],
        [("a", "a/1.png"), ("b", "a/2.png"), ("b", "b/1.png")],
        train[:2],
    ]
    for other in others:
        assert record("/data", other)["train"]["digest"] != first["train"]["digest"]
        assert record("/data", other)["test"] == first["test"]


def test_a_finished_run_is_left_as_it_is(images, tmp_path, capsys):
    run = begin(images, tmp_path)
    before = content(run)
    again = ["--dataset", "image_folder", "--save_path", str(tmp_path), "--savename", "a", "--resume", "auto"]
    shutil.rmtree(images)
    for argv in (again, ["--resume", str(run)], ["--resume", str(run), "--n_epochs", "1", "--kernels", "1"]):
        assert main.main(argv) == 0
        assert "is finished, with 1 epoch;" in capsys.readouterr().out
    assert content(run) == before


def test_pictures_of_a_finished_run_are_drawn_on_request(images, tmp_path):
    run = begin(images, tmp_path)
    assert resume(run, "--figures", "--map_images", "0", "--explorer_images", "0") == 0
    assert (run / "report.html").exists()
    before = content(run)
    assert resume(run) == 0
    assert content(run) == before


def test_a_continuation_is_recorded_and_its_length_is_that_of_the_run(images, tmp_path, capsys):
    run = begin(images, tmp_path)
    assert "continuations" not in options(run)
    first = options(run)
    auto = ["--dataset", "image_folder", "--save_path", str(tmp_path), "--savename", "a", "--resume", "auto"]
    assert main.main([*auto, "--n_epochs", "3"]) == 0
    now = options(run)
    entry, = now["continuations"]
    assert (entry["step"], entry["epoch"]) == (3, 1)
    assert entry["changed"] == {"n_epochs": {"before": 1, "now": 3}}
    assert entry["versions"] == first["versions"] and entry["commit"] == first["commit"] and entry["date"][:2] == "20"
    assert now["flags"] == first["flags"] | {"n_epochs": 3}
    assert get_options(["--repeat", str(run / "options.json")]).n_epochs == 3
    steps = (run / "steps.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in steps[1:]] == [str(step) for step in range(1, 10)]
    assert resume(run, "--n_epochs", "4") == 0
    assert [entry["step"] for entry in options(run)["continuations"]] == [3, 9]


def test_a_longer_run_that_is_killed_before_its_next_checkpoint_stays_longer(images, tmp_path, monkeypatch):
    run = begin(images, tmp_path)

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(bookkeeping, "evaluate_run", die)
        resume(run, "--n_epochs", "2")
    assert checkpoint.load(run / "last.pt")["options"]["n_epochs"] == 1
    assert resume(run) == 0
    assert checkpoint.load(run / "last.pt")["progress"]["epoch"] == 2
    assert json.loads((run / "result.json").read_text())["steps"] == 6


def test_fewer_epochs_than_trained_are_refused(images, tmp_path, capsys):
    run = begin(images, tmp_path, "--n_epochs", "3", "--tau", "9")
    before = content(run)
    assert resume(run, "--n_epochs", "2") == 2
    assert "has trained 3 epochs; pass at least 3, or start a new run" in capsys.readouterr().err
    assert content(run) == before
    state = checkpoint.load(run / "last.pt")
    state["progress"]["sums"] = state["history"][-1]["loss"]                       # within the next epoch
    checkpoint.save(run / "last.pt", state)
    assert resume(run, "--n_epochs", "3") == 2
    assert "has trained 3 epochs and has begun another; pass at least 4" in capsys.readouterr().err


def test_an_end_where_nothing_was_evaluated_is_refused(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(main, "write_results", lambda run: None)
    run = begin(images, tmp_path, "--n_epochs", "2", "--eval_every", "2")
    state = checkpoint.load(run / "last.pt")
    state["history"] = state["history"][:2]
    state["progress"]["epoch"] = 1
    checkpoint.save(run / "last.pt", state)
    assert resume(run, "--n_epochs", "1") == 2
    assert "has trained 1 epoch; pass at least 2" in capsys.readouterr().err


def test_a_run_of_an_older_version_goes_on(images, tmp_path):
    """It knows its classes, but not its images, and options.json tells an older length."""
    run = begin(images, tmp_path, "--n_epochs", "2", "--tau", "9")
    state = checkpoint.load(run / "last.pt")
    del state["images"]
    checkpoint.save(run / "last.pt", state)
    record = options(run)
    record["flags"]["n_epochs"] = 1
    (run / "options.json").write_text(json.dumps(record))
    assert resume(run, "--n_epochs", "3") == 0
    assert options(run)["flags"]["n_epochs"] == 3
    del state["classes"]
    checkpoint.save(run / "last.pt", state)
    assert resume(run) == 0


def test_options_that_are_damaged_are_written_anew(images, tmp_path):
    run = begin(images, tmp_path)
    (run / "options.json").write_text('{"flags": 3')
    assert resume(run, "--n_epochs", "2") == 0
    assert options(run)["flags"]["n_epochs"] == 2 and len(options(run)["continuations"]) == 1


def test_a_run_without_a_checkpoint_is_begun_with_its_own_flags(images, tmp_path):
    run = begin(images, tmp_path, "--lr", "0.02")
    for name in os.listdir(run):
        if name != "options.json":
            (run / name).unlink()
    auto = ["--dataset", "image_folder", "--save_path", str(tmp_path), "--savename", "a", "--resume", "auto"]
    assert main.main([*auto, "--bs", "8"]) == 0
    now = options(run)["flags"]
    assert (now["lr"], now["bs"], now["source_path"]) == (0.02, 8, str(images))
    assert checkpoint.load(run / "last.pt")["options"]["bs"] == 8


def test_the_weights_that_a_run_started_from_are_needed_no_more(images, tmp_path):
    first = begin(images, tmp_path)
    weights = str(shutil.copy(first / "last.pt", tmp_path / "w.pt"))
    run = begin(images, tmp_path / "second", "--checkpoint", weights)
    os.remove(weights)
    assert resume(run, "--n_epochs", "2") == 0
    assert checkpoint.load(run / "last.pt")["options"]["checkpoint"] == weights
    assert resume(run, "--checkpoint", weights) == 0


def test_seconds_an_epoch_are_those_of_all_epochs(images, tmp_path):
    run = begin(images, tmp_path)
    assert resume(run, "--n_epochs", "3") == 0
    seconds = checkpoint.load(run / "last.pt")["progress"]["training_seconds"]
    result = json.loads((run / "result.json").read_text())
    assert result["seconds_per_epoch"] == pytest.approx(seconds / 3, abs=1e-3)


def test_a_run_that_is_refused_at_its_start_leaves_no_folder(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr("training.trackers.WeightsAndBiases.__init__", refuse_login)
    argv = [*flags(images, tmp_path, *PLAIN), "--no-figures", "--savename", "a", "--n_epochs", "1", "--log_online"]
    assert main.main(argv) == 1
    assert "log in" in capsys.readouterr().err
    assert os.listdir(tmp_path / "image_folder") == []
    run = begin(images, tmp_path)
    before = content(run)
    assert resume(run, "--n_epochs", "2", "--log_online") == 1
    assert content(run) == before


def refuse_login(self, place, *_, **__):
    (place / "wandb").mkdir(exist_ok=True)
    (place / "wandb").rmdir()
    raise RunError("--log_online: log in with wandb login.")
