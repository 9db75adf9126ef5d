"""Embedding a whole set: order, values, precision, processes, damaged images, and the command."""
import csv
import json
import shutil

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

import architectures
from architectures.memory import select as select_memory
from datasets import batches, make_loader
from datasets.transforms import eval_transform
from evaluation import score
from evaluation.embed import DAMAGED, Tolerant, command, embed, embedder
from evaluation.embed.collect import collect
from evaluation.ranking import with_context
from utilities import checkpoint

CPU = torch.device("cpu")
SIZES = {"b": 3, "a": 2, "c/d": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven images in three folders, one of them inside another."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name, number in SIZES.items():
        (root / name).mkdir(parents=True)
        for i in range(number):
            pixels = random.integers(256, size=(16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def network(memory="none"):
    torch.manual_seed(0)
    return architectures.select("convnet_normalize", embed_dim=8, pretrained=False,
                                memory=select_memory(memory, 8))


def loader_of(folder, batch_size=3, **kwargs):
    transform = eval_transform(16, (0.5,) * 3, (0.5,) * 3)
    return make_loader(collect(folder), transform, batch_size=batch_size, **kwargs)


def test_rows_stand_in_the_order_of_the_images_whatever_the_batch(folder):
    model = network()
    model.train()
    whole, labels = embed(model, loader_of(folder, 7), CPU)
    parts, _ = embed(model, loader_of(folder, 3), CPU)
    torch.testing.assert_close(whole, parts)
    images = collect(folder)
    assert labels.tolist() == images.labels == [0, 0, 1, 1, 1, 2, 2]
    assert model.training
    assert [path.parent.name for path in images.paths] == ["a", "a", "b", "b", "b", "d", "d"]
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(7))
    for row, batch in zip(whole, batches(loader_of(folder, 1))):
        torch.testing.assert_close(row, model.embed(batch.image)[0])


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("memory", ["none", "realnvp"])
def test_mixed_precision_gives_unit_rows_in_float32(folder, amp, memory):
    model = network(memory)
    seen = []
    model.backbone.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    exact, _ = embed(model, loader_of(folder), CPU)
    assert set(seen) == {torch.float32}
    rows, _ = embed(model, loader_of(folder), CPU, amp=amp)
    assert seen[-1] == {"bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    assert rows.dtype == torch.float32
    assert not torch.equal(rows, exact)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(7), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rows, exact, rtol=0, atol=0.02)


def in_process(rank, world, folder, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/meeting", rank=rank,
                            world_size=world)
    loader = loader_of(folder, 2)
    loader = loader.over(Tolerant(loader.dataset))
    model = network("realnvp")
    seen = []
    model.backbone.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    rows, labels = embed(model, loader, CPU)
    torch.save((rows, labels, sum(seen)), f"{out}/{rank}.pt")
    dist.destroy_process_group()


# 7 images: never divisible
@pytest.mark.parametrize("world", [2, pytest.param(9, marks=pytest.mark.slow)])
def test_processes_share_the_images_and_all_receive_every_row(folder, tmp_path, world):
    torch.multiprocessing.spawn(in_process, (world, folder, tmp_path), nprocs=world)
    expected, labels = embed(network("realnvp"), loader_of(folder, 2), CPU)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    for rows, own_labels, _ in found:
        assert torch.equal(rows, found[0][0])
        assert torch.equal(own_labels, labels)
        torch.testing.assert_close(rows, expected)
    numbers = [number for *_, number in found]
    assert sum(numbers) == 7
    assert max(numbers) <= -(-7 // world)


def damage(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    path = broken / "b" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    return broken


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_takes_no_other_with_it(folder, tmp_path, workers):
    loader = loader_of(damage(folder, tmp_path), 1, workers=workers)
    rows, labels = embed(network(), loader.over(Tolerant(loader.dataset)), CPU)
    assert labels.tolist() == [0, 0, 1, DAMAGED, 1, 2, 2]
    whole, _ = embed(network(), loader_of(folder, 1), CPU)
    kept = labels != DAMAGED
    assert torch.equal(rows[kept], whole[kept])


# ------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint as main.py writes one."""
    path = tmp_path_factory.mktemp("run") / "last.pt"
    options = {"arch": "convnet_normalize", "embed_dim": 8, "memory": "realnvp",
               "memory_hidden": 16, "image_size": 16, "memory_weight": 1.0, "bs": 3, "amp": "none"}
    torch.manual_seed(0)
    model = architectures.select("convnet_normalize", embed_dim=8, pretrained=False,
                                 memory=select_memory("realnvp", 8, hidden=16))
    checkpoint.save(path, {"network": model.state_dict(), "options": options})
    return path


def run(*argv):
    return command.main([str(word) for word in argv] + ["--device", "cpu"])


def lines(out):
    with (out / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_command_writes_rows_and_labels_in_one_order(folder, trained, tmp_path, capsys,
                                                     monkeypatch):
    out = tmp_path / "new" / "out"
    asked = {}

    def noted(*args, **kwargs):
        asked.update(kwargs)
        return make_loader(*args, **kwargs)
    monkeypatch.setattr(embedder, "make_loader", noted)
    assert run(trained, folder, "--out", out) == 0
    # as in the run
    assert asked["batch_size"] == 3
    rows = np.load(out / "embeddings.npy", allow_pickle=False)
    assert rows.shape == (7, 8)
    assert rows.dtype == np.float32
    assert [tuple(line.values()) for line in lines(out)] == [
        ("a/0.png", "0", "a"), ("a/1.png", "0", "a"), ("b/0.png", "1", "b"), ("b/1.png", "1", "b"),
        ("b/2.png", "1", "b"), ("c/d/0.png", "2", "c/d"), ("c/d/1.png", "2", "c/d")]
    model, _ = architectures.restore(trained)
    expected, _ = embed(model.to(memory_format=torch.channels_last), loader_of(folder, 3), CPU)
    assert np.array_equal(rows, expected.numpy())
    assert "7 images of 3 classes embedded in 8 dimensions, 0 skipped" in capsys.readouterr().out


def test_command_skips_and_counts_damaged_images_or_stops(folder, trained, tmp_path, capsys):
    broken = damage(folder, tmp_path)
    assert run(trained, broken, "--out", tmp_path / "out", "--amp", "bf16", "--bs", "2") == 0
    said = capsys.readouterr()
    assert "6 images of 3 classes" in said.out
    assert "1 skipped" in said.out
    assert sum("skipped" in line and "b/1.png" in line for line in said.err.splitlines()) == 1
    assert [line["path"] for line in lines(tmp_path / "out")] == [
        "a/0.png", "a/1.png", "b/0.png", "b/2.png", "c/d/0.png", "c/d/1.png"]
    assert len(np.load(tmp_path / "out" / "embeddings.npy")) == 6
    assert run(trained, broken, "--out", tmp_path / "strict", "--strict") == 1
    assert "b/1.png" in capsys.readouterr().err
    assert not (tmp_path / "strict" / "embeddings.npy").exists()


def test_without_any_image_that_can_be_decoded_nothing_is_written(trained, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no image")
    assert run(trained, tmp_path / "bad", "--out", tmp_path / "none") == 1
    said = capsys.readouterr().err
    assert "skipped: " in said
    assert "None of the images" in said
    assert not (tmp_path / "none").exists()


def test_folders_are_read_as_a_run_reads_them(folder, tmp_path):
    with (tmp_path / "labels.csv").open("w") as file:
        file.write("path,label,split\n")
        for i, split in enumerate(["train", "val", "test", "test"]):
            shutil.copy(folder / "a" / "0.png", tmp_path / f"{i}.png")
            file.write(f"{i}.png,class{3 - i},{split}\n")
    assert [path.name for path in collect(tmp_path, "test").paths] == ["3.png", "2.png"]
    assert [path.name for path in collect(tmp_path).paths] == ["3.png", "2.png", "1.png", "0.png"]
    assert collect(folder / "a").class_names == ["a"]
    assert len(collect(folder / "a").paths) == 2
    (folder / "a" / ".hidden.png").write_bytes(b"")
    assert len(collect(folder).paths) == 7


@pytest.mark.parametrize("argv, code, words", [
    ("{run}/absent.pt {images}", 2, "absent.pt: there is no"),
    ("{run}/x.pt {images}", 1, "not a readable"),
    ("{run}/last.pt {run}/absent", 2, "no such folder"),
    ("{run}/last.pt {run}", 2, "no images found"),
    ("{run}/last.pt {images} --split val", 2, "no such images"),
    ("{run}/foreign.pt {images}", 1, "not a checkpoint of main.py"),
    ("{run}/options.pt {images}", 1, "not a checkpoint of main.py"),
    ("{run}/other.pt {images}", 1, "another version"),
    ("{run}/older.pt {images}", 1, "another version"),
    ("{run}/last.pt {images} --out /proc/nothing/x", 1, "cannot be written"),
    ("{run}/last.pt {images} --out {images}", 2, "name a folder outside"),
    ("{run}/last.pt {images} --out {images}/a/out", 2, "name a folder outside"),
])
def test_what_cannot_be_done_is_one_sentence(folder, trained, tmp_path, capsys, argv, code, words):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    state = checkpoint.load(trained)
    contents = {
        "last": state,
        "foreign": {"model": {}},
        "options": state | {"options": "all"},
        "other": state | {"options": state["options"] | {"embed_dim": 16}},
        "older": state | {"options": {"arch": "convnet_normalize"}},
    }
    for name, content in contents.items():
        torch.save(content, run_folder / f"{name}.pt")
    (run_folder / "x.pt").write_bytes(b"x")
    if "--out" not in argv:
        argv += f" --out {tmp_path / 'out'}"
    assert run(*argv.format(run=run_folder, images=folder).split()) == code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("evaluation.embed: ")
    assert words in said
    assert not (tmp_path / "out").exists()


def test_rows_with_context_say_so_and_are_given_it_once(folder, trained, tmp_path, capsys):
    plain = tmp_path / "plain"
    assert run(trained, folder, "--out", plain) == 0
    assert "context" not in json.loads((plain / "embeddings.json").read_text())
    beside = trained.parent / f"last-{folder.name}-context2"
    assert run(trained, folder, "--eval_context", 2, "--eval_context_power", 4) == 0
    assert "the context of 2 neighbours (power 4)" in capsys.readouterr().out
    rows = np.load(beside / "embeddings.npy")
    wanted, _ = with_context(torch.from_numpy(np.load(plain / "embeddings.npy")), None, 2, 4.0)
    assert np.array_equal(rows, wanted.numpy())
    assert not np.array_equal(rows, np.load(plain / "embeddings.npy"))
    assert lines(beside) == lines(plain)
    description = json.loads((beside / "embeddings.json").read_text())
    assert description["context"] == {"neighbours": 2, "power": 4.0}
    files = [str(beside / "embeddings.npy"), str(beside / "labels.csv")]
    assert score.main(files) == 0
    assert score.main([*files, "--eval_context", "2"]) == 2
    assert "cannot take it twice" in capsys.readouterr().err


def test_more_neighbours_than_images_are_refused(folder, trained, tmp_path, capsys):
    assert run(trained, folder, "--out", tmp_path / "out", "--eval_context", 7) == 2
    assert "7 images; pass at most 6" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    broken = damage(folder, tmp_path)
    assert run(trained, broken, "--out", tmp_path / "out", "--eval_context", 6) == 2
    assert "6 images; pass at most 5" in capsys.readouterr().err
    # what was embedded is not lost
    assert run(trained, broken, "--out", tmp_path / "out", "--eval_context", 5) == 0
    assert np.load(tmp_path / "out" / "embeddings.npy").shape == (6, 8)


def test_nothing_is_overwritten(folder, trained, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("mine")
    assert run(trained, folder, "--out", tmp_path) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (tmp_path / "labels.csv").read_text() == "mine"


def test_wrong_flags_name_the_command(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--strickt", "a", "b", "--out", "c"])
    assert stop.value.code == 2
    said = ("evaluation.embed: --strickt is not a flag. Did you mean --strict? (python -m "
            "evaluation.embed --help lists")
    assert said in capsys.readouterr().err
