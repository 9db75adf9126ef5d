"""The command as a user runs it: whole runs on tiny images, equal for equal seeds, and errors in one sentence."""
import csv
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import architectures
import batchminer
import main
from architectures import export
from evaluation.embed import command as embed
from tests.training.methods import same
from training import held_out
from utilities import checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight classes of twelve images, each class a colour and a stripe pattern with noise."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label in range(8):
        (root / f"class{label}").mkdir()
        colour, period = random.integers(40, 215, 3), 2 + label % 4
        for i in range(12):
            image = np.broadcast_to(colour, (20, 20, 3)) + 60 * (np.arange(20) // period % 2)[:, None, None]
            image = np.clip(image + random.normal(0, 25, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / f"class{label}" / f"{i}.png")
    return root


def flags(folder, out, *more):
    """Pictures and pages, most of the time of such a run, are drawn where `more` has --figures."""
    drawn = [] if "--evaluate_only" in more else ["--no-figures"]
    return [*drawn, "--dataset", "image_folder", "--source_path", str(folder), "--save_path", str(out),
            "--device", "cpu", "--arch", "convnet_normalize", "--embed_dim", "64", "--image_size", "16", "--bs", "16",
            "--kernels", "0", "--n_epochs", "2", "--eval_every", "1", "--log_every", "1", *more]


PLAIN = ["--relation", "none", "--memory", "none", "--pair_weighting", "uniform"]


def run(argv):
    assert main.main(argv) == 0


def read(out, name):
    return (out / "image_folder" / name / "metrics.csv").read_text()


def rows_of(text):
    return list(csv.DictReader(text.splitlines()))


def test_a_run_writes_everything_and_repeats_bit_for_bit(folder, tmp_path, capsys):
    run(flags(folder, tmp_path, "--savename", "a", "--figures"))
    assert "e_recall@1" in capsys.readouterr().out
    made = tmp_path / "image_folder" / "a"
    assert set(os.listdir(made)) == {"options.json", "metrics.csv", "steps.csv", "result.json", "last.pt",
                                     "best_e_recall@1.pt", "progress.png", "gallery.png", "policy.png", "memory.png",
                                     "embedding.png", "confusions.csv", "report.html", "explorer.html"}
    assert 'href="explorer.html"' in (made / "report.html").read_text()
    result = json.loads((made / "result.json").read_text())
    assert {"final", "untrained", "best", "policy", "held_out_advantage_over_uniform", "seconds",
            "peak_memory_mib"} <= set(result)
    rows = rows_of(read(tmp_path, "a"))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"loss", "metric", "metric_memory", "memory_nll", "policy", "entropy", "nmi", "mAP_r"} <= set(rows[0])
    torch.rand(3)                                                                  # another global state
    run(flags(folder, tmp_path, "--savename", "b"))
    assert rows_of(read(tmp_path, "b")) == rows
    run(flags(folder, tmp_path, "--savename", "c", "--seed", "2"))
    assert rows_of(read(tmp_path, "c")) != rows


def test_the_policys_health_is_in_the_tables_of_the_run(tmp_path, monkeypatch):
    glyphs = ["--dataset", "glyphs", "--glyphs_classes", "40", "--glyphs_images_per_class", "8", "--savename", "a",
              "--n_epochs", "2", "--tau", "1", "--eval_every", "1", "--log_every", "1", "--no-figures",
              "--use_tv_split",
              "--bs", "16", "--save_path", str(tmp_path), "--kernels", "0"]
    run(glyphs)
    made = tmp_path / "glyphs" / "a"
    rows, steps = (rows_of((made / name).read_text()) for name in ("metrics.csv", "steps.csv"))
    worth = [row["held_out_advantage"] for row in rows]
    assert len(set(worth)) > 1 and all(abs(float(value)) < 1 for value in worth)
    error = [float(row["held_out_advantage_error"]) for row in rows]
    assert min(error) >= 0 and max(error) > 0
    assert [row["held_out_advantage"] for row in steps] == [worth[int(row["epoch"]) - 1] for row in steps]
    for row in steps:
        assert all(-1 <= float(row[f"correlation_{sign}"]) <= 1 for sign in ("positive", "negative"))
        assert {"entropy_positive", "entropy_negative", "advantage_over_uniform"} <= set(row)
    monkeypatch.setattr(held_out, "BATCHES", 1)                                    # of which there is no error
    run([*glyphs, "--savename", "b"])
    one = rows_of((tmp_path / "glyphs" / "b" / "metrics.csv").read_text())
    assert {row["held_out_advantage_error"] for row in one} == {""} and all(row["held_out_advantage"] for row in one)


CONTEXT = {"context_std", "context_ratio", "context_r2", "context_class_share"}


def test_the_contexts_health_is_in_the_tables_of_the_run(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "a", "--use_tv_split", "--tv_split_perc", "0.5", "--bs", "8",
              "--figures"))
    made = tmp_path / "image_folder" / "a"
    rows = rows_of((made / "metrics.csv").read_text())
    steps = rows_of((made / "steps.csv").read_text())
    result = json.loads((made / "result.json").read_text())
    held = {f"held_out_{name}" for name in CONTEXT}
    assert all(float(row["held_out_context_std"]) > 0 for row in rows)
    for row in steps:
        assert 0 < float(row["context_std"]) < 0.5 and float(row["context_r2"]) < 1
        assert {name: row[name] for name in held} == {name: rows[int(row["epoch"]) - 1][name] for name in held}
    assert {name: str(result[name]) for name in held} == {name: rows[-1][name] for name in held}
    assert "context" in (made / "report.html").read_text()


