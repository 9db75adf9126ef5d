"""Ranks by counting and by lists against a full sort, whatever the tiles, the thresholds and the precision."""
import subprocess
import sys

import pytest
import torch

from evaluation import evaluate
from evaluation.metrics.retrieval import relevant
from evaluation.ranking import counting, ranks
from evaluation.ranking.exact import euclidean, exact_pairs, exact_similarity
from evaluation.ranking.ranks import Search, rank_blocks
from tests.evaluation.sets import SETS, clusters


def near_ties():
    """Three directions, rows around each closer together than float32 products can tell."""
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 40, generator=g).repeat(70, 1) + 2e-7 * torch.randn(210, 40, generator=g)
    return torch.nn.functional.normalize(rows, dim=1), torch.randint(0, 9, (210,), generator=g)


def uneven():
    """Classes of 1 to 60 images."""
    label = torch.arange(24).repeat_interleave(torch.tensor([1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16,
                                                             18, 20, 25, 30, 45, 60]))
    g = torch.Generator().manual_seed(1)
    rows = torch.randn(24, 16, generator=g)[label] + 2 * torch.randn(len(label), 16, generator=g)
    order = torch.randperm(len(label), generator=g)
    return torch.nn.functional.normalize(rows, dim=1)[order], label[order]


def as_they_are():
    """Rows that bfloat16 holds as they are, so that only the product is rounded."""
    rows, label = uneven()
    return rows.bfloat16().float(), label


DATA = SETS | {"near ties": near_ties, "uneven": uneven, "as they are": as_they_are}


def sorted_ranks(query, label, gallery, there, itself):
    """Each query's ranks of its class by sorting everything."""
    score = exact_similarity(query, gallery)
    if itself:
        score.fill_diagonal_(-torch.inf)
    order = score.sort(dim=1, descending=True, stable=True).indices[:, :len(gallery) - itself]
    return [(there[near] == own).nonzero()[:, 0].add(1).tolist() for near, own in zip(order, label)]


def found_ranks(query, label, gallery, there, itself, depth, reach, symmetric=False, block=1024, precision="float32"):
    """The ranks that rank_blocks finds, and none for queries that it leaves out."""
    count = relevant(label, None if itself else there)
    search = Search(query, label, count, gallery, there, itself, symmetric, "torch", block, False, precision)
    found = [None] * len(label)
    for part, rank in rank_blocks(search, depth, reach):
        for i, row in zip(part.tolist(), rank.tolist()):
            assert found[i] is None, "a query comes twice"
            found[i] = [r for r in row if r < torch.inf]
            assert row[:len(found[i])] == found[i] == sorted(found[i])
    return [row or [] for row in found]


ROUGH, PLAIN = ((counting, "has_fast_bfloat16", lambda device, fast=fast: fast) for fast in (True, False))
SETTINGS = {"as it is": [], "plain": [PLAIN], "rough": [ROUGH, (counting, "ROUGH", 0)],
            "small tiles of rough few": [ROUGH, (counting, "ROUGH", 0), (counting, "SIDE", 29), (counting, "FEW", 0)],
            "small tiles of rough many": [ROUGH, (counting, "ROUGH", 0), (counting, "SIDE", 29),
                                          (counting, "FEW", 10**9)],
            "few pairs": [(counting, "FEW", 0)], "narrow parts": [(ranks, "CELLS", 150)],
            "small tiles": [(counting, "SIDE", 11), (counting, "SCRATCH", 30), (ranks, "STEP", 3)],
            "small tiles of few": [(counting, "SIDE", 29), (counting, "SCRATCH", 2000), (counting, "FEW", 0)],
            "all pairs": [(counting, "FEW", 10**9), (counting, "CROWDED", 0)],
            "exact only": [(counting, "FEW", 10**9), (counting, "CROWDED", 10**9)],
            "bisection": [(counting, "FEW", 10**9), (counting, "BISECTED", 1)]}


@pytest.fixture(params=SETTINGS)
def setting(request, monkeypatch):
    """The ways in which ranks are counted."""
    for module, name, value in SETTINGS[request.param]:
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("data", DATA)
def test_counted_ranks_are_those_of_a_sort(data, symmetric, setting):
    rows, label = DATA[data]()
    found = found_ranks(rows, label, rows, label, True, torch.inf, 0, symmetric=symmetric)
    assert found == sorted_ranks(rows, label, rows, label, True)


@pytest.mark.parametrize("data", DATA)
def test_ranks_in_a_gallery_apart(data, setting):
    rows, label = DATA[data]()
    among, there = rows[1::2], torch.where(label[1::2] == label[0], 99, label[1::2])   # one class has nothing to find
    sets = rows[::2], label[::2].contiguous(), among, there, False
    assert found_ranks(*sets, torch.inf, 0) == sorted_ranks(*sets)


@pytest.mark.parametrize("data", ["uneven", "near ties", "ties", "duplicates"])
def test_rows_of_any_length_by_distance(data, setting):
    rows, label = DATA[data]()
    query, gallery = euclidean(rows * torch.linspace(0.5, 2, len(rows)).round(decimals=1)[:, None], rows)
    assert found_ranks(query, label, gallery, label, True, torch.inf, 0) == sorted_ranks(
        query, label, gallery, label, True)


