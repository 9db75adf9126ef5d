"""The search command: what it finds, prints and draws, and one sentence for what it cannot."""
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
from evaluation.embed.command import main as embed
from evaluation.report.canvas import CELL, EDGE, GAP, HEADING, HIT, MISS, QUIET, TEXT, TOP
from evaluation.search import EmbeddedSet, find
from evaluation.search.command import main
from evaluation.search.embedded_set import read_set
from evaluation.search.queries import embed_queries, network_of
from tests.evaluation.sets import exact_similarity
from utilities import checkpoint
from utilities.errors import RunError, UsageError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint, a query, and a folder of thirty images in three classes."""
    place = tmp_path_factory.mktemp("search")
    random = np.random.default_rng(0)
    for i in range(30):
        folder = place / "images" / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(256, size=(16, 22, 3), dtype=np.uint8) // 2 + 60 * (i % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    query = random.integers(256, size=(23, 16, 3), dtype=np.uint8)
    Image.fromarray(query).save(place / "query.png")
    save_network(place / "last.pt")
    return place


def save_network(path, dim=8, seed=0, arch="convnet_normalize", side=16):
    """A checkpoint of a network whose rows differ from image to image; side: of its input."""
    torch.manual_seed(seed)
    memory = select_memory("realnvp", dim, hidden=16)
    model = architectures.select(arch, embed_dim=dim, pretrained=False, memory=memory)
    noise = torch.randn(200, 3, 16, 16)
    with torch.no_grad():
        # gives batch norm its statistics
        for _ in range(40):
            model(noise)
        model.eval().projection.bias.sub_(model(noise).embedding.mean(0))
        model.projection.weight.mul_(10)
    options = {"arch": arch, "embed_dim": dim, "memory": "realnvp", "memory_hidden": 16, "bs": 7,
               "image_size": side, "amp": "none"}
    checkpoint.save(path, {"network": model.state_dict(), "options": options})


@pytest.fixture
def place(made, tmp_path):
    """A copy of it, with embeddings in `e`."""
    place = tmp_path / "x"
    shutil.copytree(made, place)
    argv = [place / "last.pt", place / "images", "--out", place / "e", "--device", "cpu"]
    assert embed([str(word) for word in argv]) == 0
    return place


def run(*argv):
    return main([str(word) for word in argv] + ["--device", "cpu"])


def table(out):
    """(rank, similarity, class, path) of each line of the tables."""
    lines = [line for line in out.splitlines() if line.startswith("  ")]
    cells = [line.split() for line in lines if "similarity" not in line]
    return [(int(rank), float(score), name, path) for rank, score, name, path in cells]


def paths_of(out):
    return [path for *_, path in table(out)]


def expected(place, query, left_out=None):
    """(similarity, path), nearest first, by a loop over files: decode, crop the centre, embed."""
    network, _ = architectures.restore(place / "last.pt")

    def embedding(path):
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        top, left = (round((side - 16) / 2) for side in pixels.shape[1:])
        crop = pixels[:, top:top + 16, left:left + 16]
        return network.embed(((crop / 255 - 0.5) / 0.5)[None])[0]
    files = [path for path in sorted((place / "images").rglob("*.png")) if path != left_out]
    scores = torch.stack([embedding(path) for path in files]) @ embedding(query)
    order = scores.argsort(descending=True)
    return [(scores[i].item(), files[i].relative_to(place / "images")) for i in order]


# ------------------------------------------------------------ what it finds


def test_an_image_from_elsewhere_finds_its_nearest(place, capsys):
    assert run(place / "e", place / "query.png", "--k", 5) == 0
    said = capsys.readouterr().out
    best = expected(place, place / "query.png")[:5]
    ranks, scores, names, paths = zip(*table(said))
    assert ranks == (1, 2, 3, 4, 5)
    assert paths == tuple(path.as_posix() for _, path in best)
    assert names == tuple(path.parent.name for _, path in best)
    np.testing.assert_allclose(scores, [score for score, _ in best], atol=1e-4)
    assert "30 embeddings searched in 0.0" in said
    assert "of its class" not in said
    assert (place / "e" / "searches" / "query.png").exists()


def test_an_image_of_the_set_does_not_find_itself_and_knows_its_class(place, capsys):
    query = place / "images" / "b" / "4.png"
    assert run(place / "e" / "embeddings.npy", query, "--k", 29, "--no_picture") == 0
    said = capsys.readouterr().out
    best = expected(place, query, left_out=query)
    assert paths_of(said) == [path.as_posix() for _, path in best]
    assert f"{query} (b): 9 of 29 are of its class" in said
    assert not (place / "e" / "searches").exists()


def test_an_image_is_known_by_its_link_and_by_what_leads_to_it(tmp_path):
    root = tmp_path / "root"
    (tmp_path / "real").mkdir()
    (root / "1").mkdir(parents=True)
    for path in (tmp_path / "real" / "a.png", root / "1" / " b.png"):
        path.touch()
    (root / "0").symlink_to(tmp_path / "real")
    (root / "1" / "c.png").symlink_to(tmp_path / "real" / "a.png")
    (tmp_path / "other").symlink_to(root)
    names = ["0/a.png", "1/ b.png", "1/c.png"]
    lines = [{"path": name, "label": "0"} for name in names]
    rows = EmbeddedSet("embeddings.npy", torch.eye(3), lines, {}, root)
    for place in (root, tmp_path / "other"):
        assert [rows.row_of(place / name) for name in names] == [0, 1, 2]
    assert rows.row_of(tmp_path / "real" / "a.png") is None
    (tmp_path / "direct.png").symlink_to(root / "1" / " b.png")
    assert rows.row_of(tmp_path / "direct.png") == 1


def test_the_class_of_a_query_is_that_of_its_exact_name():
    lines = [{"path": f"{i}", "label": f"{i}", "class": name} for i, name in enumerate(["0", "00", "01"])]
    rows = EmbeddedSet("embeddings.npy", torch.eye(3), lines, {}, None)
    for given, name in [("00", "00"), ("0", "0"), ("1", "01")]:
        (result,) = find(rows, torch.ones(1, 3), [None], 3, query_class=given)
        assert result.class_name == name
        assert [hit.right for hit in result.hits].count(True) == 1


def test_a_set_of_the_query_alone_says_so(tmp_path):
    with pytest.raises(UsageError, match="holds the query alone"):
        find(set_of(torch.ones(1, 2), tmp_path), torch.ones(1, 2), [tmp_path / "0.png"], 1)


def set_of(rows, root=None):
    """The rows as a set whose images are 0.png, 1.png ... of class 0."""
    lines = [{"path": f"{i}.png", "label": "0"} for i in range(len(rows))]
    return EmbeddedSet("embeddings.npy", rows, lines, {}, root)


def test_the_ranking_is_exact_and_ties_go_to_the_lower_row():
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(500, 16, generator=generator), dim=1)
    # more duplicates than a fast search looks at
    rows[100:130] = rows[7]
    query = rows[[7, 3, 499]]
    results = find(set_of(rows), query, ["x.png"] * 3, 20)
    order = exact_similarity(query, rows).sort(dim=1, descending=True, stable=True)
    for result, scores, indices in zip(results, order.values, order.indices):
        assert [hit.listed for hit in result.hits] == [f"{i}.png" for i in indices[:20]]
        similarity = torch.tensor([hit.similarity for hit in result.hits])
        torch.testing.assert_close(similarity, scores[:20].float())
    nearest = [hit.listed for hit in results[0].hits[:3]]
    assert nearest == ["7.png", "100.png", "101.png"]


def test_each_query_leaves_out_its_own_row_alone(tmp_path):
    rows = torch.eye(4)
    rows[3] = rows[0]
    paths = [tmp_path / "0.png", tmp_path / "elsewhere.png"]
    first, second = find(set_of(rows, tmp_path), rows[[0, 0]], paths, 3)
    assert [hit.listed for hit in first.hits] == ["3.png", "1.png", "2.png"]
    assert [hit.right for hit in first.hits] == [True] * 3
    assert [hit.listed for hit in second.hits] == ["0.png", "3.png", "1.png"]
    assert [hit.right for hit in second.hits] == [None] * 3


@pytest.mark.parametrize("query, k, kind, words", [
    (torch.ones(1, 8), 3, UsageError, "8 dimensions and the embeddings 16"),
    (torch.ones(1, 16), 21, UsageError, "ask for 1 to 20"),
    (torch.ones(1, 16), 0, UsageError, "--k: 0 is not a whole number of at least 1"),
    (torch.ones(1, 16), 2.5, UsageError, "--k: 2.5 is not a whole number"),
    (torch.full((1, 16), torch.nan), 3, RunError, "NaN"),
])
def test_queries_that_do_not_fit_are_one_sentence(query, k, kind, words):
    with pytest.raises(kind, match=words):
        find(set_of(torch.ones(20, 16)), query, ["x.png"], k)


def test_embeddings_that_are_not_numbers_are_one_sentence():
    with pytest.raises(RunError, match="NaN"):
        find(set_of(torch.full((2, 2), torch.nan)), torch.ones(1, 2), ["x.png"], 1)


# ------------------------------------------------------------ context


def in_context(row, others, k, power):
    """Row (D,) with the context of others (N, D), float64."""
    score = others @ row
    nearest = score.argsort(descending=True)[:k]
    weight = score[nearest].clamp(min=0) ** power
    mean = weight @ others[nearest] / weight.sum()
    return torch.nn.functional.normalize(row + mean, dim=0)


@pytest.mark.parametrize("name", ["query.png", "images/b/4.png"])
def test_a_query_takes_stored_rows_and_finds_rows_with_context(place, capsys, name):
    embedded = torch.from_numpy(np.load(place / "e" / "embeddings.npy")).double()
    listed = [line.split(",")[0] for line in (place / "e" / "labels.csv").read_text().split()[1:]]
    stored = []
    for i, row in enumerate(embedded):
        others = torch.cat([embedded[:i], embedded[i + 1:]])
        stored.append(in_context(row, others, 4, 3))
    own = listed.index(name.removeprefix("images/")) if name != "query.png" else None
    if own is None:
        network = network_of(read_set(str(place / "e")), None, torch.device("cpu"))
        query = in_context(embed_queries(network, [place / name])[0].double(), embedded, 4, 3)
    else:
        query = stored[own]
    score = torch.stack(stored) @ query
    order = [i for i in score.argsort(descending=True).tolist() if i != own]
    argv = [place / "e", place / name, "--k", 29, "--no_picture"]
    assert run(*argv) == 0
    plain = paths_of(capsys.readouterr().out)
    assert run(*argv, "--eval_context", 4) == 0
    said = capsys.readouterr().out
    assert paths_of(said) == [listed[i] for i in order[:29]]
    assert paths_of(said) != plain
    found = [similarity for _, similarity, *_ in table(said)]
    np.testing.assert_allclose(found, [score[i].item() for i in order[:29]], atol=1e-4)
    assert "30 embeddings with the context of 4 neighbours searched" in said


def test_rows_that_have_context_are_not_given_it_again(place, capsys):
    argv = [place / "last.pt", place / "images", "--out", place / "c", "--device", "cpu"]
    assert embed([str(word) for word in argv] + ["--eval_context", "3"]) == 0
    query = [place / "c", place / "query.png", "--no_picture"]
    capsys.readouterr()
    assert run(*query, "--eval_context", 3) == 2
    assert "cannot take it twice" in capsys.readouterr().err
    assert run(*query) == 0
    assert "have context, which queries are not given" in capsys.readouterr().err
    assert run(place / "e", *query[1:], "--eval_context", 30) == 2
    assert "pass at most 29" in capsys.readouterr().err


# ------------------------------------------------------------ the picture


def test_the_picture_marks_what_is_known(place, monkeypatch):
    frames = []
    add = Axes.add_patch

    def note_colour(self, patch):
        frames.append(patch.get_edgecolor())
        return add(self, patch)
    monkeypatch.setattr(Axes, "add_patch", note_colour)
    query = [place / "e", place / "query.png"]
    assert run(*query, "--k", 15, "--picture", place / "p.png") == 0
    assert frames[1:] == [to_rgba(QUIET)] * 15
    width, height = Image.open(place / "p.png").size
    # 12 hits in the first row, 3 below
    assert width == 2 * EDGE + 13 * (CELL + GAP) + GAP
    assert height == TOP + EDGE + HEADING + 2 * (CELL + TEXT + GAP)
    frames.clear()
    assert run(*query, "--k", 12, "--query_class", "a", "--picture", place / "q.png") == 0
    names = [path.parent.name for _, path in expected(place, place / "query.png")[:12]]
    assert frames[1:] == [to_rgba(HIT if name == "a" else MISS) for name in names]


def test_pictures_are_not_overwritten_and_missing_images_leave_a_gap(place, capsys):
    shutil.rmtree(place / "images")
    for name in ("query.png", "query-2.png", "query-3.png"):
        assert run(place / "e", place / "query.png", place / "query.png", "--k", 2) == 0
        said = capsys.readouterr()
        assert f"The picture is {place / 'e' / 'searches' / name}." in said.out
        assert "4 images cannot be shown" in said.err
        assert "--images" in said.err
    assert run(place / "e", place / "query.png", "--picture", place / "query.png") == 2
    assert "never overwritten" in capsys.readouterr().err


# ------------------------------------------------------------ the network


def test_the_network_is_the_one_that_made_the_embeddings(place, capsys):
    assert export.main([str(place / "last.pt"), "--format", "safetensors"]) == 0
    query = [place / "e", place / "query.png", "--no_picture"]
    assert run(*query) == 0
    right = table(capsys.readouterr().out)
    # an export of the same checkpoint
    assert run(*query, "--checkpoint", place / "last-safetensors") == 0
    said = capsys.readouterr()
    assert table(said.out) == right
    assert "note" not in said.err
    save_network(place / "other.pt", seed=1)
    assert run(*query, "--checkpoint", place / "other.pt") == 0
    said = capsys.readouterr()
    assert "is not the checkpoint that made the embeddings" in said.err
    assert table(said.out) != right
    save_network(place / "wide.pt", dim=16)
    assert run(*query, "--checkpoint", place / "wide.pt") == 2
    assert "16 dimensions and the embeddings 8" in capsys.readouterr().err
    # as if training had gone on
    shutil.copy(place / "other.pt", place / "last.pt")
    assert run(*query) == 2
    assert "has changed since" in capsys.readouterr().err
    (place / "last.pt").unlink()
    assert run(*query) == 2
    assert "not there any more" in capsys.readouterr().err


def test_embeddings_of_another_origin_need_a_checkpoint(place, capsys):
    (place / "e" / "embeddings.json").unlink()
    query = [place / "e", place / "query.png"]
    assert run(*query) == 2
    assert "pass --checkpoint" in capsys.readouterr().err
    more = ["--checkpoint", place / "last.pt", "--images", place / "images"]
    assert run(*query, *more) == 0
    _, best = expected(place, place / "query.png")[0]
    said = capsys.readouterr()
    assert paths_of(said.out)[0] == best.as_posix()
    assert not said.err


# ------------------------------------------------------------ what it cannot


@pytest.mark.parametrize("argv, code, words", [
    ("{x}/e {x}/absent.png", 2, "absent.png: there is no such image"),
    ("{x}/e {x}/empty", 2, "there is no such image"),
    ("{x}/e {x}/last.pt", 1, "last.pt: this image cannot be decoded"),
    ("{x}/e {x}/query.png --json {x}/query.png", 2, "query.png is there already"),
    ("{x}/e {x}/query.png --images {x}/none", 2, "none: there is no such folder"),
    ("{x}/e {x}/query.png --k 31", 2, "--k 31: a query can find at most 30"),
    ("{x}/e {x}/images/a/0.png --k 30", 2, "--k 30: a query can find at most 29"),
    ("{x}/images {x}/query.png", 2, "holds no embeddings"),
    ("{x}/none {x}/query.png", 2, "holds no embed"),
    ("{x}/e {x}/query.png --picture {x}/p.exe", 2, "p.exe: the name must end in one of .png"),
    ("{x}/e {x}/query.png --json {x}/none/a.json", 2, "there is no folder"),
    ("{x}/e {x}/query.png --picture {x}/p.png --no_picture", 2, "contradict each other"),
    ("{x}/e {x}/query.png --picture {x}/p.png --json {x}/e/../p.png", 2, "name two files"),
    ("{x}/e {x}/query.png --checkpoint {x}/query.png", 1, "not a readable checkpoint"),
])
def test_what_cannot_be_done_is_one_sentence(place, capsys, argv, code, words):
    assert run(*argv.format(x=place).split()) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("evaluation.search: ")
    assert words in said[0]


def test_a_query_must_be_named(place, capsys):
    with pytest.raises(SystemExit) as stop:
        run(place / "e")
    assert stop.value.code == 2
    words = "evaluation.search: the following arguments are required: QUERY"
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name, text, code, words", [
    ("labels.csv", "path,label\na,0\n", 2, "1 line for 30 rows"),
    ("labels.csv", "label\n" + "0\n" * 30, 2, "no column path"),
    ("embeddings.npy", "x", 2, "not a readable .npy"),
    ("embeddings.json", "{", 1, "is damaged"),
    ("embeddings.json", "[" * 100_000, 1, "is damaged"),
    ("embeddings.json", "{}", 1, "is damaged"),
])
def test_damaged_files_are_one_sentence(place, capsys, name, text, code, words):
    (place / "e" / name).write_text(text)
    assert run(place / "e", place / "query.png") == code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert words in said[0]


def test_embeddings_that_have_changed_are_refused(place, capsys):
    file = place / "e" / "embeddings.npy"
    np.save(file, np.load(file)[::-1])
    assert run(place / "e", place / "query.png") == 1
    assert "is not the file that embeddings.json beside it describes" in capsys.readouterr().err


def test_a_setting_of_another_kind_is_damage(place, capsys):
    file = place / "e" / "embeddings.json"
    description = json.loads(file.read_text())
    description["preprocessing"]["image_size"] = "large"
    file.write_text(json.dumps(description))
    assert run(place / "e", place / "query.png") == 1
    assert "is damaged" in capsys.readouterr().err


def test_names_from_files_cannot_command_the_terminal(place, capsys):
    labels = place / "e" / "labels.csv"
    labels.write_text(labels.read_text().replace(",a\n", ",\x1b[2J\n"))
    assert run(place / "e", place / "query.png", "--no_picture", "--k", 30) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"\x1b[2J" in said


def test_an_empty_query_is_refused(place, capsys):
    assert run(place / "e", "", place / "query.png") == 2
    assert "one of these is empty" in capsys.readouterr().err