@pytest.mark.parametrize("memory", [["constant"], ["none"], ["realnvp", "--memory_decode", "off"]])
def test_without_a_decoded_context_its_health_is_absent(folder, tmp_path, memory):
    pictures = ["--figures", "--map_images", "0"]
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "1", "--memory", *memory, *pictures))
    made = tmp_path / "image_folder" / "a"
    for name in ("metrics.csv", "steps.csv", "result.json"):
        assert "context" not in (made / name).read_text()
    assert not (made / "memory.png").exists() and not (made / "embedding.png").exists()
    assert "<h2>Context</h2>" not in (made / "report.html").read_text()


@pytest.mark.parametrize("more, where", [([], "test"), (["--use_tv_split"], "val"),
                                         (["--use_tv_split", "--tv_split_by_samples"], "test")])
def test_the_policy_is_judged_on_classes_that_do_not_train(folder, tmp_path, monkeypatch, more, where):
    looked = []

    def gain(run, split, at_most):
        looked.append((set(run.loaders[split].dataset.images.class_names), at_most))
    monkeypatch.setattr(held_out, "policy_gain", gain)
    monkeypatch.setattr(main, "write_results", lambda run: looked.append(
        {name: set(getattr(run.splits, name).class_names) for name in ("train", where)}))
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "1", "--bs", "12", *more))
    *looks, classes = looked
    assert looks == [(classes[where], held_out.BATCHES)] * 2 and not classes["train"] & classes[where]


@pytest.mark.parametrize("loss", ["margin", "softmax"])
def test_a_loss_with_parameters_of_its_classes_is_not_asked_about_others(folder, tmp_path, loss):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "1", "--bs", "12", "--use_tv_split", "--loss", loss,
              "--relation", "none", "--memory", "none", "--evaluation_metrics", "e_recall@1"))
    result = json.loads((tmp_path / "image_folder" / "a" / "result.json").read_text())
    assert "held_out_advantage_over_uniform" not in result and result["policy"]


def test_without_figures_numbers_and_checkpoints_are_left(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "1", "--no-figures"))
    assert {path.name for path in (tmp_path / "image_folder" / "a").iterdir() if path.suffix != ".lock"} == {
        "options.json", "metrics.csv", "steps.csv", "result.json", "last.pt", "best_e_recall@1.pt"}


def test_the_best_epoch_is_the_lowest_value_where_lower_is_better(folder, tmp_path):
    names = ["dists@intra", "dists@inter", "rho_spectrum@-1"]
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "3", "--lr", "0.02", "--no-figures", *PLAIN,
              "--evaluation_metrics", *names, "--storage_metrics", *names))
    rows = rows_of(read(tmp_path, "a"))
    best = json.loads((tmp_path / "image_folder" / "a" / "result.json").read_text())["best"]
    for name, choose in zip(names, (min, max, min)):
        values = [float(row[name]) for row in rows]
        assert len(set(values)) > 1
        assert best[name]["value"] == choose(values)
        kept = checkpoint.load(tmp_path / "image_folder" / "a" / f"best_{name}.pt")
        assert kept["metrics"][name] == choose(values) and kept["epoch"] == values.index(choose(values))


