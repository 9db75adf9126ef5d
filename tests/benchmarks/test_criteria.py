"""The peers of benchmarks/criteria.py compute what the criteria compute, and every row has its cells."""
import pytest
import torch

pytest.importorskip("pytorch_metric_learning")

from batchminer.base import Triplets  # noqa: E402
from benchmarks import criteria as benchmark  # noqa: E402
from benchmarks.looped import LOOPS, triplets  # noqa: E402


def test_the_loop_of_multisimilarity_gives_the_loss_of_the_criterion():
    x, label = benchmark.batch(24, 16)
    ours = benchmark.ours("multisimilarity", 6, 16)
    torch.testing.assert_close(LOOPS["multisimilarity"](x, label), ours.loss(x, label))


@pytest.mark.parametrize("name", ["margin", "triplet"])
def test_a_loop_gives_the_loss_of_the_criterion_on_its_triplets(name):
    x, label = benchmark.batch(24, 16)
    mined = Triplets(*torch.tensor(list(triplets(x, label))).T)
    assert (label[mined.anchor] == label[mined.positive]).all()
    assert (label[mined.anchor] != label[mined.negative]).all()
    criterion = benchmark.criteria.select(name, n_classes=6, embed_dim=16)
    torch.testing.assert_close(benchmark.looped(name, 6).loss(x, label), criterion(x, label, mined))


def test_every_loop_gives_gradients_and_other_losses_have_none():
    x, label = benchmark.batch(24, 16)
    names = []
    for name in benchmark.criteria.CRITERIA:
        competitor = benchmark.looped(name, 6)
        if competitor is None:
            continue
        names.append(name)
        loss = competitor.loss(x, label)
        gradient, = torch.autograd.grad(loss, x)
        assert loss.shape == () and gradient.isfinite().all() and gradient.any()
    assert set(names) == {"margin", *LOOPS}


def test_operations_are_counted_once_each():
    x, label = benchmark.batch(24, 16)
    doubled = benchmark.Competitor(lambda x, label: (2 * x).sum())
    tripled = benchmark.Competitor(lambda x, label: (2 * x + x).sum())
    counts = [doubled.operations(x, label), doubled.operations(x, label), tripled.operations(x, label)]
    assert 0 < counts[0] == counts[1] < counts[2]


@pytest.mark.parametrize("name, without", [
    ("gpw", {"x loop", "x pml", "pml operations"}),
    ("circle", {"x loop"}),
    ("margin", set()),
])
def test_a_row_has_a_number_for_every_peer(name, without):
    x, label = benchmark.batch(24, 16)
    cells = benchmark.step_row(name, x, label, rounds=1)
    assert {cell for cell, value in cells.items() if value == "-"} == without
    assert all(float(value) >= 0 for value in cells.values() if value != "-")


def test_the_table_names_the_miner(capsys):
    benchmark.run(["--loss", "margin", "--bs", "24", "--embed_dim", "16", "--rounds", "1", "--parts", "step"])
    printed = capsys.readouterr().out
    assert "B = 24, D = 16" in printed and "| margin + distance |" in printed
