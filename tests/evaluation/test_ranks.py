"""Ranks by counting and by lists against a full sort, for any tiles, thresholds and precision."""
import subprocess
import sys
from itertools import product
from unittest.mock import Mock

import pytest
import torch
from torch.nn.functional import normalize

from evaluation import evaluate
from evaluation.metrics.retrieval import relevant
from evaluation.ranking import Search, SearchOptions, class_ranks, counting, ranks
from evaluation.ranking.exact import exact_pairs
from evaluation.ranking.rows import plain_rows
from evaluation.ranking.spaces import euclidean
from tests.evaluation.sets import SETS, clusters, exact_similarity, generator, random_labels


def near_ties():
    """Three directions, rows around each closer together than float32 products can tell."""
    g = generator(0)
    centre = torch.randn(3, 40, generator=g).repeat(70, 1)
    rows = centre + 2e-7 * torch.randn(210, 40, generator=g)
    return normalize(rows, dim=1), random_labels(1, 9, 210)


def uneven():
    """Classes of 1 to 60 images."""
    size = [1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 25, 30, 45, 60]
    label = torch.arange(24).repeat_interleave(torch.tensor(size))
    g = generator(1)
    rows = torch.randn(24, 16, generator=g)[label] + 2 * torch.randn(len(label), 16, generator=g)
    order = torch.randperm(len(label), generator=g)
    return normalize(rows, dim=1)[order], label[order]


def as_they_are():
    """Rows that bfloat16 holds as they are, so that only the product is rounded."""
    rows, label = uneven()
    return rows.bfloat16().float(), label


DATA = SETS | {"near ties": near_ties, "uneven": uneven, "as they are": as_they_are}


def all_ranks(query, label, gallery, gallery_label, itself):
    """Each query's ranks of its class by sorting everything."""
    score = exact_similarity(query, gallery)
    if itself:
        score.fill_diagonal_(-torch.inf)
    order = score.sort(dim=1, descending=True, stable=True).indices
    near = order[:, :len(gallery) - itself]
    hits = gallery_label[near] == label[:, None]
    return [hit.nonzero()[:, 0].add(1).tolist() for hit in hits]


def found_ranks(query, label, gallery, gallery_label, itself, depth=torch.inf, reach=0,
                symmetric=False, **options):
    """The ranks that are found, [] for queries that are left out."""
    count = relevant(label, None if itself else gallery_label)
    options = SearchOptions("torch", **options)
    rows = plain_rows(query), plain_rows(gallery)
    search = Search(rows[0], label, count, rows[1], gallery_label, itself, symmetric, options)
    found = {}
    for part, rank in ranks(search, depth, reach):
        for i, row in zip(part.tolist(), rank.tolist()):
            assert i not in found, "a query comes twice"
            assert row == sorted(row)
            found[i] = [r for r in row if r < torch.inf]
    return [found.get(i, []) for i in range(len(label))]


ROUGH = {"has_fast_bfloat16": lambda device: True, "FEW_ROUGH": 0, "FEW_ROUGH_A_TARGET": 0}
SETTINGS = {
    "as it is": {},
    "float32": {"has_fast_bfloat16": lambda device: False},
    "bfloat16": ROUGH,
    "bfloat16, small tiles": ROUGH | {"TILE_SIDE": 29, "SCRATCH": 3000},
    "bfloat16 where few": ROUGH | {"TILE_SIDE": 29, "FEW_ROUGH": 32},
    "bfloat16 is never enough": ROUGH | {"TILE_SIDE": 29, "FEW_ROUGH": 10**9},
    "few pairs": {"FEW": 0},
    "small tiles": {"TILE_SIDE": 29, "SCRATCH": 300},
    "small tiles of few": {"TILE_SIDE": 29, "SCRATCH": 2000, "FEW": 0},
    "all pairs": {"FEW": 10**9, "CROWDED": 0},
    "exact only": {"FEW": 10**9, "CROWDED": 10**9},
}