def test_metrics_with_context_are_in_all_that_a_run_reports(folder, tmp_path, capsys):
    common = ["--bs", "8", "--n_epochs", "1", "--use_tv_split", "--tv_split_perc", "0.5",
              "--evaluation_metrics", "e_recall@1", "mAP_r", "dists@intra", *PLAIN]
    run(flags(folder, tmp_path, "--savename", "plain", *common))
    run(flags(folder, tmp_path, "--savename", "context", *common, "--eval_context", "5", "--figures",
              "--storage_metrics", "ctx_dists@intra", "e_recall@1"))
    capsys.readouterr()
    plain, context = (tmp_path / "image_folder" / name for name in ("plain", "context"))
    for before, after in zip(rows_of(read(tmp_path, "plain")), rows_of(read(tmp_path, "context")), strict=True):
        assert {name: after[name] for name in before} == before
        added = after.keys() - before.keys()
        names = ("e_recall@1", "mAP_r", "dists@intra")
        assert added == {f"{split}ctx_{name}" for split in ("", "val_") for name in names}
        assert float(after["ctx_dists@intra"]) < float(after["dists@intra"])
    result = json.loads((context / "result.json").read_text())
    assert "ctx_mAP_r" in result["final"] and "ctx_mAP_r" in result["untrained"]
    assert "ctx_mAP_r" in (context / "report.html").read_text()
    best = result["best"]["ctx_dists@intra"]
    values = [float(row["val_ctx_dists@intra"]) for row in rows_of(read(tmp_path, "context"))]
    assert best["chosen_on"] == "val" and best["value"] == min(values)
    assert (context / "best_ctx_dists@intra.pt").is_file()
    # a run that was trained without it
    out = tmp_path / "metrics.json"
    run(["--evaluate_only", "--checkpoint", str(plain / "last.pt"), "--eval_context", "5", "--json", str(out)])
    assert json.loads(out.read_text()) == result["final"]
    assert "ctx_mAP_r" in capsys.readouterr().out
    # and one that was trained with it
    run(["--evaluate_only", "--checkpoint", str(context / "last.pt"), "--eval_context", "0", "--json", str(out)])
    assert set(json.loads(out.read_text())) == {"e_recall@1", "mAP_r", "dists@intra"}


EVALUATED = {"full method": ["--eval_bootstrap", "20"], "averaged": ["--ema", "0.9"], "mined": ["--loss", "margin"],
             "published": ["--recipe", "paper", "--memory_channels", "8", "--memory_steps", "2"],
             "cross-batch memory": ["--xbm_size", "20", "--xbm_start", "1"], "proxies": ["--proxies_weight", "1"]}


@pytest.mark.parametrize("case", ["full method", *(pytest.param(name, marks=pytest.mark.slow) for name in EVALUATED
                                                   if name != "full method")])
def test_evaluation_never_touches_training(folder, tmp_path, case):
    for name, every in (("often", "1"), ("seldom", "3")):
        run(flags(folder, tmp_path, "--savename", name, "--n_epochs", "3", "--eval_every", every,
                  *EVALUATED[case]))
    often, seldom = (checkpoint.load(tmp_path / "image_folder" / name / "last.pt") for name in ("often", "seldom"))
    for part in ("network", "method", "optimisation", "recorder", "miner", "sampler", "random", "records"):
        same(often[part], seldom[part], part)
    steps = [rows_of((tmp_path / "image_folder" / name / "steps.csv").read_text()) for name in ("often", "seldom")]
    measured = {"images_per_second", "data_wait", "peak_memory_mib"}
    own = measured | {name for name in steps[0][0] if name.startswith("held_out_")}
    for one, other in zip(*steps, strict=True):
        assert {k: v for k, v in one.items() if k not in own} == {k: v for k, v in other.items() if k not in own}


def test_a_frozen_run_is_a_configuration_for_another(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "0", "--freeze", *PLAIN))
    made = tmp_path / "image_folder" / "a" / "options.json"
    run(["--config", str(made), "--savename", "b", "--save_path", str(tmp_path), "--source_path", str(folder)])
    assert read(tmp_path, "b") == read(tmp_path, "a")


