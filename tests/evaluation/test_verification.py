import numpy as np
import pytest
import torch

from evaluation.metrics import verification
from evaluation.metrics.verification import fnmr_at_fmr
from tests.evaluation.sets import SETS, clusters
from tests.oracles import metrics as oracle
from utilities.errors import RunError

RATES = [0.001, 0.1, 0.37, 0.9]
DATA = SETS | {"line": lambda: clusters(1, width=1), "wide": lambda: clusters(2, width=2048),
               "long": lambda: (100 * clusters(3, width=4)[0] + 7, clusters(3)[1])}


def fnmr(rows, label, rate):
    rejected, pairs = fnmr_at_fmr(rows, label, rate)
    return (rejected.sum() / pairs.sum()).item()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("data", [name for name in DATA if name != "one_class"])
def test_equal_to_the_definition(data, rate):
    rows, label = DATA[data]()
    assert fnmr(rows, label, rate) == oracle.fnmr_at_fmr(rows.numpy(), label.tolist(), rate)


@pytest.mark.parametrize("guess", [0, 10**9, verification.KEYS - 2 * verification.BINS])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("data", ["overlapping", "ties", "duplicates", "collapsed"])
def test_a_bad_guess_costs_passes_only(data, rate, guess, monkeypatch):
    rows, label = DATA[data]()
    expected, passes, tally = fnmr(rows, label, rate), [], verification._tally
    monkeypatch.setattr(verification, "_guess", lambda *_: guess)
    monkeypatch.setattr(verification, "_tally", lambda *a: passes.append(a) or tally(*a))
    assert fnmr(rows, label, rate) == expected and len(passes) <= 4


def test_a_good_guess_needs_one_pass(monkeypatch):
    rows, label = clusters(4, classes=40, per_class=100, width=16)
    passes, tally = [], verification._tally
    monkeypatch.setattr(verification, "_tally", lambda *a: passes.append(a) or tally(*a))
    distance = torch.cdist(rows.double(), rows.double()).float().double().numpy()
    pair, same = np.triu(np.ones_like(distance, dtype=bool), 1), (label[:, None] == label).numpy()
    for rate in (0.001, 0.1, 0.5):
        limit = np.quantile(distance[pair & ~same], rate)
        assert fnmr(rows, label, rate) == pytest.approx((distance[pair & same] >= limit).mean(), abs=2e-6)
    assert len(passes) == 3


def test_by_hand():
    rows = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    label = torch.tensor([0, 0, 1, 1])                       # others: 3 7 2 6 -> 2 3 6 7; same: 1 4
    part, whole = fnmr_at_fmr(rows, label, 0.5)              # T = 4.5
    assert part.tolist() == [0, 0] and whole.tolist() == [1, 1]
    assert fnmr_at_fmr(rows, label, 1 / 3)[0].tolist() == [0, 1]                   # T = 3
    assert fnmr(torch.tensor([[0.0], [4.0], [4.0]]), torch.tensor([0, 0, 1]), 0.5) == 1       # a pair at T = 2
    tie = torch.tensor([[0.0, 0.0], [3.0, 4.0], [5.0, 0.0]])                       # 5 and 5, 4.47: T between
    assert fnmr(tie, torch.tensor([0, 0, 1]), 0.999999) == 1 and fnmr(tie, torch.tensor([0, 1, 0]), 0.999999) == 1


def test_threshold_is_not_rounded():
    assert verification._not_below(0.5) == 0.5
    for value in (0.1, 1 / 3, 1e-20, 12345.678):
        above = verification._not_below(value)
        assert above == np.float32(above) and above >= value > float(np.nextafter(np.float32(above), -np.float32(1e9)))


def test_order_of_rows_and_names_do_not_matter():
    rows, label = SETS["singletons"]()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    for rate in RATES:
        assert fnmr(rows[order], -3 * label[order], rate) == fnmr(rows, label, rate)


def test_in_small_blocks(monkeypatch):
    rows, label = SETS["overlapping"]()
    whole = fnmr_at_fmr(rows, label, 0.1)
    monkeypatch.setattr(verification, "TILE", (5, 7))
    assert all(torch.equal(a, b) for a, b in zip(fnmr_at_fmr(rows, label, 0.1), whole))


def test_perfect_and_hopeless():
    rows, label = SETS["perfect"]()
    assert fnmr(rows, label, 0.1) == 0 and fnmr(torch.ones(6, 2), torch.arange(6) % 2, 0.1) == 1


def test_refusals():
    rows, label = clusters(0)
    for wrong in (torch.zeros_like(label), torch.arange(len(rows))):
        with pytest.raises(RunError, match="fnmr needs a pair of images of one class and a pair of two"):
            fnmr_at_fmr(rows, wrong, 0.1)


@pytest.mark.gpu
def test_gpu_equals_cpu():
    rows, label = clusters(5, classes=20, per_class=30)
    assert fnmr(rows.cuda(), label.cuda(), 0.1) == fnmr(rows, label, 0.1)