@pytest.fixture(params=[*SETTINGS, "narrow parts"])
def setting(request, monkeypatch):
    """The ways in which ranks are counted."""
    monkeypatch.setattr(class_ranks, "ALWAYS_LISTED", 1000)
    for name, value in SETTINGS.get(request.param, {}).items():
        monkeypatch.setattr(counting, name, value)
    if request.param == "narrow parts":
        monkeypatch.setattr(class_ranks, "CELLS", 150)
        monkeypatch.setattr(class_ranks, "STEP", 3)


def test_the_ways_to_count_are_all_met(monkeypatch):
    """Each setting reaches the functions that it is for."""
    rows, label = near_ties()
    watched = {}
    for name in ("_count_pairs", "_count_all", "_count_exact_tile"):
        watched[name] = Mock(wraps=getattr(counting, name))
        monkeypatch.setattr(counting, name, watched[name])
    for setting in SETTINGS.values():
        with monkeypatch.context() as patch:
            for name, value in setting.items():
                patch.setattr(counting, name, value)
            found_ranks(rows, label, rows, label, True)
    assert all(function.called for function in watched.values())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("data", DATA)
def test_counted_ranks_are_those_of_a_sort(data, symmetric, setting):
    rows, label = DATA[data]()
    found = found_ranks(rows, label, rows, label, True, symmetric=symmetric)
    assert found == all_ranks(rows, label, rows, label, True)


@pytest.mark.parametrize("data", DATA)
def test_ranks_in_another_gallery(data, setting):
    rows, label = DATA[data]()
    # one class has nothing to find
    gallery_label = torch.where(label[1::2] == label[0], 99, label[1::2])
    sets = rows[::2], label[::2].contiguous(), rows[1::2], gallery_label, False
    assert found_ranks(*sets) == all_ranks(*sets)


@pytest.mark.parametrize("data", ["uneven", "near ties", "ties", "duplicates"])
def test_rows_of_any_length_by_distance(data, setting):
    rows, label = DATA[data]()
    length = torch.linspace(0.5, 2, len(rows)).round(decimals=1)
    query, gallery = euclidean(rows * length[:, None], rows)
    found = found_ranks(query, label, gallery, label, True)
    assert found == all_ranks(query, label, gallery, label, True)


@pytest.mark.parametrize(("precision", "symmetric"),
                         [("float32", True), ("float32", False), ("half", True)])
@pytest.mark.parametrize("depth", [1, 3, 20])
@pytest.mark.parametrize("data", DATA)
def test_lists_give_the_same_ranks(data, depth, precision, symmetric, monkeypatch):
    rows, label = DATA[data]()
    sets = rows, label, rows, label, True
    whole = all_ranks(*sets)
    monkeypatch.setattr(class_ranks, "LISTED", 0)
    for reach in (depth, torch.inf):
        found = found_ranks(*sets, depth, reach, symmetric, block=37, precision=precision)
        for mine, expected in zip(found, whole):
            assert [r for r in mine if r <= depth] == [r for r in expected if r <= depth]
            nothing_near = reach == depth and expected[0] > depth if expected else False
            assert mine[:1] == expected[:1] or nothing_near


@pytest.mark.parametrize("data", DATA)
def test_very_large_classes_are_listed_to_the_end(data, monkeypatch):
    rows, label = DATA[data]()
    monkeypatch.setattr(class_ranks, "ALWAYS_LISTED", 0)
    found = found_ranks(rows, label, rows, label, True, symmetric=True)
    assert found == all_ranks(rows, label, rows, label, True)