def test_what_followed_from_weights_does_not_follow_from_others(folder, tmp_path):
    trunk = architectures.select("convnet", embed_dim=8, pretrained=False).backbone
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        torch.save(trunk.state_dict(), tmp_path / name / "w.pth")
    (tmp_path / "one" / "model.json").write_text(json.dumps({"preprocessing": {
        "image_size": 24, "mean": [9, 9, 9], "std": [60, 60, 60], "channels": "BGR", "value_range": 255}}))
    given = flags(folder, tmp_path, "--savename", "a", "--n_epochs", "0", *PLAIN, "--weights",
                  str(tmp_path / "one" / "w.pth"))
    at = given.index("--image_size")
    run([*given[:at], *given[at + 2:]])
    made = tmp_path / "image_folder" / "a" / "options.json"
    assert {"image_size", "input_mean", "input_channels"} <= set(json.loads(made.read_text())["settled"])
    again = ["--repeat", str(made), "--save_path", str(tmp_path), "--savename"]
    run([*again, "b"])
    run([*again, "c", "--weights", str(tmp_path / "two" / "w.pth")])
    for name, size, mean in (("a", 24, (9, 9, 9)), ("b", 24, (9, 9, 9)), ("c", 32, None)):
        _, options = architectures.restore(tmp_path / "image_folder" / name / "last.pt")
        assert options["image_size"] == size and options["input_mean"] == mean
        assert options["cache_side"] == round(1.5 * size * 256 / 224)


def test_the_side_of_the_cache_follows_the_size_that_a_run_is_repeated_with(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "0", *PLAIN))
    made = tmp_path / "image_folder" / "a"
    again = ["--savename", "b", "--save_path", str(tmp_path), "--image_size", "48", "--device", "cpu"]
    for given in ("--repeat", "--config"):
        run([given, str(made / "options.json"), *again, "--source_path", str(folder)])
    for name, side in (("a", 27), ("b", 82), ("b-2", 82)):
        _, options = architectures.restore(tmp_path / "image_folder" / name / "last.pt")
        assert options["cache_side"] == side == round(1.5 * options["image_size"] * 256 / 224)
    # no training batch is drawn, whatever its size
    run(["--evaluate_only", "--checkpoint", str(made / "last.pt"), "--image_size", "48", "--bs", "7",
         "--device", "cpu"])


def test_a_run_is_repeated_from_its_options(folder, tmp_path, capsys):
    run(flags(folder, tmp_path, "--savename", "a", "--ema", "0.9", "--grad_clip", "1"))
    options = tmp_path / "image_folder" / "a" / "options.json"
    run(["--repeat", str(options), "--savename", "b", "--save_path", str(tmp_path)])
    assert "--savename: 'b' instead of 'a'" in capsys.readouterr().out
    assert read(tmp_path, "b") == read(tmp_path, "a")
    last = [checkpoint.load(tmp_path / "image_folder" / name / "last.pt") for name in ("a", "b")]
    for part in ("network", "method", "optimisation"):
        same(last[0][part], last[1][part], part)


def test_a_switch_of_a_run_is_off_where_it_is_repeated_so(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "a", *PLAIN, "--n_epochs", "0", "--use_tv_split"))
    options = tmp_path / "image_folder" / "a" / "options.json"
    run(["--repeat", str(options), "--savename", "b", "--save_path", str(tmp_path), "--no-use_tv_split"])
    assert "val_e_recall@1" in rows_of(read(tmp_path, "a"))[0]
    assert "val_e_recall@1" not in rows_of(read(tmp_path, "b"))[0]
    assert json.loads(options.with_name("options.json").read_text())["flags"]["use_tv_split"] is True


def test_a_metric_of_more_dimensions_than_there_are_is_refused_at_once(folder, tmp_path, capsys):
    argv = flags(folder, tmp_path, *PLAIN, "--embed_dim", "8", "--evaluation_metrics", "e_recall@1", "rho_spectrum@-9")
    refused(capsys, argv, 2, "--evaluation_metrics rho_spectrum@-9 drops more singular values than --embed_dim 8 has")
    assert not list(tmp_path.rglob("options.json"))


def test_checkpoint_gives_the_metrics_of_its_run(folder, tmp_path, capsys):
    run(flags(folder, tmp_path, "--savename", "a", *PLAIN[:4], "--pair_weighting", "random"))
    last = tmp_path / "image_folder" / "a" / "last.pt"
    expected = checkpoint.load(last)["metrics"]["mAP_r"]
    capsys.readouterr()
    run(flags(folder, tmp_path, "--memory", "none", "--evaluate_only", "--checkpoint", str(last)))
    assert f"{100 * expected:.1f}" in capsys.readouterr().out


