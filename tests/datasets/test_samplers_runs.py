"""Every batch sampler trains by the command, and what it cannot use is refused."""
import json

import pytest
import torch

import main
from datasets.samplers import SAMPLERS
from datasets.samplers.storage import StorageSampler
from parameters import get_options
from utilities import checkpoint


def flags(out, *more):
    return [
        "--glyphs_classes",
        "24",
        "--glyphs_images_per_class",
        "12",
        "--source_path",
        str(out / "glyphs"),
        "--save_path",
        str(out),
        "--savename",
        "a",
        "--device",
        "cpu",
        "--bs",
        "16",
        "--embed_dim",
        "8",
        "--n_epochs",
        "2",
        "--no-figures",
        "--relation",
        "none",
        "--memory",
        "none",
        "--pair_weighting",
        "uniform",
        *more,
    ]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("samplers")


# main.py's tests train the two
@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - {"class_random", "random"}))
def test_every_sampler_trains(out, name, capsys):
    assert main.main(flags(out, "--data_sampler", name, "--savename", name)) == 0
    assert json.loads((out / "glyphs" / name / "result.json").read_text())["steps"] == 2 * (
        12 * 12 // 16
    )
    state = checkpoint.load(out / "glyphs" / name / "last.pt")["sampler"]
    assert (state["epoch"], state["position"]) == (2, 0)
    said = capsys.readouterr().out
    # one character to a script
    assert ("super-classes have fewer" in said) == (name == "hierarchical")
    if SAMPLERS[name].needs_storage:
        assert state["storage"].shape == (144, 8) and state["rows"] is None


@pytest.mark.parametrize("more", [[], ["--data_storage_no_update"]])
def test_training_moves_the_storage_unless_told_not_to(out, more, monkeypatch):
    filled = []
    fill = StorageSampler.fill
    monkeypatch.setattr(
        StorageSampler,
        "fill",
        lambda self, rows: fill(self, rows) or filled.append(self.storage.clone()),
    )
    name = f"moves{len(more)}"
    assert (
        main.main(
            flags(
                out,
                "--data_sampler",
                "greedy_coreset",
                "--savename",
                name,
                "--n_epochs",
                "1",
                *more,
            )
        )
        == 0
    )
    state = checkpoint.load(out / "glyphs" / name / "last.pt")["sampler"]
    assert len(filled) == 1 and torch.equal(state["storage"], filled[0]) == bool(more)


@pytest.mark.slow
def test_a_continued_run_has_its_storage_and_draws_on(out):
    sampler = ["--data_sampler", "d2_coreset", "--data_mb_mom", "0.5"]
    assert main.main(flags(out, *sampler, "--savename", "whole")) == 0
    assert main.main(flags(out, *sampler, "--savename", "part", "--n_epochs", "1")) == 0
    assert (
        main.main(
            flags(out, *sampler, "--savename", "part", "--resume", str(out / "glyphs" / "part"))
        )
        == 0
    )
    one, two = (checkpoint.load(out / "glyphs" / name / "last.pt") for name in ("whole", "part"))
    for name in ("storage", "drift"):
        assert torch.equal(one["sampler"][name], two["sampler"][name])
    assert all(torch.equal(value, two["network"][name]) for name, value in one["network"].items())


@pytest.mark.parametrize(
    "argv, said",
    [
        (
            ["--data_gc_softened"],
            "--data_gc_softened has no effect with --data_sampler class_random",
        ),
        (
            ["--data_sampler", "greedy_coreset", "--data_batchmatch_ncomps", "2"],
            "no effect with --data_sampler greedy",
        ),
        (
            ["--data_sampler", "fid_batchmatch", "--data_d2_coreset_lambda", "2"],
            "no effect with --data_sampler fid",
        ),
        (["--data_sampler", "d2_coreset", "--data_mb_lr", "2"], "no effect without --data_mb_mom"),
        (
            ["--data_sampler", "d2_coreset", "--data_mb_mom", ".5", "--data_storage_no_update"],
            "--data_storage_no_update",
        ),
        (["--data_sampler", "d2_coreset", "--data_mb_mom", "1"], "less than 1"),
        (["--data_sampler", "d2_coreset", "--data_d2_coreset_lambda", "-1"], "at least 0"),
        (
            ["--data_sampler", "d2_coreset", "--bs", "10"],
            "--bs 10 is not a multiple of --samples_per_class 4",
        ),
    ],
)
def test_flags_that_cannot_apply_are_refused(argv, said, capsys):
    with pytest.raises(SystemExit) as stop:
        get_options(argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and said in error


def test_another_data_set_is_evaluated_without_the_sampler_of_training():
    trained = vars(get_options(["--data_sampler", "hierarchical"]))
    assert (
        get_options(["--evaluate_only", "--checkpoint", "x"], trained).data_sampler
        == "hierarchical"
    )
    argv = [
        "--evaluate_only",
        "--checkpoint",
        "x",
        "--dataset",
        "image_folder",
        "--source_path",
        "x",
    ]
    assert get_options(argv, trained).data_sampler == "class_random"
