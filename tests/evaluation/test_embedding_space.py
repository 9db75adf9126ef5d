from math import log

import pytest
import torch
from torch.nn.functional import cosine_similarity

from evaluation.metrics import embedding_space
from evaluation.metrics.embedding_space import (
    dists_inter,
    dists_intra,
    dists_intra_over_inter,
    rho_spectrum,
    singular_values,
)
from tests.evaluation.sets import SETS, clusters, generator
from tests.oracles import metrics as oracle
from utilities.errors import RunError


def scaled(seed, **shape):
    """Rows of different lengths: these metrics take them as given."""
    rows, label = clusters(seed, **shape)
    return rows * torch.rand(len(rows), 1, generator=generator(seed)).add(0.3), label


def zero_row():
    length = torch.tensor([1.0, 0, 2, 1, 1, 5])
    return torch.eye(4)[[0, 0, 1, 2, 3, 3]] * length[:, None], torch.tensor([0, 0, 0, 1, 1, 2])


DATA = SETS | {
    "scaled": lambda: scaled(0),
    "line": lambda: scaled(1, width=1),
    "wide": lambda: scaled(2, width=2048),
    "zero_row": zero_row,
}


def near(value):
    return pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("data", DATA)
def test_dists_equal_their_definition(data):
    rows, label = DATA[data]()
    within = oracle.dists_intra(rows.numpy(), label.tolist())
    part, whole = dists_intra(rows, label)
    assert (part.sum() / whole.sum()).item() == near(within)
    if data == "one_class":
        return
    between = oracle.dists_inter(rows.numpy(), label.tolist())
    assert dists_inter(rows, label)[0].item() == near(between)
    if between > 1e-6:
        assert dists_intra_over_inter(rows, label)[0].item() == near(within / between)


@pytest.mark.parametrize("data", ["overlapping", "singletons", "ties", "scaled", "wide"])
def test_left_out_is_the_metric_of_the_other_classes(data):
    rows, label = DATA[data]()
    inter = dists_inter(rows, label).tolist()
    ratio = dists_intra_over_inter(rows, label).tolist()
    for i, out in enumerate(label.unique(), start=1):
        kept = rows[label != out].numpy(), label[label != out].tolist()
        between = oracle.dists_inter(*kept)
        assert inter[i] == near(between)
        assert ratio[i] == near(oracle.dists_intra(*kept) / between)


def test_dists_by_hand():
    rows = torch.tensor([[1.0, 0], [0, 2], [3, 0], [-1, 0], [0, 5]])
    label = torch.tensor([0, 0, 1, 1, 2])
    part, whole = dists_intra(rows, label)
    # right angle, opposite, alone
    assert part.tolist() == [1, 2, 0]
    assert whole.tolist() == [1, 1, 0]
    means = torch.tensor([[0.5, 1.0], [1.0, 0.0], [0.0, 2.5]])
    cosines = cosine_similarity(means[[0, 0, 1]], means[[1, 2, 2]])
    assert dists_inter(rows, label)[0].item() == pytest.approx(1 - cosines.mean().item())


def test_all_classes_in_one_direction():
    rows = torch.ones(6, 3)
    label = torch.arange(6) // 2
    assert dists_inter(rows, label)[0].item() == pytest.approx(0, abs=1e-12)
    assert dists_intra_over_inter(rows, label)[0].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("m", [0, 1, 2, 5, -1, -2, -5])
@pytest.mark.parametrize("data", ["overlapping", "tight", "singletons", "scaled", "wide", "line"])
def test_rho_spectrum_equals_its_definition(data, m):
    rows, _ = DATA[data]()
    if abs(m) > min(rows.shape):
        pytest.skip("fewer values than are dropped")
    found = rho_spectrum(singular_values(rows), m)
    assert found.tolist() == [near(oracle.rho_spectrum(rows.numpy(), m))]


