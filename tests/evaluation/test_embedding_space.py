import numpy as np
import pytest
import torch

from evaluation.metrics import embedding_space
from evaluation.metrics.embedding_space import (
    dists_inter,
    dists_intra,
    dists_intra_over_inter,
    rho_spectrum,
    singular_values,
)
from tests.evaluation.sets import SETS, clusters
from tests.oracles import metrics as oracle
from utilities.errors import RunError


def scaled(seed, **shape):
    """Rows of different lengths: these metrics take them as given."""
    rows, label = clusters(seed, **shape)
    return rows * torch.rand(len(rows), 1, generator=torch.Generator().manual_seed(seed)).add(0.3), label


DATA = SETS | {"scaled": lambda: scaled(0), "line": lambda: scaled(1, width=1), "wide": lambda: scaled(2, width=2048),
               "zero_row": lambda: (torch.eye(4)[[0, 0, 1, 2, 3, 3]] * torch.tensor([[1.], [0], [2], [1], [1], [5]]),
                                    torch.tensor([0, 0, 0, 1, 1, 2]))}


def intra(rows, label):
    part, whole = dists_intra(rows, label)
    return (part.sum() / whole.sum()).item()


@pytest.mark.parametrize("data", DATA)
def test_dists_equal_their_definition(data):
    rows, label = DATA[data]()
    within = oracle.dists_intra(rows.numpy(), label.tolist())
    assert intra(rows, label) == pytest.approx(within, abs=1e-9)
    if data != "one_class":
        between = oracle.dists_inter(rows.numpy(), label.tolist())
        assert dists_inter(rows, label)[0].item() == pytest.approx(between, abs=1e-9)
        if between > 1e-6:
            assert dists_intra_over_inter(rows, label)[0].item() == pytest.approx(within / between, abs=1e-9)


@pytest.mark.parametrize("data", ["overlapping", "singletons", "ties", "scaled", "wide"])
def test_left_out_is_the_metric_of_the_other_classes(data):
    rows, label = DATA[data]()
    inter, ratio = dists_inter(rows, label), dists_intra_over_inter(rows, label)
    for i, out in enumerate(label.unique()):
        kept = rows[label != out].numpy(), label[label != out].tolist()
        between = oracle.dists_inter(*kept)
        assert inter[i + 1].item() == pytest.approx(between, abs=1e-9)
        assert ratio[i + 1].item() == pytest.approx(oracle.dists_intra(*kept) / between, abs=1e-9)


def test_dists_by_hand():
    rows = torch.tensor([[1.0, 0], [0, 2], [3, 0], [-1, 0], [0, 5]])
    label = torch.tensor([0, 0, 1, 1, 2])
    part, whole = dists_intra(rows, label)
    assert part.tolist() == [1, 2, 0] and whole.tolist() == [1, 1, 0]              # right angle, opposite, alone
    means = torch.tensor([[0.5, 1.0], [1.0, 0.0], [0.0, 2.5]])
    cosines = torch.nn.functional.cosine_similarity(means[[0, 0, 1]], means[[1, 2, 2]])
    assert dists_inter(rows, label)[0].item() == pytest.approx(1 - cosines.mean().item())


def test_all_classes_in_one_direction():
    rows, label = torch.ones(6, 3), torch.arange(6) // 2
    assert dists_inter(rows, label)[0].item() == pytest.approx(0, abs=1e-12)
    assert dists_intra_over_inter(rows, label)[0].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("m", [0, 1, 2, 5, -1, -2, -5])
@pytest.mark.parametrize("data", ["overlapping", "tight", "singletons", "scaled", "wide", "line"])
def test_rho_spectrum_equals_its_definition(data, m):
    rows, _ = DATA[data]()
    if abs(m) > min(rows.shape):
        pytest.skip("fewer values than are dropped")
    found = rho_spectrum(singular_values(rows), m)
    assert found.tolist() == [pytest.approx(oracle.rho_spectrum(rows.numpy(), m), abs=1e-9)]


def test_rho_spectrum_by_hand():
    rows = torch.diag(torch.tensor([6.0, 3.0, 1.0]))                               # s = .6 .3 .1
    value = singular_values(rows)
    assert rho_spectrum(value, 0).item() == pytest.approx(0.6)
    log = np.log
    assert rho_spectrum(value, 1).item() == pytest.approx(-(log(1.8) + log(0.9) + log(0.3)) / 3)
    assert rho_spectrum(value, -1).item() == pytest.approx(0.6 * log(1.8) + 0.3 * log(0.9) + 0.1 * log(0.3))
    assert rho_spectrum(value, 2).item() == pytest.approx(-(log(1.5) + log(0.5)) / 2)
    assert rho_spectrum(value, -2).item() == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5))
    assert rho_spectrum(value, 3).item() == 0
    assert rho_spectrum(singular_values(torch.eye(5)), 1).item() == pytest.approx(0)
    for m in (4, -4):
        with pytest.raises(RunError, match="may lie between -3 and 3"):
            rho_spectrum(value, m)


def test_rho_spectrum_of_a_flat_cloud_is_infinite_one_way():
    value = singular_values(SETS["collapsed"]()[0])
    assert value[0, 1:].tolist() == [0, 0] and rho_spectrum(value, 1).item() == torch.inf
    assert rho_spectrum(value, -1).item() == pytest.approx(np.log(3)) and rho_spectrum(value, 0).item() == 1


def test_singular_values_without_a_class():
    rows, label = scaled(3, classes=60, per_class=12)
    rows = rows * 0.7 ** torch.arange(8)                                           # axes that one class cannot turn far
    value = singular_values(rows, label)
    assert value.shape == (61, 8) and torch.equal(value[:1], singular_values(rows))
    exact = torch.stack([torch.linalg.svdvals(rows[label != out].double()) for out in range(60)])
    change, exact_change = value[1:] - value[0], exact - value[0]                  # (60, 8)
    assert ((change - exact_change).norm(dim=0) / exact_change.norm(dim=0)).max() < 0.2
    assert torch.allclose(value[1:].square().sum(1), exact.square().sum(1))
    alone = torch.diag(torch.tensor([5.0, 3.0, 2.0]))                              # a class an axis: no rotation
    assert singular_values(alone, torch.arange(3))[1:].square().round().tolist() == [[0, 9, 4], [25, 0, 4], [25, 9, 0]]


def test_in_small_blocks(monkeypatch):
    rows, label = scaled(4)
    whole = [dists_inter(rows, label), dists_intra(rows, label)[0], singular_values(rows, label)]
    monkeypatch.setattr(embedding_space, "BLOCK", 5)
    again = [dists_inter(rows, label), dists_intra(rows, label)[0], singular_values(rows, label)]
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(whole, again))


def test_refusals():
    rows, label = clusters(0)
    with pytest.raises(RunError, match="every class has a single image"):
        dists_intra(rows, torch.arange(len(rows)))
    with pytest.raises(RunError, match="there is one class"):
        dists_inter(rows, torch.zeros_like(label))
    with pytest.raises(RunError, match="all embeddings are zero"):
        singular_values(torch.zeros_like(rows))


@pytest.mark.gpu
def test_gpu_equals_cpu():
    rows, label = scaled(5)
    for metric in (dists_inter, dists_intra_over_inter, singular_values):
        assert torch.allclose(metric(rows.cuda(), label.cuda()).cpu(), metric(rows, label), rtol=1e-9)