def test_intervals_and_classes_are_written_on_request(folder, tmp_path, capsys):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "1", *PLAIN, "--figures", "--eval_per_class",
              "--eval_bootstrap", "50", "--evaluation_metrics", "nmi", "e_recall@1", "rho_spectrum@-1"))
    final = json.loads((tmp_path / "image_folder" / "a" / "result.json").read_text())["final"]
    for name in ("nmi", "e_recall@1", "rho_spectrum@-1"):
        assert final[f"{name}_low"] <= final[name] <= final[f"{name}_high"]
    lines = list(csv.DictReader((tmp_path / "image_folder" / "a" / "per_class.csv").read_text().splitlines()))
    values = [float(line["e_recall@1"]) for line in lines]
    assert list(lines[0]) == ["class", "images", "e_recall@1"] and {line["images"] for line in lines} == {"12"}
    assert values == sorted(values) and sum(values) / 4 == pytest.approx(final["e_recall@1"])
    assert "[{:.1f}, {:.1f}]".format(100 * final["nmi_low"], 100 * final["nmi_high"]) in capsys.readouterr().out
    run(["--evaluate_only", "--checkpoint", str(tmp_path / "image_folder" / "a" / "last.pt"), "--device", "cpu",
         "--evaluation_metrics", "nmi"])


def test_evaluate_only_takes_what_is_not_given_from_the_checkpoint(folder, tmp_path, capsys):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "1", "--amp", "bf16", "--memory_hidden", "32",
              "--evaluation_metrics", "e_recall@1", "e_recall@3", "mAP", "nmi"))
    made = tmp_path / "image_folder" / "a"
    run(["--evaluate_only", "--checkpoint", str(made / "last.pt"), "--device", "cpu", "--json", str(tmp_path / "m")])
    final = json.loads((made / "result.json").read_text())["final"]
    assert json.loads((tmp_path / "m").read_text()) == final and len(final) == 4
    run(["--evaluate_only", "--checkpoint", str(made / "last.pt"), "--evaluation_metrics", "e_recall@1", "--amp",
         "none", "--json", str(tmp_path / "n"), "--storage_metrics", "e_recall@1"])
    assert list(json.loads((tmp_path / "n").read_text())) == ["e_recall@1"]
    assert "\nimage_folder: test 48 images of 4 classes.\n" in capsys.readouterr().out
    refused(capsys, ["--evaluate_only", "--checkpoint", str(tmp_path / "absent.pt")], 2, "absent.pt: there is no")
    (tmp_path / "x.pt").write_bytes(b"x")
    refused(capsys, ["--evaluate_only", "--checkpoint", str(tmp_path / "x.pt")], 1, "not a readable checkpoint")
    refused(capsys, ["--evaluate_only", "--checkpoint", str(made / "last.pt"), "--json", str(made / "last.pt")], 2,
            "last.pt is a file that this command reads")
    for place, words in ((tmp_path / "absent" / "x.json", "there is no folder"), (tmp_path, "is a folder")):
        refused(capsys, ["--evaluate_only", "--checkpoint", str(made / "last.pt"), "--json", str(place)], 2, words)
    with pytest.raises(SystemExit):
        main.main(["--evaluate_only", "--checkpoint", str(made / "last.pt"), "--dataset", "cub200"])
    assert "needs --source_path" in capsys.readouterr().err


def test_only_the_first_process_writes_the_metrics(folder, tmp_path, monkeypatch):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "0"))
    last = tmp_path / "image_folder" / "a" / "last.pt"
    monkeypatch.setattr(main, "score_split", lambda *parts, **more: {"e_recall@1": 0.5})
    monkeypatch.setattr(main.distributed, "rank", lambda: 1)
    run(["--evaluate_only", "--checkpoint", str(last), "--device", "cpu", "--json", str(tmp_path / "m")])
    assert not (tmp_path / "m").exists()