@pytest.mark.parametrize(("m", "value"), [
    (0, 0.6),
    (1, -(log(1.8) + log(0.9) + log(0.3)) / 3),
    (-1, 0.6 * log(1.8) + 0.3 * log(0.9) + 0.1 * log(0.3)),
    (2, -(log(1.5) + log(0.5)) / 2),
    (-2, 0.75 * log(1.5) + 0.25 * log(0.5)),
    (3, 0),
])
def test_rho_spectrum_by_hand(m, value):
    # s = .6 .3 .1
    rows = torch.diag(torch.tensor([6.0, 3.0, 1.0]))
    assert rho_spectrum(singular_values(rows), m).item() == pytest.approx(value)


def test_rho_spectrum_of_equal_values():
    assert rho_spectrum(singular_values(torch.eye(5)), 1).item() == pytest.approx(0)


@pytest.mark.parametrize("m", [4, -4])
def test_refused_number(m):
    with pytest.raises(RunError, match="may lie between -3 and 3"):
        rho_spectrum(singular_values(torch.eye(3)), m)


def test_rho_spectrum_of_a_flat_cloud_is_infinite_one_way():
    value = singular_values(SETS["collapsed"]()[0])
    assert value[0, 1:].tolist() == [0, 0]
    assert rho_spectrum(value, 1).item() == torch.inf
    # nothing is left
    assert rho_spectrum(value, 2).item() == rho_spectrum(value, -2).item() == torch.inf
    assert rho_spectrum(value, -1).item() == pytest.approx(log(3))
    assert rho_spectrum(value, 0).item() == 1


def test_singular_values_without_a_class():
    rows, label = scaled(3, classes=60, per_class=12)
    # axes that one class cannot turn far
    rows = rows * 0.7 ** torch.arange(8)
    value = singular_values(rows, label)
    assert value.shape == (61, 8)
    assert torch.equal(value[:1], singular_values(rows))
    exact = torch.stack([torch.linalg.svdvals(rows[label != c].double()) for c in range(60)])
    change = exact - value[0]  # (60, 8)
    error = value[1:] - exact
    assert (error.norm(dim=0) / change.norm(dim=0)).max() < 0.2
    assert torch.allclose(value[1:].square().sum(1), exact.square().sum(1))


def test_a_class_on_each_axis_leaves_the_others():
    rows = torch.diag(torch.tensor([5.0, 3.0, 2.0]))
    energy = singular_values(rows, torch.arange(3))[1:].square().round()
    assert energy.tolist() == [[0, 9, 4], [25, 0, 4], [25, 9, 0]]


@pytest.mark.parametrize("seed", range(4))
def test_without_the_class_that_alone_fills_a_direction_nothing_is_left_there(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    rows[:5, :3] = 0
    rows[5:, 3] = 0
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    value = singular_values(rows @ turn, torch.arange(6).repeat_interleave(5))
    assert (value[1:] == 0).sum(1).tolist() == [1, 0, 0, 0, 0, 0]


def test_in_small_blocks(monkeypatch):
    rows, label = scaled(4)

    def values():
        return [dists_inter(rows, label), dists_intra(rows, label)[0],
                singular_values(rows, label)]

    whole = values()
    monkeypatch.setattr(embedding_space, "BLOCK", 5)
    for value, again in zip(whole, values()):
        assert torch.allclose(value, again, rtol=1e-12)


def test_refusals():
    rows, label = clusters(0)
    with pytest.raises(RunError, match="every class has a single image"):
        dists_intra(rows, torch.arange(len(rows)))
    with pytest.raises(RunError, match="there is one class"):
        dists_inter(rows, torch.zeros_like(label))
    with pytest.raises(RunError, match="all embeddings are zero"):
        singular_values(torch.zeros_like(rows))


@pytest.mark.gpu
@pytest.mark.parametrize("metric", [dists_inter, dists_intra_over_inter, singular_values])
def test_gpu_equals_cpu(metric):
    rows, label = scaled(5)
    found = metric(rows.cuda(), label.cuda()).cpu()
    assert torch.allclose(found, metric(rows, label), rtol=1e-9)
