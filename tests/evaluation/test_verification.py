import numpy as np
import pytest
import torch

from evaluation.metrics import verification
from evaluation.metrics.verification import fnmr_at_fmr
from tests.evaluation.sets import SETS, clusters, generator
from tests.oracles import metrics as oracle
from utilities.errors import RunError

RATES = [0.001, 0.1, 0.37, 0.9]
DATA = SETS | {
    "line": lambda: clusters(1, width=1),
    "wide": lambda: clusters(2, width=2048),
    "long": lambda: (100 * clusters(3, width=4)[0] + 7, clusters(3)[1]),
    "short": lambda: (1e-15 * clusters(3, width=4)[0], clusters(3)[1]),
}


def fnmr(rows, label, rate):
    rejected, pairs = fnmr_at_fmr(rows, label, rate)
    return (rejected.sum() / pairs.sum()).item()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("data", [name for name in DATA if name != "one_class"])
def test_equal_to_the_definition(data, rate):
    rows, label = DATA[data]()
    expected = oracle.fnmr_at_fmr(rows.numpy(), label.tolist(), rate)
    assert fnmr(rows, label, rate) == expected


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5])
def test_many_rows_in_few_passes(rate, monkeypatch):
    rows, label = clusters(4, classes=40, per_class=100, width=16)
    passes = []
    count = verification._numbers_until

    def noted(*arguments):
        passes.append(arguments)
        return count(*arguments)

    monkeypatch.setattr(verification, "_numbers_until", noted)
    distance = torch.cdist(rows.double(), rows.double()).float().double().numpy()
    pair = np.triu(np.ones_like(distance, dtype=bool), 1)
    same = (label[:, None] == label).numpy()
    limit = np.quantile(distance[pair & ~same], rate)
    expected = (distance[pair & same] >= limit).mean()
    assert fnmr(rows, label, rate) == pytest.approx(expected, abs=2e-6)
    assert len(passes) <= 3


def test_by_hand():
    rows = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    label = torch.tensor([0, 0, 1, 1])
    # distances of two classes: 2 3 6 7; of one class: 1 4; T = 4.5
    rejected, pairs = fnmr_at_fmr(rows, label, 0.5)
    assert rejected.tolist() == [0, 0]
    assert pairs.tolist() == [1, 1]
    # T = 3
    assert fnmr_at_fmr(rows, label, 1 / 3)[0].tolist() == [0, 1]


def test_a_pair_at_the_limit_is_rejected():
    rows = torch.tensor([[0.0], [4.0], [4.0]])
    assert fnmr(rows, torch.tensor([0, 0, 1]), 0.5) == 1
    # distances 5, 5 and 4.47: T lies between
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [5.0, 0.0]])
    for label in ([0, 0, 1], [0, 1, 0]):
        assert fnmr(rows, torch.tensor(label), 0.999999) == 1


def test_the_limit_is_not_rounded(monkeypatch):
    rows = torch.tensor([[0.0], [4.0], [9.0]])
    # as float32 both are 4
    for limit, rejected in ((4 - 1e-8, 1), (4 + 1e-8, 0)):
        monkeypatch.setattr(verification, "_quantile", lambda *_, limit=limit: limit)
        assert fnmr(rows, torch.tensor([0, 0, 1]), 0.5) == rejected


def test_order_of_rows_and_names_do_not_matter():
    rows, label = SETS["singletons"]()
    order = torch.randperm(len(rows), generator=generator(0))
    for rate in RATES:
        assert fnmr(rows[order], -3 * label[order], rate) == fnmr(rows, label, rate)


def test_in_small_blocks(monkeypatch):
    rows, label = SETS["overlapping"]()
    rejected, pairs = fnmr_at_fmr(rows, label, 0.1)
    monkeypatch.setattr(verification, "TILE", (5, 7))
    again = fnmr_at_fmr(rows, label, 0.1)
    assert torch.equal(again[0], rejected)
    assert torch.equal(again[1], pairs)


def test_perfect_and_hopeless():
    assert fnmr(*SETS["perfect"](), 0.1) == 0
    assert fnmr(torch.ones(6, 2), torch.arange(6) % 2, 0.1) == 1


@pytest.mark.parametrize("label", [torch.zeros(42), torch.arange(42)])
def test_refusals(label):
    rows, _ = clusters(0)
    words = "fnmr needs a pair of images of one class and a pair of two"
    with pytest.raises(RunError, match=words):
        fnmr_at_fmr(rows, label, 0.1)


@pytest.mark.gpu
def test_gpu_equals_cpu():
    rows, label = clusters(5, classes=20, per_class=30)
    assert fnmr(rows.cuda(), label.cuda(), 0.1) == fnmr(rows, label, 0.1)