def test_evaluate_only_asks_for_nothing_that_only_training_needs(folder, tmp_path, capsys):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "0", *PLAIN, "--no-figures", "--use_tv_split",
              "--bs", "8", "--evaluation_metrics", "e_recall@1"))
    evaluate = ["--evaluate_only", "--checkpoint", str(tmp_path / "image_folder" / "a" / "last.pt"), "--device", "cpu"]
    few = tmp_path / "few"
    few.mkdir()
    for name in ("class6", "class7", "class0"):
        shutil.copytree(folder / name, few / name)
    capsys.readouterr()
    run([*evaluate, "--source_path", str(few)])
    both = capsys.readouterr().out
    lines = [f"class{c}/{i}.png,class{c},test" for c in (6, 7) for i in range(12)]
    (few / "labels.csv").write_text("\n".join(["path,label,split", *lines]))
    run([*evaluate, "--source_path", str(few)])
    assert both == capsys.readouterr().out
    notes = [line for line in both.splitlines() if line.startswith("note")]
    assert notes == ["note: 2 of the 4 classes that the run tested are not tested here, such as class4; a folder "
                     "without its training classes is halved anew."]
    last = evaluate[2]
    (few / "labels.csv").unlink()
    assert embed.main([last, str(few), "--split", "test", "--out", str(tmp_path / "rows"), "--device", "cpu"]) == 0
    assert notes[0] in capsys.readouterr().err
    (few / "labels.csv").write_text("\n".join(["path,label,split", *(line.replace(",class", ",x") for line in lines)]))
    run([*evaluate, "--source_path", str(few)])
    assert "note" not in capsys.readouterr().out                                   # other classes altogether
    lines = [line.replace("class6", "class0") for line in lines]
    (few / "labels.csv").write_text("\n".join(["path,label,split", *lines]))
    run([*evaluate, "--source_path", str(few)])
    assert "1 of 2 classes have the name of one that the network was trained on, such as class0" \
        in capsys.readouterr().out
    refused(capsys, flags(few, tmp_path, *PLAIN), 2, "train split has no images")


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_trains_close_to_full_precision(folder, tmp_path, amp, monkeypatch):
    steps, step = [], torch.amp.GradScaler.step
    monkeypatch.setattr(torch.amp.GradScaler, "step", lambda self, optimizer: steps.append(step(self, optimizer)))
    for precision in ("none", amp):
        run(flags(folder, tmp_path, "--savename", precision, "--n_epochs", "1",
                  "--amp", precision, *PLAIN))
    exact, half = (checkpoint.load(tmp_path / "image_folder" / name / "last.pt") for name in ("none", amp))
    assert exact["optimisation"]["scaler"] == {} and ("scale" in half["optimisation"]["scaler"]) == (amp == "fp16")
    if amp == "fp16":
        assert half["optimisation"]["scaler"]["_growth_tracker"] == len(steps) // 2   # none was left out
    rows = [rows_of(read(tmp_path, name)) for name in ("none", amp)]
    assert float(rows[0][-1]["loss"]) != float(rows[1][-1]["loss"])
    assert float(rows[0][-1]["loss"]) == pytest.approx(float(rows[1][-1]["loss"]), rel=0.05, abs=0.02)


@pytest.mark.parametrize("argv", [
    ["--recipe", "paper", "--relation_hidden", "0", "--memory_channels", "8", "--memory_steps", "2"],
    ["--loss", "margin", *PLAIN], ["--loss", "multisimilarity", *PLAIN], ["--loss", "smoothap", *PLAIN],
    ["--loss", "proxyanchor", *PLAIN], ["--loss", "proxyanchor"], ["--loss", "margin", "--batch_mining", "semihard"],
    ["--figures", "--pair_weighting", "constant", "--policy_constant", "2", "20"],
    ["--policy_granularity", "anchor", "--pair_weighting", "shuffled"], ["--relation", "attention"],
    ["--use_tv_split", "--tv_split_perc", "0.5", "--bs", "8"], ["--memory", "constant"], ["--policy_act", "expected"],
    ["--data_sampler", "random", "--scheduler", "none", "--optim", "sgd"],
    ["--figures", "--map_thumbnails", "--map_images", "9"],
])
def test_other_combinations_run(folder, tmp_path, argv):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "1", "--log_every", "10", *argv))
    row = rows_of(read(tmp_path, "a"))[-1]
    assert 0 <= float(row["e_recall@1"]) <= 1
    if "--use_tv_split" in argv:
        result = json.loads((tmp_path / "image_folder" / "a" / "result.json").read_text())
        assert "val_e_recall@1" in row and result["best"]["e_recall@1"]["chosen_on"] == "val"


def refused(capsys, argv, code, words):
    assert main.main(argv) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("main.py: ") and words in error and "Traceback" not in error, error


