import numpy as np
import pytest
import torch

from evaluation.metrics.bootstrap import influence_interval, ratio_interval, resampled_sums
from evaluation.metrics.clustering import contingency, f1, nmi
from evaluation.metrics.embedding_space import dists_inter, rho_spectrum, singular_values
from evaluation.metrics.kmeans import kmeans
from tests.evaluation.sets import generator
from utilities.errors import RunError

RESAMPLES = 300
TRIALS = 300


def covered(trial, truth):
    """Share of trials whose interval holds the truth."""
    low, high = torch.tensor([trial(seed) for seed in range(TRIALS)]).T
    return ((low <= truth) & (truth <= high)).double().mean().item()


def test_draws_are_classes_with_replacement_and_the_same_for_all():
    one = torch.eye(6, dtype=torch.float64)
    # how often each class was drawn
    counts = resampled_sums(one, 400, seed=3)
    assert (counts.sum(1) == 6).all()
    assert torch.equal(counts, counts.round())
    assert counts.max() >= 4
    assert counts.mean(0).tolist() == pytest.approx([1] * 6, abs=0.2)
    assert abs(counts.var(0).mean() - 5 / 6) < 0.15
    part = torch.rand(6, 2)
    assert torch.allclose(resampled_sums(part, 400, seed=3), counts @ part.double())
    assert not torch.equal(resampled_sums(one, 400, seed=4), counts)


def test_draws_in_small_blocks(monkeypatch):
    part = torch.rand(10, 3)
    whole = resampled_sums(part, 50, seed=1)
    monkeypatch.setattr("evaluation.metrics.bootstrap.CELLS", 70)
    assert torch.equal(resampled_sums(part, 50, seed=1), whole)


def test_ratio_interval_by_a_plain_loop():
    g = generator(0)
    part = torch.rand(12, generator=g)
    whole = torch.randint(1, 5, (12,), generator=g).double()
    values = []
    for draw in torch.randint(12, (200, 12), generator=generator(9)):
        values.append((part[draw].double().sum() / whole[draw].sum()).item())
    low, high = np.percentile(values, [2.5, 97.5])
    assert ratio_interval(part, whole, 200, seed=9) == pytest.approx((low, high))


def test_classes_without_a_query_do_not_count():
    part = torch.rand(20).double()
    whole = torch.ones(20).double()
    nothing = torch.zeros(5)
    padded = torch.cat([part, nothing]), torch.cat([whole, nothing])
    assert ratio_interval(*padded, 100) == ratio_interval(part, whole, 100)


def test_influence_of_a_mean_is_the_bootstrap_of_the_mean():
    value = torch.randn(15, generator=generator(2)).double()
    left_out = torch.cat([value.mean()[None], (value.sum() - value) / 14])
    expected = ratio_interval(value, torch.ones(15), 500)
    assert influence_interval(left_out, 500) == pytest.approx(expected)


def test_constant_metrics_have_intervals_of_no_width():
    number = torch.arange(1.0, 9)
    assert ratio_interval(number, number, 100) == (1, 1)
    assert influence_interval(torch.full((9,), 0.75), 100) == (0.75, 0.75)
    label = torch.arange(40) % 8
    perfect = nmi(contingency(label, label))
    assert influence_interval(perfect, 100) == pytest.approx((1, 1))


@pytest.mark.parametrize("undefined", [torch.inf, torch.nan])
def test_nothing_known(undefined):
    value = torch.tensor([1.0, undefined, 2.0])
    assert influence_interval(value, 10) == (-torch.inf, torch.inf)


def test_nothing_to_draw():
    with pytest.raises(RunError, match="needs two classes or more"):
        ratio_interval(torch.ones(3), torch.tensor([0, 1, 0]), 10)
    with pytest.raises(RunError, match="needs two classes or more"):
        influence_interval(torch.ones(2), 10)


def test_covers_a_mean_over_queries():
    """Hit rates differ from class to class, and larger classes are easier: the truth is the ratio
    of expectations."""
    def drawn(g, classes):
        size = torch.randint(2, 20, (classes,), generator=g).double()
        return size, torch.rand(classes, generator=g) * 0.5 + size / 40

    def trial(seed):
        g = generator(seed)
        size, rate = drawn(g, 60)
        hits = torch.binomial(size, rate.clamp(max=1), generator=g)
        return ratio_interval(hits, size, RESAMPLES, seed)

    size, rate = drawn(generator(-1), 10**6)
    truth = (rate * size).sum() / size.sum()
    assert 0.90 <= covered(trial, truth.item()) <= 0.98


def sample(seed, classes=40, width=6):
    """Rows of fresh classes, some tight and some wide, of 4 to 12 images each."""
    g = generator(seed)
    size = torch.randint(4, 13, (classes,), generator=g)
    label = torch.arange(classes).repeat_interleave(size)
    noise = torch.rand(classes, generator=g)[label][:, None]
    centre = torch.randn(classes, width, generator=g) * torch.linspace(2, 0.5, width)
    return centre[label] + noise * torch.randn(len(label), width, generator=g), label


def clustered(rows, label):
    return contingency(label, kmeans(rows, 40))


METRICS = {
    "nmi": lambda rows, label: nmi(clustered(rows, label)),
    "f1": lambda rows, label: f1(clustered(rows, label)),
    "dists@inter": dists_inter,
    "rho_spectrum@1": lambda rows, label: rho_spectrum(singular_values(rows, label), 1),
}


@pytest.mark.parametrize("name", METRICS)
def test_covers_what_fresh_classes_give_on_average(name):
    values = [METRICS[name](*sample(seed)) for seed in range(TRIALS)]
    truth = torch.stack([value[0] for value in values]).mean().item()
    share = covered(lambda seed: influence_interval(values[seed], RESAMPLES, seed), truth)
    assert 0.88 <= share <= 0.985


def test_copies_of_a_class_would_share_its_clusters():
    """Why nmi has an interval by influence: drawn copies, as classes of their own, lower it."""
    rows, label = sample(0)
    cluster = kmeans(rows, 40)
    value = nmi(contingency(label, cluster))
    lower = 0
    for seed in range(100):
        drawn = torch.randint(40, (40,), generator=generator(seed))
        parts = [(label == c).nonzero()[:, 0] for c in drawn]
        size = torch.tensor([len(part) for part in parts])
        copy = torch.arange(40).repeat_interleave(size)
        lower += nmi(contingency(copy, cluster[torch.cat(parts)]))[0] < value[0]
    low, high = influence_interval(value, RESAMPLES)
    assert low < value[0] < high
    assert lower > 85
