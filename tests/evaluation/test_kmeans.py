import numpy as np
import pytest
import torch

from evaluation.metrics import kmeans as module
from evaluation.metrics.kmeans import kmeans
from tests.evaluation.sets import SETS, clusters, generator
from tests.oracles import metrics as oracle


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("width", [1, 2, 8, 2048])
@pytest.mark.parametrize("rounds", [0, 1, 3, 20])
def test_equal_to_lloyd(rounds, width, spherical):
    if spherical and width == 1:
        pytest.skip("on a line there are two directions")
    rows, _ = clusters(width, classes=5, per_class=16, width=width, noise=0.7)
    if not spherical:
        rows = rows * torch.rand(80, 1, generator=generator(1)).add(0.5)
    start = torch.randperm(80, generator=generator(4))[:5].tolist()
    expected = oracle.kmeans(rows.numpy(), start, rounds, spherical)
    found = kmeans(rows, 5, spherical=spherical, seed=4, rounds=rounds)
    assert found.tolist() == expected


@pytest.fixture
def by_comparing_everything(monkeypatch):
    """k-means that compares every row with every centre in each round."""
    def everything(rows, centre, distance, cluster, moved):
        return module._nearest(rows, centre, torch.ones_like(moved))

    def run(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(module, "_reassigned", everything)
            return kmeans(*arguments, **options)
    return run


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_many_small_clusters(by_comparing_everything, noise):
    rows, _ = clusters(0, classes=150, per_class=5, width=16, noise=noise)
    expected = by_comparing_everything(rows, 150, seed=1)
    assert torch.equal(kmeans(rows, 150, seed=1), expected)


@pytest.mark.parametrize("seed", range(5))
def test_ties(by_comparing_everything, seed, monkeypatch):
    """Centres rounded to halves, so that ties stay exact round after round."""
    rows = torch.randint(0, 9, (60, 2), generator=generator(seed)).float()
    recentred = module._recentred

    def rounded(*arguments):
        centre, moved = recentred(*arguments)
        return (2 * centre).round() / 2, moved

    monkeypatch.setattr(module, "_recentred", rounded)
    expected = by_comparing_everything(rows, 12, seed=seed)
    assert torch.equal(kmeans(rows, 12, seed=seed), expected)


def test_the_seed_decides():
    rows, _ = clusters(3, classes=8, per_class=20)
    found = kmeans(rows, 8, seed=5)
    assert torch.equal(found, kmeans(rows, 8, seed=5))
    others = [kmeans(rows, 8, seed=seed) for seed in range(5)]
    assert not all(torch.equal(found, other) for other in others)
    before = torch.get_rng_state()
    kmeans(rows, 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_cluster_stays_empty_while_rows_differ():
    # a random start is mostly row 0
    rows = torch.eye(6)[torch.tensor([0] * 30 + [1, 2, 3, 4, 5])]
    for seed in range(10):
        assert len(kmeans(rows, 6, seed=seed).unique()) == 6
    # six distinct rows
    assert len(kmeans(rows, 9, seed=0).unique()) == 6
    assert kmeans(torch.ones(12, 3), 4).unique().tolist() == [0]


@pytest.mark.parametrize("data", SETS)
def test_a_fixed_point(data):
    rows, label = SETS[data]()
    cluster = kmeans(rows, len(label.unique()), rounds=100)
    names, own = cluster.unique(return_inverse=True)
    centre = torch.stack([rows[cluster == k].double().mean(0) for k in names])
    distance = torch.cdist(rows.double(), centre)
    own_distance = distance.gather(1, own[:, None])[:, 0]
    assert (own_distance <= distance.min(1).values + 1e-6).all()


def test_as_many_clusters_as_rows():
    rows, _ = clusters(2, classes=3, per_class=4)
    assert sorted(kmeans(rows, 12).tolist()) == list(range(12))


def test_spherical_ignores_lengths_and_plain_does_not():
    rows, _ = clusters(9, classes=4, per_class=25, width=3)
    longer = rows * torch.rand(100, 1, generator=generator(0)).mul(5).add(0.1)
    expected = kmeans(rows, 4, spherical=True)
    assert torch.equal(kmeans(longer, 4, spherical=True), expected)
    assert not torch.equal(kmeans(longer, 4), kmeans(rows, 4))


def test_in_small_blocks(monkeypatch):
    rows, _ = clusters(4, classes=9, per_class=9)
    whole = kmeans(rows, 9)
    monkeypatch.setattr("evaluation.ranking.exact.CELLS", 40)
    assert torch.equal(kmeans(rows, 9), whole)
    # several tiles of centres
    monkeypatch.setattr(module, "TILE_SIDE", 4)
    assert torch.equal(kmeans(rows, 9), whole)


def test_rows_are_left_as_they_are():
    rows, _ = clusters(6)
    copy = rows.clone()
    found = kmeans(rows.requires_grad_(), 6, spherical=True)
    assert torch.equal(rows, copy)
    assert found.dtype == torch.long
    assert np.isfinite(found.numpy()).all()


@pytest.mark.gpu
def test_gpu_equals_cpu():
    rows, _ = clusters(0, classes=60, per_class=20, width=32, noise=0.5)
    expected = kmeans(rows, 60)
    assert torch.equal(kmeans(rows.cuda(), 60).cpu(), expected)
    assert torch.equal(kmeans(rows, 60, gpu=True), expected)
