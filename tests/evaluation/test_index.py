"""Indexes: exact where they promise it, near where they do not, kept, rebuilt, and never read from strangers."""
import json

import pytest
import torch
from torch.nn.functional import normalize

from evaluation.ranking import nearest
from evaluation.ranking.exact import exact_similarity
from evaluation.ranking.neighbours import faiss_or_none
from evaluation.search import index as module
from evaluation.search.index import Settings, build, lists, load, open_index, save
from utilities import seal as seals
from utilities.errors import RunError, UsageError
from utilities.seal import is_sealed, seal

faiss = faiss_or_none()
needs_faiss = pytest.mark.skipif(faiss is None, reason="faiss is not installed")


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    """The key of the tests is not that of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def rows_of(number=3000, dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(50, dim, generator=generator)
    return normalize(centres[torch.arange(number) % 50] + torch.randn(number, dim, generator=generator), dim=1)


@pytest.mark.parametrize("with_faiss", [pytest.param(True, marks=needs_faiss), False])
def test_flat_is_the_ranking_of_the_evaluation_ties_and_all(monkeypatch, with_faiss):
    rows = rows_of(500)
    rows[100:130] = rows[7]                                                        # more duplicates than the margin
    query, k = rows[[7, 3, 499]], 20
    if not with_faiss:
        monkeypatch.setattr(module, "faiss_or_none", lambda: None)
    found = build("flat", rows, Settings())
    assert (found.index is not None) == with_faiss
    score, near = found.search(query, k)
    exact = exact_similarity(query, rows)
    order = exact.sort(dim=1, descending=True, stable=True)
    assert torch.equal(near, order.indices[:, :k]) and near[0, :5].tolist() == [7, 100, 101, 102, 103]
    torch.testing.assert_close(score, order.values[:, :k])
    assert torch.equal(near, nearest(query, rows, k)[1])


@needs_faiss
@pytest.mark.parametrize("kind,settings,least", [
    ("ivf", Settings(), 0.9), ("ivf", Settings(probes=10**6), 1.0), ("hnsw", Settings(search=128), 0.95)])
def test_approximate_indexes_find_most_with_exact_similarities(kind, settings, least):
    rows = rows_of()
    query = rows_of(200, seed=1)
    score, near = build(kind, rows, settings).search(query, 10)
    best = nearest(query, rows, 10)[1]
    recall = (near[:, :, None] == best[:, None]).any(2).float().mean().item()
    assert recall >= least
    torch.testing.assert_close(score, exact_similarity(query, rows).gather(1, near), rtol=1e-5, atol=1e-6)
    assert (score[:, :-1] >= score[:, 1:]).all()


@needs_faiss
def test_settings_do_what_they_say():
    rows = rows_of()
    few, many = (build("ivf", rows, Settings(lists=60, probes=probes)) for probes in (1, 60))
    query, best = rows_of(100, seed=1), None
    best = nearest(query, rows, 10)[1]
    recall = [(one.search(query, 10)[1][:, :, None] == best[:, None]).any(2).float().mean().item()
              for one in (few, many)]
    assert recall[0] < 0.9 < recall[1] == 1.0 and few.index.nlist == 60
    assert lists(60_000, Settings()) == 980 and lists(100, Settings()) == 2 and lists(3, Settings()) == 1
    graph = build("hnsw", rows, Settings(links=8, build=33, search=50))
    assert graph.index.hnsw.efConstruction == 33 and graph.index.hnsw.nb_neighbors(1) == 8
    graph.search(query, 10)
    assert graph.index.hnsw.efSearch == 50
    assert (build("ivf", rows[:4], Settings(lists=4, probes=1)).search(rows[:1], 4)[1] == -1).any()


def test_wrong_queries_are_one_sentence():
    index = build("flat", rows_of(20), Settings())
    for query, k, kind, words in ((torch.ones(1, 8), 3, UsageError, "8 dimensions and the embeddings 16"),
                                  (torch.ones(1, 16), 21, UsageError, "ask for 1 to 20"),
                                  (torch.ones(1, 16), 0, UsageError, "ask for 1 to 20"),
                                  (torch.full((1, 16), torch.nan), 3, RunError, "NaN")):
        with pytest.raises(kind, match=words):
            index.search(query, k)
    with pytest.raises(UsageError, match="Did you mean 'flat'"):
        build("flatt", rows_of(20), Settings())
    with pytest.raises(RunError, match="NaN"):
        build("flat", torch.full((2, 2), torch.nan), Settings())


@needs_faiss
@pytest.mark.parametrize("kind", module.KINDS)
def test_a_saved_index_answers_as_the_one_that_was_built(tmp_path, kind):
    rows, query = rows_of(), rows_of(20, seed=1)
    built, said = open_index(kind, tmp_path / "x", rows, "abc", Settings())
    assert said == f"{tmp_path / 'x'}: built an index (there was none)."
    again, said = open_index(kind, tmp_path / "x", rows, "abc", Settings())
    assert said is None
    for first, second in zip(built.search(query, 5), again.search(query, 5)):
        assert torch.equal(first, second)


@needs_faiss
def test_a_kept_index_is_taken_only_with_what_it_was_built_of(tmp_path):
    rows = rows_of(200)
    save(build("ivf", rows, Settings(lists=3)), tmp_path, "abc")
    assert load("ivf", tmp_path, rows, "abc", Settings()).index.nlist == 3         # not asked for: as it was built
    assert load("ivf", tmp_path, rows, "abc", Settings(lists=3, probes=2)).settings.probes == 2
    assert load("ivf", tmp_path, rows, "abc", Settings(lists=4)) == "the one there was built with other settings"
    assert load("ivf", tmp_path, rows, "abd", Settings()) == "the one there is of other embeddings"
    assert load("flat", tmp_path, rows, "abc", Settings()) == "the one there is of other embeddings"
    assert "as asked" in open_index("ivf", tmp_path, rows, "abc", Settings(), anew=True)[1]


@needs_faiss
def test_a_file_of_somebody_else_is_not_opened(tmp_path, monkeypatch):
    rows = rows_of(100)
    save(build("flat", rows, Settings()), tmp_path, "abc")
    monkeypatch.setattr(faiss, "read_index", lambda path: pytest.fail("it was opened"))
    told = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.faiss").write_bytes(b"IxFI" + b"\xff" * 64)
    assert load("flat", tmp_path, rows, "abc", Settings()) == "the file there is not one that you wrote"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "stranger"))               # sealed with another key
    (tmp_path / "index.json").write_text(json.dumps(told | {"seal": seal(tmp_path / "index.faiss")}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load("flat", tmp_path, rows, "abc", Settings()) == "the file there is not one that you wrote"
    for text in ("", "[]", "[" * 100_000, '{"kind": "flat"}', json.dumps(told | {"built": 3})):
        (tmp_path / "index.json").write_text(text)
        assert load("flat", tmp_path, rows, "abc", Settings()) == "the one there is damaged"
    monkeypatch.undo()


@needs_faiss
def test_where_it_cannot_be_kept_it_serves_all_the_same(tmp_path):
    rows = rows_of(100)
    index, said = open_index("flat", tmp_path / "no" / "such", rows, "abc", Settings())
    assert "which is not kept" in said and index.search(rows[:1], 1)[1].tolist() == [[0]]


def test_without_faiss_there_is_only_the_exact_search(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "faiss_or_none", lambda: None)
    index, said = open_index("flat", tmp_path / "x", rows_of(100), "abc", Settings())
    assert index.index is None and "faiss is not installed" in said and not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match="pip install faiss-cpu"):
        open_index("hnsw", tmp_path / "x", rows_of(100), "abc", Settings())


def test_a_seal_follows_the_content_and_the_key(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"1")
    first = seal(tmp_path / "a")
    assert is_sealed(tmp_path / "a", first) and len(first) == 64
    key = tmp_path / "cache" / "lm-metric" / "seal.key"
    assert len(key.read_bytes()) == 32 and key.stat().st_mode & 0o777 == 0o600
    (tmp_path / "a").write_bytes(b"2")
    assert not is_sealed(tmp_path / "a", first)
    (tmp_path / "a").write_bytes(b"1")
    assert is_sealed(tmp_path / "a", first) and not is_sealed(tmp_path / "a", "é")
    key.write_bytes(b"short")
    assert not is_sealed(tmp_path / "a", first) and not is_sealed(tmp_path / "a", seal(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    assert len(seals._key()) == 32
