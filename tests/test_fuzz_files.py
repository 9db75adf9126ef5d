"""300 damaged files: refused in one sentence, or the numbers of the sound one.

Damage is to bytes, or puts a value of a wrong kind in the place of a sound one.
"""
import copy
import json
import random
import shutil

import numpy as np
import pytest
import torch

import main as training
from architectures import export
from evaluation import score
from evaluation.embed import command as embed
from evaluation.search import command as search
from parameters import wrong_flag
from tests.fuzzing import WRONG, damaged, ended, places, replaced
from tests.test_main import flags, folder  # noqa: F401  (a fixture)

SEEDS = range(50)
QUICK = ["--no-figures", "--memory_couplings", "1", "--memory_hidden", "4", "--relation_hidden", "4"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):  # noqa: F811
    """A short run of the whole method, its export, and embeddings with their table."""
    out = tmp_path_factory.mktemp("sound")
    small = ["--embed_dim", "8", "--n_epochs", "1", "--bs", "8", "--use_tv_split", "--tv_split_perc", "0.5"]
    argv = flags(folder, out, "--savename", "a", *small, *QUICK)
    assert training.main(argv) == 0
    shutil.copytree(out / "image_folder" / "a", out / "run")
    checkpoint = out / "run" / "last.pt"
    words = [str(checkpoint), "--format", "safetensors", "--out", str(out / "export")]
    assert export.main(words) == 0
    assert embed.main([str(checkpoint), str(folder), "--out", str(out / "e"), "--device", "cpu"]) == 0
    return out


def changed_text(text, seed):
    """A JSON file with other bytes, or with a value of a wrong kind."""
    chance = random.Random(seed)
    if chance.random() < 0.4:
        return damaged(text, chance)
    content = json.loads(text)
    place = chance.choice([path for path in places(content) if path[0] in ("flags", "weights", "format")])
    replaced(content, place, chance.choice(WRONG))
    return json.dumps(content).encode()


def changed_checkpoint(path, seed):
    """A checkpoint with other bytes, or with a value of a wrong kind, saved anew."""
    chance = random.Random(seed)
    if chance.random() < 0.3:
        path.write_bytes(damaged(path.read_bytes(), chance))
        return path.name
    state = torch.load(path, weights_only=True)
    part = chance.choice([*state, "options", "options", "progress", "network"])
    # A number of the history in the place of another is as good.
    inner = [path for path in places({part: state[part]}) if path[0] != "history" or len(path) < 3]
    place = chance.choice(inner)
    value = chance.choice([*WRONG, torch.zeros(2), torch.tensor(1j), torch.full((8,), torch.nan)])
    replaced(state, place, copy.deepcopy(value))
    torch.save(state, path)
    if part == "options" and not wrong_flag(state["options"]):
        pytest.skip("a value that the flag may have is that of another run")
    return place, value


def numbers(path):
    """The metrics that a command wrote."""
    return json.loads(path.read_text())


def same_metrics(one, other):
    return one.keys() == other.keys() and all(one[name] == pytest.approx(other[name], nan_ok=True) for name in one)


@pytest.mark.parametrize("seed", SEEDS)
def test_tables_of_labels(made, tmp_path, capfd, seed):
    table = tmp_path / "labels.csv"
    table.write_bytes(damaged((made / "e" / "labels.csv").read_bytes(), random.Random(seed)))
    ended(score.main, [made / "e" / "embeddings.npy", table, "--metrics", "e_recall@1"], capfd, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_embeddings(made, tmp_path, capfd, seed):
    rows = tmp_path / "embeddings.npy"
    rows.write_bytes(damaged((made / "e" / "embeddings.npy").read_bytes(), random.Random(seed)))
    ended(score.main, [rows, made / "e" / "labels.csv", "--metrics", "e_recall@1"], capfd, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_options_that_are_repeated(made, tmp_path, capfd, seed):
    options = tmp_path / "options.json"
    options.write_bytes(changed_text((made / "run" / "options.json").read_bytes(), seed))
    elsewhere = tmp_path / "elsewhere"
    argv = ["--repeat", options, "--save_path", elsewhere, "--device", "cpu", "--n_epochs", "0", "--no-figures"]
    ended(training.main, argv, capfd, seed)
    assert set(tmp_path.iterdir()) <= {options, elsewhere}


@pytest.mark.parametrize("seed", SEEDS)
def test_exported_models(made, folder, tmp_path, capfd, seed):  # noqa: F811
    model = tmp_path / "export"
    shutil.copytree(made / "export", model)
    text = (model / "model.json").read_bytes()
    (model / "model.json").write_bytes(changed_text(text, seed))
    out = tmp_path / "e"
    code = ended(embed.main, [model, folder, "--out", out, "--device", "cpu"], capfd, seed)
    if code == 0:
        sound = np.load(made / "e" / "embeddings.npy")
        assert np.allclose(np.load(out / "embeddings.npy"), sound, atol=1e-5)
        query = next(folder.glob("*/*.png"))
        ended(search.main, [made / "e", query, "--checkpoint", model, "--device", "cpu"], capfd, seed)


@pytest.fixture(scope="module")
def metrics(made, folder, tmp_path_factory):  # noqa: F811
    """The metrics of the sound checkpoint."""
    path = tmp_path_factory.mktemp("metrics") / "sound.json"
    argv = ["--evaluate_only", "--checkpoint", made / "run" / "last.pt", "--json", path, "--device", "cpu"]
    assert training.main([str(word) for word in argv]) == 0
    return numbers(path)


@pytest.mark.parametrize("seed", SEEDS)
def test_checkpoints_that_are_evaluated(made, metrics, tmp_path, capfd, seed):
    path = tmp_path / "last.pt"
    shutil.copy(made / "run" / "last.pt", path)
    case = (seed, changed_checkpoint(path, seed))
    argv = ["--evaluate_only", "--checkpoint", path, "--json", tmp_path / "m.json", "--device", "cpu"]
    if ended(training.main, argv, capfd, case) == 0:
        assert same_metrics(numbers(tmp_path / "m.json"), metrics), case


@pytest.fixture(scope="module")
def continued(made, tmp_path_factory):
    """The history of the sound run after another epoch."""
    run = tmp_path_factory.mktemp("continued") / "run"
    shutil.copytree(made / "run", run)
    assert training.main(["--resume", str(run), "--n_epochs", "2", "--device", "cpu", *QUICK[:1]]) == 0
    return (run / "metrics.csv").read_text()


@pytest.mark.parametrize("seed", SEEDS)
def test_checkpoints_that_are_continued(made, continued, tmp_path, capfd, seed):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    case = (seed, changed_checkpoint(run / "last.pt", 1000 + seed))
    argv = ["--resume", run, "--n_epochs", "2", "--device", "cpu", *QUICK[:1]]
    if ended(training.main, argv, capfd, case) == 0:
        assert (run / "metrics.csv").read_text() == continued, case