def test_a_run_does_not_write_pictures_among_its_images(folder, tmp_path, capsys):
    inside = folder / "runs"
    refused(capsys, flags(folder, inside, *PLAIN), 2, "lies in")
    assert not inside.exists()


def test_an_evaluation_needs_no_batches_to_train_on(folder, tmp_path, capsys):
    argv = flags(folder, tmp_path, *PLAIN, "--bs", "512", "--savename", "a")
    refused(capsys, argv, 2, "--bs 512")
    run([*argv, "--n_epochs", "0"])


def test_wrong_usage_is_one_sentence_and_exit_code_2(folder, tmp_path, capsys):
    cases = [(["--loss", "margn"], "Did you mean margin"), (["--arch", "resnet19_normalize"], "resnet18"),
             (["--loss", "gpw", "--batch_mining", "distance"], "--batch_mining none"),
             (["--loss", "margin", "--batch_mining", "none"], "--batch_mining distance"),
             (["--bs", "64"], "--bs"), (["--evaluation_metrics", "recall@1", "e_recall@1"], "e_recall@"),
             (["--memory", "glo"], "glow"), (["--data_sampler", "x"], "class_random"),
             (["--figures", "--eval_per_class", "--evaluation_metrics", "nmi", "--storage_metrics", "nmi"],
              "such as e_recall@1"),
             (["--checkpoint", "nowhere.pt"], "nowhere.pt"),
             (["--eval_context", "48"], "48 images; pass at most 47"),
             (["--eval_context", "24", "--use_tv_split", "--tv_split_perc", "0.5"], "24 images"),
             (["--source_path", str(tmp_path / "absent")], "absent")]
    for argv, words in cases:
        refused(capsys, flags(folder, tmp_path, *argv), 2, words)
    assert not (tmp_path / "image_folder").exists()                                # nothing was begun
    if not torch.cuda.is_available():
        refused(capsys, [*flags(folder, tmp_path)[:-2], "--device", "auto", "--gpu", "0"], 2, "GPU")


def test_a_corrupt_image_is_named(folder, tmp_path, capsys):
    import shutil
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "class1" / "3.png").write_bytes((broken / "class1" / "3.png").read_bytes()[:60])
    for workers in ("0", "1"):
        refused(capsys, flags(broken, tmp_path, "--kernels", workers), 1, "class1/3.png")


def test_checkpoint_of_another_architecture_is_refused(folder, tmp_path, capsys):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "0", *PLAIN))
    last = str(tmp_path / "image_folder" / "a" / "last.pt")
    refused(capsys, flags(folder, tmp_path, *PLAIN, "--embed_dim", "32", "--checkpoint", last), 2, "--embed_dim 64")


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc/version"), reason="needs a folder nobody writes to")
def test_no_write_permission_is_one_sentence(folder, capsys):
    refused(capsys, flags(folder, "/proc/nothing"), 1, "--save_path")


def test_debug_shows_the_traceback(folder, tmp_path):
    with pytest.raises(Exception, match="margn"):
        main.main(flags(folder, tmp_path, "--loss", "margn", "--debug"))


def test_a_parametric_miner_adapts_to_the_validation_classes(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "pads", "--loss", "margin", "--batch_mining", "parametric", "--bs", "8",
              "--miner_parametric_every", "2", "--use_tv_split", "--tv_split_perc", "0.5", *PLAIN))
    state = checkpoint.load(tmp_path / "image_folder" / "pads" / "last.pt")["miner"]
    assert len(state["past"]["history"]) >= 2                                      # it was called with metrics
    start = batchminer.select("parametric", seed=1).state_dict()
    assert not torch.equal(state["log_mass"], start["log_mass"])                   # and acted


def test_a_cross_batch_memory_joins_the_loss_and_is_in_the_checkpoint(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "xbm", "--xbm_size", "20", "--xbm_start", "1"))
    rows = rows_of(read(tmp_path, "xbm"))
    assert float(rows[2]["metric_xbm"]) != 0
    state = checkpoint.load(tmp_path / "image_folder" / "xbm" / "last.pt")["method"]
    assert (state["xbm.index"] >= 0).all() and state["xbm.row"].shape == (20, 64)