def test_large_classes_by_lists_and_by_counting(monkeypatch):
    label = torch.arange(50).repeat(30)
    rows = normalize(torch.randn(1500, 64, generator=generator(0)), dim=1)
    names = ["e_recall@1", "e_recall@100", "mrr", "precision@10", "r_precision", "mAP_r", "mAP_c"]
    by_lists = evaluate(rows, label, names)
    monkeypatch.setattr(class_ranks, "LISTED", 1000)
    assert evaluate(rows, label, names) == by_lists


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize(("depth", "reach"), [(3, torch.inf), (3, 20), (10, 10), (1, 1)])
def test_first_ranks_only(depth, reach, itself, setting):
    rows, label = uneven()
    sets = rows, label, rows, label, True
    if not itself:
        sets = rows[::2], label[::2].contiguous(), rows[1::2], label[1::2], False
    expected = []
    for row in all_ranks(*sets):
        first = [rank for rank in row[:1] if rank <= max(depth, reach)]
        expected.append(first + [rank for rank in row[1:] if rank <= depth])
    assert found_ranks(*sets, depth, reach, symmetric=itself) == expected


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_distance_ranks_as_the_true_distance(scale):
    rows = scale * torch.randn(80, 12, generator=generator(5)) + scale
    query, gallery = euclidean(rows, rows)
    rows = rows.double()
    order = torch.cdist(rows, rows).sort(1).indices
    found = exact_similarity(query, gallery).sort(dim=1, descending=True).indices
    assert torch.equal(found, order)
    score = rows @ rows.T - rows.square().sum(1) / 2
    error = query.double() @ gallery.double().T - score
    assert error.abs().max() <= 1e-14 * score.abs().max()


def test_rows_of_nearly_unit_length_are_ranked_by_distance():
    direction = torch.tensor([0.0, 0.04, 0.0, 2.0])
    length = torch.tensor([[1.0], [1.0], [1.05], [1.0]])
    rows = torch.stack([direction.cos(), direction.sin()], 1) * length
    found = evaluate(rows, torch.tensor([0, 0, 1, 1]), ["e_recall@1", "c_recall@1"])
    # nearest by distance: 1 0 0 1; by angle: 2 0 0 1
    assert found == {"e_recall@1": 0.5, "c_recall@1": 0.25}


def test_pairs_are_scored_as_tables_are():
    rows, _ = clusters(0)
    other, _ = clusters(1, per_class=3)
    i, j = torch.tensor(list(product(range(len(rows)), range(len(other))))).T
    table = exact_similarity(rows, other)
    rows = plain_rows(rows)
    other = plain_rows(other)
    assert torch.equal(exact_pairs(rows, other, i, j), table.flatten())
    assert torch.equal(exact_pairs(rows, other, i[::7], j[::7]), table.flatten()[::7])


def test_similarities_that_cancel_are_zero_however_they_are_computed():
    rows, _ = clusters(0, width=300)
    # q.g = |g|^2 / 2 for its own row
    query, gallery = euclidean(rows / 2, rows)
    own = torch.arange(len(rows))
    noise = (query.double() * gallery.double()).sum(1)
    assert noise.any()
    assert not exact_similarity(query, gallery).diagonal().any()
    assert not exact_pairs(plain_rows(query), plain_rows(gallery), own, own).any()
    assert not exact_similarity(torch.zeros(2, 3), torch.zeros(2, 3)).any()


def test_threads_give_the_same_and_stay_as_they_were():
    rows, label = uneven()
    names = ["mAP", "mrr", "precision@5", "mAP_r"]
    before = torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            found.append(evaluate(rows, label, names))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    assert found[0] == found[1]


MEMORY = """
import torch
from evaluation import evaluate
def peak():
    lines = open('/proc/self/status').read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1024
torch.manual_seed(0)
label = torch.randint(0, {classes}, (40000,))
rows = torch.randn({classes}, 64)[label] + torch.randn(40000, 64)
rows = torch.nn.functional.normalize(rows, dim=1)
evaluate(rows[:500], label[:500] % 9, {names})
before = peak()
evaluate(rows, label, {names})
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("names", ["e_recall@1 e_recall@1000 mrr mAP mAP_1000",
                                   "e_recall@1 mAP_r r_precision"])
@pytest.mark.parametrize("classes", [7000, 400])
def test_memory_beyond_the_embeddings_is_bounded(names, classes):
    code = MEMORY.format(classes=classes, names=names.split())
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    # MiB; all similarities take 6,100
    assert float(run.stdout) < 400
