from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.metrics import kmeans as module
from tests.evaluation.sets import SETS, clusters
from tests.oracles import metrics as oracle

WIDTHS = [1, 2, 8, 2048]


@pytest.fixture(params=["product", "rough product", "faiss"])
def kmeans(request, monkeypatch):
    """k-means on the rows' device, there from products in bfloat16 too, and as with faiss on a GPU, whose part its CPU
    search takes."""
    monkeypatch.setattr(module, "has_fast_bfloat16", lambda device: request.param == "rough product")
    if request.param == "rough product":
        monkeypatch.setattr(module, "SIDE", 2)
    if request.param != "faiss":
        return module.kmeans
    faiss = pytest.importorskip("faiss")
    gpu = SimpleNamespace(get_num_gpus=lambda: 1, StandardGpuResources=object,
                          knn_gpu=lambda resources, rows, centre, k: faiss.knn(rows, centre, k))
    monkeypatch.setattr(module, "faiss_or_none", lambda: gpu)
    return partial(module.kmeans, gpu=True)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rounds", [0, 1, 3, 20])
def test_equal_to_lloyd(kmeans, rounds, width, spherical):
    if spherical and width == 1:
        pytest.skip("on a line there are two directions")
    rows, _ = clusters(width, classes=5, per_class=16, width=width, noise=0.7)
    rows = rows if spherical else rows * torch.rand(80, 1, generator=torch.Generator().manual_seed(1)).add(0.5)
    start = torch.randperm(80, generator=torch.Generator().manual_seed(4))[:5].tolist()
    expected = oracle.kmeans(rows.numpy(), start, rounds, spherical)
    assert kmeans(rows, 5, spherical=spherical, seed=4, rounds=rounds).tolist() == expected


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_many_small_clusters_as_by_comparing_everything(kmeans, noise, monkeypatch):
    rows, _ = clusters(0, classes=150, per_class=5, width=16, noise=noise)

    def everything(rows, centre, distance, cluster, moved, nearest):
        return nearest(rows, centre)
    found = kmeans(rows, 150, seed=1)
    monkeypatch.setattr(module, "_reassigned", everything)
    assert torch.equal(found, kmeans(rows, 150, seed=1))


def test_rows_that_only_a_rounded_product_confuses(kmeans):
    """bfloat16 holds the rows as they are, but not their products, which differ by less than its steps."""
    g = torch.Generator().manual_seed(0)
    rows = (1 + 0.05 * torch.randn(90, 16, generator=g)).bfloat16().float()
    start = torch.randperm(90, generator=torch.Generator().manual_seed(4))[:12].tolist()
    assert kmeans(rows, 12, seed=4, rounds=0).tolist() == oracle.kmeans(rows.numpy(), start, 0, False)


def test_centres_too_near_for_rough_products(kmeans, monkeypatch):
    rows, _ = clusters(0, classes=9, per_class=9)
    found = kmeans(rows, 9)
    monkeypatch.setattr(module, "LEFT", 0)
    assert torch.equal(kmeans(rows, 9), found)


@pytest.mark.parametrize("seed", range(5))
def test_ties_as_by_comparing_everything(kmeans, seed, monkeypatch):
    rows = torch.randint(0, 9, (60, 2), generator=torch.Generator().manual_seed(seed)).float()
    monkeypatch.setattr("evaluation.metrics.kmeans._recentred", halves(module._recentred))
    found = kmeans(rows, 12, seed=seed)
    monkeypatch.setattr(module, "_reassigned", lambda rows, centre, d, c, moved, nearest: nearest(rows, centre))
    assert torch.equal(found, kmeans(rows, 12, seed=seed))


def halves(recentred):
    """Centres rounded to halves, so that ties stay exact round after round."""
    def rounded(*arguments):
        centre, moved = recentred(*arguments)
        return (2 * centre).round() / 2, moved
    return rounded


def test_faiss_and_the_product_agree(kmeans):
    rows, _ = clusters(5, classes=60, per_class=6, width=32)
    assert torch.equal(kmeans(rows, 60, seed=2), module.kmeans(rows, 60, seed=2))


def test_the_seed_decides(kmeans):
    rows, _ = clusters(3, classes=8, per_class=20)
    assert torch.equal(kmeans(rows, 8, seed=5), kmeans(rows, 8, seed=5))
    assert any(not torch.equal(kmeans(rows, 8, seed=5), kmeans(rows, 8, seed=s)) for s in range(5))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    kmeans(rows, 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_cluster_stays_empty_while_rows_differ(kmeans):
    rows = torch.eye(6)[torch.tensor([0] * 30 + [1, 2, 3, 4, 5])]                  # a random start is mostly row 0
    for seed in range(10):
        assert len(kmeans(rows, 6, seed=seed).unique()) == 6
    assert len(kmeans(rows, 9, seed=0).unique()) == 6                              # six distinct rows
    assert kmeans(torch.ones(12, 3), 4).unique().tolist() == [0]


@pytest.mark.parametrize("data", SETS)
def test_a_fixed_point(kmeans, data):
    rows, label = SETS[data]()
    number = len(label.unique())
    cluster = kmeans(rows, number, rounds=100)
    centre = torch.stack([rows[cluster == k].double().mean(0) for k in cluster.unique()])
    distance = torch.cdist(rows.double(), centre)
    own = torch.searchsorted(cluster.unique(), cluster)
    assert (distance[torch.arange(len(rows)), own] <= distance.min(1).values + 1e-6).all()


def test_as_many_clusters_as_rows(kmeans):
    rows, _ = clusters(2, classes=3, per_class=4)
    assert sorted(kmeans(rows, len(rows)).tolist()) == list(range(len(rows)))


def test_spherical_ignores_lengths_and_plain_does_not(kmeans):
    rows, _ = clusters(9, classes=4, per_class=25, width=3)
    longer = rows * torch.rand(100, 1, generator=torch.Generator().manual_seed(0)).mul(5).add(0.1)
    assert torch.equal(kmeans(longer, 4, spherical=True), kmeans(rows, 4, spherical=True))
    assert not torch.equal(kmeans(longer, 4), kmeans(rows, 4))


def test_in_small_blocks(kmeans, monkeypatch):
    rows, _ = clusters(4, classes=9, per_class=9)
    whole = kmeans(rows, 9)
    monkeypatch.setattr("evaluation.ranking.exact.CELLS", 40)
    assert torch.equal(kmeans(rows, 9), whole)
    monkeypatch.setattr("evaluation.metrics.kmeans.SIDE", 4)                                # several tiles of centres
    assert torch.equal(kmeans(rows, 9), whole)


def test_rows_are_left_as_they_are(kmeans):
    rows, _ = clusters(6)
    copy = rows.clone()
    found = kmeans(rows.requires_grad_(), 6, spherical=True)
    assert torch.equal(rows, copy) and found.dtype == torch.long and np.isfinite(found.numpy()).all()


@pytest.mark.gpu
def test_gpu_equals_cpu():
    rows, _ = clusters(0, classes=60, per_class=20, width=32, noise=0.5)
    expected = module.kmeans(rows, 60)
    assert torch.equal(module.kmeans(rows.cuda(), 60).cpu(), expected)
    assert torch.equal(module.kmeans(rows, 60, gpu=True), expected)