def test_proxies_of_classes_join_the_loss_learn_and_are_in_the_checkpoint(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "p", "--proxies_weight", "0.5", "--proxies_lr", "0.1"))
    assert float(rows_of(read(tmp_path, "p"))[1]["metric_proxies"]) != 0
    first, last = (checkpoint.load(tmp_path / "image_folder" / "p" / name)["method"]["proxies.proxies"]
                   for name in ("best_e_recall@1.pt", "last.pt"))
    assert last.shape[1] == 64 and len(last) == len(first)


def test_weights_of_a_file_start_the_backbone_and_are_needed_no_more(folder, tmp_path, capsys):
    torch.manual_seed(5)
    trunk = architectures.select("convnet", embed_dim=8, pretrained=False).backbone
    given = tmp_path / "given"
    given.mkdir()
    torch.save({"state_dict": {f"module.{key}": value for key, value in trunk.state_dict().items()}}, given / "w.pth")
    (given / "model.json").write_text(json.dumps({"preprocessing": {
        "image_size": 16, "mean": [9, 9, 9], "std": [60, 60, 60], "channels": "BGR", "value_range": 255}}))
    run(flags(folder, tmp_path, "--savename", "w", "--n_epochs", "0", "--weights", str(given / "w.pth"), *PLAIN,
              "--pooling", "gem", "--feature_norm", "--input_std", "50", "50", "50"))
    assert "24 tensors loaded" in capsys.readouterr().out
    last = tmp_path / "image_folder" / "w" / "last.pt"
    network, options = architectures.restore(last)
    assert all(torch.equal(value, trunk.state_dict()[key]) for key, value in network.backbone.state_dict().items())
    assert network.preprocessing == {"mean": (9, 9, 9), "std": [50.0] * 3, "channels": "BGR", "value_range": 255}
    final = json.loads((last.parent / "result.json").read_text())["final"]
    (given / "w.pth").unlink()
    run(["--evaluate_only", "--checkpoint", str(last), "--device", "cpu", "--json", str(tmp_path / "m")])
    assert json.loads((tmp_path / "m").read_text()) == final
    run(["--resume", str(last.parent), "--n_epochs", "1"])
    refused(capsys, flags(folder, tmp_path, "--weights", str(given / "w.pth")), 2, "there is no such file of weights")


def test_the_weights_of_an_export_keep_its_crop(folder, tmp_path):
    run(flags(folder, tmp_path, "--savename", "a", "--n_epochs", "0", *PLAIN, "--image_size", "32",
              "--crop_size", "24"))
    out = tmp_path / "out"
    last = tmp_path / "image_folder" / "a" / "last.pt"
    assert export.main([str(last), "--format", "safetensors", "--out", str(out)]) == 0
    given = flags(folder, tmp_path, "--n_epochs", "0", "--weights", str(out / "model.safetensors"), *PLAIN)
    at = given.index("--image_size")
    sized = [*given[:at], *given[at + 2:]]
    for name, words, sizes in (("b", sized, (32, 24)), ("c", [*sized, "--image_size", "20"], (20, None))):
        run([*words, "--savename", name])
        _, options = architectures.restore(last.parents[1] / name / "last.pt")
        assert (options["image_size"], options["crop_size"]) == sizes


def test_a_size_that_a_network_does_not_take_is_refused_before_training(folder, tmp_path, capsys):
    refused(capsys, flags(folder, tmp_path, "--image_size", "4"), 2, "convnet takes no images of 4 x 4 pixels")


def test_a_log_has_a_line_for_every_epoch_and_no_bars(folder, tmp_path, capsys):
    run(flags(folder, tmp_path, *PLAIN, "--no-figures", "--savename", "a", "--eval_every", "2"))
    said = capsys.readouterr()
    untrained, first, last = [line for line in said.out.splitlines() if line.startswith("epoch")]
    rows = rows_of(read(tmp_path, "a"))
    score = 100 * float(rows[0]["e_recall@1"])
    assert untrained == f"epoch 0 of 2: e_recall@1 {score:.1f}"
    pattern = r"epoch 1 of 2: loss (\S+), (\S+) steps/s, 0:\d\d:\d\d left"
    loss, rate = re.fullmatch(pattern, first).groups()
    assert float(loss) == float(f"{float(rows[1]['loss']):.4g}")
    assert float(rate) > 0
    assert re.fullmatch(r"epoch 2 of 2: loss \S+, e_recall@1 \S+, \S+ steps/s, 0:00:00 left", last)
    assert said.err == ""
