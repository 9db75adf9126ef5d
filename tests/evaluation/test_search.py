"""The search command: what it finds, prints, draws and keeps, and one sentence for what it cannot."""
import json
import shutil

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from PIL import Image

import architectures
from architectures import export
from architectures.memory import select as select_memory
from evaluation import embed, search
from evaluation.ranking.neighbours import faiss_or_none
from evaluation.report.canvas import CELL, EDGE, GAP, HEADING, HIT, MISS, QUIET, TEXT, TOP
from utilities import checkpoint

needs_faiss = pytest.mark.skipif(faiss_or_none() is None, reason="faiss is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint and a folder of thirty images in three classes; everything in one place."""
    place, random = tmp_path_factory.mktemp("search"), np.random.default_rng(0)
    for i in range(30):
        (place / "images" / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(256, size=(16, 22, 3), dtype=np.uint8) // 2 + 60 * (i % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(place / "images" / "abc"[i % 3] / f"{i}.png")
    Image.fromarray(random.integers(256, size=(23, 16, 3), dtype=np.uint8)).save(place / "query.png")
    save_network(place / "last.pt")
    return place


def save_network(path, dim=8, seed=0):
    torch.manual_seed(seed)
    model = architectures.select("convnet_normalize", embed_dim=dim, pretrained=False,
                                 memory=select_memory("realnvp", dim, hidden=16))
    noise = torch.randn(200, 3, 16, 16)
    with torch.no_grad():
        for _ in range(40):
            model(noise)                                                           # statistics of batch norm
        model.eval().projection.bias.sub_(model(noise).embedding.mean(0))          # so that images differ
        model.projection.weight.mul_(10)
    options = {"arch": "convnet_normalize", "embed_dim": dim, "memory": "realnvp", "memory_hidden": 16, "bs": 7,
               "image_size": 16, "amp": "none"}
    checkpoint.save(path, {"network": model.state_dict(), "options": options})


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of it with embeddings, in which nothing is known of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(made, tmp_path / "x")
    assert embed.main([str(tmp_path / "x" / "last.pt"), str(tmp_path / "x" / "images"), "--out",
                       str(tmp_path / "x" / "e"), "--device", "cpu"]) == 0
    return tmp_path / "x"


def run(*argv):
    return search.main([str(word) for word in argv] + ["--device", "cpu"])


def table(out):
    """(rank, similarity, class, path) of each line of the tables."""
    found = [line.split() for line in out.splitlines() if line.startswith("  ") and "similarity" not in line]
    return [(int(rank), float(score), name, path) for rank, score, name, path in found]


def expected(place, query, left_out=None):
    """Nearest images by a loop over files: decode, cut the centre (they have the size), embed one by one."""
    network, _ = architectures.restore(place / "last.pt")

    def row(path):
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)      # (3, h, w)
        top, left = (round((side - 16) / 2) for side in pixels.shape[1:])
        return network.embed(((pixels[:, top:top + 16, left:left + 16] / 255 - 0.5) / 0.5)[None])[0]
    files = [path for path in sorted((place / "images").rglob("*.png")) if path != left_out]
    scores = torch.stack([row(path) for path in files]) @ row(query)
    return [(scores[i].item(), files[i]) for i in scores.argsort(descending=True)]


@pytest.mark.parametrize("kind", ["flat", pytest.param("ivf", marks=needs_faiss),
                                  pytest.param("hnsw", marks=needs_faiss)])
def test_an_image_from_elsewhere_finds_its_nearest(place, capsys, kind):
    assert run(place / "e", place / "query.png", "--k", 5, "--index", kind) == 0
    said = capsys.readouterr().out
    best = expected(place, place / "query.png")[:5]
    rows = table(said)
    assert [rank for rank, *_ in rows] == [1, 2, 3, 4, 5]
    assert [path for *_, path in rows] == [path.relative_to(place / "images").as_posix() for _, path in best]
    assert [name for _, _, name, _ in rows] == [path.parent.name for _, path in best]
    np.testing.assert_allclose([score for _, score, *_ in rows], [score for score, _ in best], atol=1e-4)
    assert "30 embeddings searched in 0.0" in said and "of its class" not in said
    assert (place / "e" / "searches" / "query.png").exists()


def test_an_image_of_the_set_does_not_find_itself_and_knows_its_class(place, capsys):
    query = place / "images" / "b" / "4.png"
    assert run(place / "e", query, "--k", 29, "--no_picture") == 0
    said = capsys.readouterr().out
    assert [path for *_, path in table(said)] == [
        path.relative_to(place / "images").as_posix() for _, path in expected(place, query, left_out=query)]
    assert f"{query} (b): 9 of 29 are of its class" in said and not (place / "e" / "searches").exists()


@needs_faiss
def test_the_index_is_built_once_and_anew_where_the_embeddings_change(place, capsys):
    def said_by(*argv):
        assert run(*argv, "--no_picture") == 0
        return capsys.readouterr().out
    first = said_by(place / "e", place / "query.png")
    assert "built an index (there was none)" in first
    for way in (place / "e", place / "e" / "embeddings.npy", place / "e" / "index-flat"):
        assert table(said_by(way, place / "query.png")) == table(first)
        assert "built an index" not in said_by(way, place / "query.png")
    assert "built an index (as asked)" in said_by(place / "e", "--build", "--index", "ivf", "--ivf_lists", 3)
    assert "(ivf)" in said_by(place / "e" / "index-ivf", place / "query.png")
    content = (place / "e" / "index-flat" / "index.faiss").read_bytes()
    (place / "e" / "index-flat" / "index.faiss").write_bytes(content[:-4] + b"abcd")
    again = said_by(place / "e", place / "query.png")
    assert "not one that you wrote" in again and table(again) == table(first)
    np.save(place / "e" / "embeddings.npy", np.load(place / "e" / "embeddings.npy")[::-1])
    assert run(place / "e", place / "query.png") == 1 and "not the file" in capsys.readouterr().err
    (place / "e" / "embeddings.json").unlink()
    assert "of other embeddings" in said_by(place / "e", place / "query.png", "--checkpoint", place / "last.pt")


def test_the_picture_marks_what_is_known(place, monkeypatch):
    frames, add = [], Axes.add_patch
    monkeypatch.setattr(Axes, "add_patch", lambda self, patch: (frames.append(patch.get_edgecolor()), add(self, patch)))
    picture = place / "p.png"
    assert run(place / "e", place / "query.png", "--k", 15, "--picture", picture) == 0
    assert [to_rgba(QUIET)] * 15 == frames[1:]
    width, height = Image.open(picture).size
    assert width == 2 * EDGE + 13 * (CELL + GAP) + GAP                             # 12 hits across, 3 below
    assert height == TOP + EDGE + HEADING + 2 * (CELL + TEXT + GAP)
    frames.clear()
    assert run(place / "e", place / "query.png", "--k", 12, "--query_class", "a", "--picture", place / "q.png") == 0
    names = [path.parent.name for _, path in expected(place, place / "query.png")[:12]]
    assert frames[1:] == [to_rgba(HIT if name == "a" else MISS) for name in names]


def test_pictures_are_not_overwritten_and_missing_images_leave_a_gap(place, capsys):
    shutil.rmtree(place / "images")
    for name in ("query.png", "query-2.png"):
        assert run(place / "e", place / "query.png", place / "query.png", "--k", 2) == 0
        said = capsys.readouterr()
        assert f"The picture is {place / 'e' / 'searches' / name}." in said.out
        assert "4 images cannot be shown" in said.err and "--images" in said.err
    assert run(place / "e", place / "query.png", "--picture", place / "query.png") == 2
    assert "never overwritten" in capsys.readouterr().err


def test_the_network_is_the_one_that_made_the_embeddings(place, capsys):
    assert export.main([str(place / "last.pt"), "--format", "safetensors"]) == 0
    query = [place / "e", place / "query.png", "--no_picture"]
    assert run(*query) == 0
    right = table(capsys.readouterr().out)
    assert run(*query, "--checkpoint", place / "last-safetensors") == 0            # made from the same checkpoint
    said = capsys.readouterr()
    assert table(said.out) == right and "note" not in said.err
    save_network(place / "other.pt", seed=1)
    assert run(*query, "--checkpoint", place / "other.pt") == 0
    said = capsys.readouterr()
    assert "is not the checkpoint that made the embeddings" in said.err and table(said.out) != right
    save_network(place / "wide.pt", dim=16)
    assert run(*query, "--checkpoint", place / "wide.pt") == 2
    assert "16 dimensions and the embeddings 8" in capsys.readouterr().err
    shutil.copy(place / "other.pt", place / "last.pt")                             # trained on, say
    assert run(*query) == 2 and "has changed since" in capsys.readouterr().err
    (place / "last.pt").unlink()
    assert run(*query) == 2 and "not there any more" in capsys.readouterr().err


def test_embeddings_of_another_origin_need_a_checkpoint(place, capsys):
    (place / "e" / "embeddings.json").unlink()
    assert run(place / "e", place / "query.png") == 2 and "pass --checkpoint" in capsys.readouterr().err
    assert run(place / "e", place / "query.png", "--checkpoint", place / "last.pt", "--images", place / "images") == 0
    best = expected(place, place / "query.png")[0][1]
    said = capsys.readouterr()
    assert table(said.out)[0][3] == best.relative_to(place / "images").as_posix() and not said.err


@pytest.mark.parametrize("argv,code,words", [
    (["{x}/e", "{x}/absent.png"], 2, "absent.png: there is no such image"),
    (["{x}/e", "{x}/images"], 2, "there is no such image"),
    (["{x}/e", "{x}/last.pt"], 1, "last.pt: this image cannot be decoded"),
    (["{x}/e", "{x}/query.png", "--k", "31"], 2, "--k 31: a query can find at most 30"),
    (["{x}/e", "{x}/images/a/0.png", "--k", "30"], 2, "--k 30: a query can find at most 29"),
    (["{x}/images", "{x}/query.png"], 2, "holds no embeddings"), (["{x}/none", "{x}/query.png"], 2, "holds no embed"),
    (["{x}/e"], 2, "nothing to search for"), (["{x}/e", "{x}/query.png", "--ivf_probes", "3"], 2, "pass --index ivf"),
    (["{x}/e", "{x}/query.png", "--picture", "{x}/p.exe"], 1, "picture cannot be written"),
    (["{x}/e", "{x}/query.png", "--checkpoint", "{x}/query.png"], 1, "not a readable checkpoint"),
])
def test_what_cannot_be_done_is_one_sentence(place, capsys, argv, code, words):
    assert run(*[word.format(x=place) for word in argv]) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("evaluation.search: ") and words in said[0]


@pytest.mark.parametrize("name,text,code,words", [
    ("labels.csv", "path,label\na,0\n", 2, "1 lines for 30 rows"),
    ("labels.csv", "label\n" + "0\n" * 30, 2, "no column path"),
    ("embeddings.npy", "x", 2, "not a readable .npy"), ("embeddings.json", "{", 1, "is damaged"),
    ("embeddings.json", "[" * 100_000, 1, "is damaged"), ("embeddings.json", "{}", 1, "is damaged"),
])
def test_damaged_files_are_one_sentence(place, capsys, name, text, code, words):
    (place / "e" / name).write_text(text)
    assert run(place / "e", place / "query.png") == code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and words in said[0]


def test_names_from_files_cannot_command_the_terminal(place, capsys):
    table_file = place / "e" / "labels.csv"
    table_file.write_text(table_file.read_text().replace(",a\n", ",\x1b[2J\n"))
    assert run(place / "e", place / "query.png", "--no_picture", "--k", 30) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\N{REPLACEMENT CHARACTER}[2J" in said
    told = json.loads((place / "e" / "embeddings.json").read_text())
    told["preprocessing"]["image_size"] = "large"
    (place / "e" / "embeddings.json").write_text(json.dumps(told))
    assert run(place / "e", place / "query.png") == 1 and "is damaged" in capsys.readouterr().err