@pytest.mark.parametrize(("precision", "symmetric"), [("float32", True), ("float32", False), ("half", True)])
@pytest.mark.parametrize("depth", [1, 3, 20])
@pytest.mark.parametrize("data", DATA)
def test_lists_give_the_same_ranks_as_counting(data, depth, precision, symmetric, monkeypatch):
    rows, label = DATA[data]()
    whole = sorted_ranks(rows, label, rows, label, True)
    monkeypatch.setattr(ranks, "LISTED", 0)
    for reach in (depth, torch.inf):
        found = found_ranks(rows, label, rows, label, True, depth, reach, symmetric, 37, precision)
        for mine, all_of_them in zip(found, whole):
            assert [r for r in mine if r <= depth] == [r for r in all_of_them if r <= depth]
            assert mine[:1] == all_of_them[:1] or (reach == depth and all_of_them[0] > depth)


def test_large_classes_by_lists_and_by_counting(monkeypatch):
    label = torch.arange(50).repeat(30)
    rows = torch.nn.functional.normalize(torch.randn(1500, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    names = ["e_recall@1", "e_recall@100", "mrr", "precision@10", "r_precision", "mAP_r", "mAP_c"]
    by_lists = evaluate(rows, label, names)
    monkeypatch.setattr(ranks, "LISTED", 1000)
    assert evaluate(rows, label, names) == by_lists


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize(("depth", "reach"), [(3, torch.inf), (3, 20), (10, 10), (1, 1)])
def test_first_ranks_only(depth, reach, itself, setting):
    rows, label = uneven()
    sets = (rows, label, rows, label) if itself else (rows[::2], label[::2].contiguous(), rows[1::2], label[1::2])
    found = found_ranks(*sets, itself, depth, reach, symmetric=itself)
    assert found == [[rank for rank in row[:1] if rank <= max(depth, reach)]
                     + [rank for rank in row[1:] if rank <= depth] for row in sorted_ranks(*sets, itself)]


@pytest.mark.parametrize(("rows", "columns", "mirror"), [(1, 1, True), (2, 2, True), (5, 5, True), (6, 6, True),
                                                         (23, 23, True), (3, 20, False), (20, 3, False)])
def test_rounds_meet_every_pair_once(rows, columns, mirror):
    met = [tile for part in counting._rounds(rows, columns, mirror, 4) for tile in part]
    met = [tuple(sorted(tile)) if mirror else tile for tile in met]
    assert sorted(met) == [(i, j) for i in range(rows) for j in range(i if mirror else 0, columns)]


def test_distance_ranks_as_the_true_distance():
    g = torch.Generator().manual_seed(5)
    for scale in (1e-3, 1.0, 50.0):
        rows = scale * torch.randn(80, 12, generator=g) + scale
        query, gallery = euclidean(rows, rows)
        order = torch.cdist(rows.double(), rows.double()).sort(1).indices
        assert torch.equal(exact_similarity(query, gallery).sort(dim=1, descending=True).indices, order)
        score = rows.double() @ rows.double().T - rows.double().square().sum(1) / 2
        assert (query.double() @ gallery.double().T - score).abs().max() <= 1e-14 * score.abs().max()


def test_rows_of_nearly_unit_length_are_ranked_by_distance():
    direction = torch.tensor([0.0, 0.04, 0.0, 2.0])
    rows = torch.stack([direction.cos(), direction.sin()], 1) * torch.tensor([[1.0], [1.0], [1.05], [1.0]])
    found = evaluate(rows, torch.tensor([0, 0, 1, 1]), ["e_recall@1", "c_recall@1"])
    assert found == {"e_recall@1": 0.5, "c_recall@1": 0.25}   # nearest by distance: 1 0 0 1; by angle: 2 0 0 1


def test_pairs_are_scored_as_tables_are():
    rows, _ = clusters(0)
    other, _ = clusters(1, per_class=3)
    i, j = (torch.rand(len(rows), len(other), generator=torch.Generator().manual_seed(0)) < 0.05).nonzero(as_tuple=True)
    assert 0 < len(i) * 8 < len(rows) * len(other)
    assert torch.equal(exact_pairs(rows, other, i, j), exact_similarity(rows, other)[i, j])
    everything = torch.ones(len(rows), len(other)).nonzero(as_tuple=True)
    assert torch.equal(exact_pairs(rows, other, *everything), exact_similarity(rows, other).flatten())


def test_similarities_that_cancel_are_zero_however_they_are_computed():
    rows, _ = clusters(0, width=300)
    query, gallery = euclidean(rows / 2, rows)                                     # q.g = |g|^2 / 2 for its own row
    own = torch.arange(len(rows))
    noise = (query.double() * gallery.double()).sum(1)
    assert noise.any() and not exact_similarity(query, gallery).diagonal().any()
    assert not exact_pairs(query, gallery, own, own).any()
    assert not exact_similarity(torch.zeros(2, 3), torch.zeros(2, 3)).any()


def test_threads_give_the_same_and_stay_as_they_were():
    rows, label = uneven()
    names, before = ["mAP", "mrr", "precision@5", "mAP_r"], torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            found.append(evaluate(rows, label, names))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("names", ["e_recall@1 e_recall@1000 mrr mAP mAP_1000", "e_recall@1 mAP_r r_precision"])
@pytest.mark.parametrize("classes", [7000, 400])
def test_memory_beyond_the_embeddings_is_bounded(names, classes):
    code = f"""
import torch
from evaluation import evaluate
def peak(): return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 1024
torch.manual_seed(0)
label = torch.randint(0, {classes}, (40000,))
rows = torch.nn.functional.normalize(torch.randn({classes}, 64)[label] + torch.randn(40000, 64), dim=1)
evaluate(rows[:500], label[:500] % 9, {names.split()})
before = peak()
evaluate(rows, label, {names.split()})
print(peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 400                                                 # MiB; all similarities take 6,100
