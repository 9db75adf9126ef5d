"""The peers of benchmarks/criteria.py compute what the criteria compute, and every row has its cells."""
import pytest
import torch

pytest.importorskip("pytorch_metric_learning")

from benchmarks import criteria as benchmark  # noqa: E402
from benchmarks.looped import LOOPS, WITH_PARAMETERS  # noqa: E402


@pytest.mark.parametrize("name", ["circle", "gpw", "histogram", "multisimilarity", "recallatk", "supcon"])
def test_a_loop_gives_the_loss_of_the_criterion(name):
    x, label = benchmark.batch(24, 16)
    ours = benchmark.ours(name, 6, 16)
    torch.testing.assert_close(LOOPS[name](x, label), ours.loss(x, label))


@pytest.mark.parametrize("name", ["arcface", "cosface", "proxyanchor", "proxynca", "softmax"])
def test_a_loop_with_proxies_gives_the_loss_of_the_criterion(name):
    x, label = benchmark.batch(24, 16)
    ours = benchmark.ours(name, 6, 16)
    looped = WITH_PARAMETERS[name](x, label, *ours.parameters)
    torch.testing.assert_close(looped, ours.loss(x, label))


@pytest.mark.parametrize("name", [*LOOPS, *WITH_PARAMETERS])
def test_every_loop_gives_gradients(name):
    x, label = benchmark.batch(24, 16)
    loss = benchmark.looped(name, 6, 16).loss(x, label)
    gradient, = torch.autograd.grad(loss, x)
    assert loss.shape == () and gradient.isfinite().all() and gradient.any()


def test_only_losses_without_a_loop_have_none():
    missing = [name for name in benchmark.criteria.CRITERIA if benchmark.looped(name, 6, 16) is None]
    assert missing == ["adversarial_separation"]


def test_operations_are_counted_once_each():
    x, label = benchmark.batch(24, 16)
    doubled = benchmark.Competitor(lambda x, label: (2 * x).sum())
    tripled = benchmark.Competitor(lambda x, label: (2 * x + x).sum())
    counts = [doubled.operations(x, label), doubled.operations(x, label), tripled.operations(x, label)]
    assert 0 < counts[0] == counts[1] < counts[2]


@pytest.mark.parametrize("name, without", [
    ("gpw", {"x pml", "pml operations"}),
    ("adversarial_separation", {"x loop", "x pml", "pml operations"}),
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
