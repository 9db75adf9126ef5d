import numpy as np
import pytest
import torch

from evaluation.metrics.bootstrap import influence_interval, ratio_interval, resampled_sums
from evaluation.metrics.clustering import contingency, f1, nmi
from evaluation.metrics.embedding_space import dists_inter, rho_spectrum, singular_values
from evaluation.metrics.kmeans import kmeans
from utilities.errors import RunError

RESAMPLES, TRIALS = 300, 300


def covered(trial, truth):
    """Share of trials whose interval holds the truth."""
    intervals = torch.tensor([trial(seed) for seed in range(TRIALS)])
    return ((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).double().mean().item()


def test_draws_are_classes_with_replacement_and_the_same_for_all():
    one = torch.eye(6, dtype=torch.float64)
    counts = resampled_sums(one, 400, seed=3)                                      # how often each class was drawn
    assert (counts.sum(1) == 6).all() and torch.equal(counts, counts.round()) and counts.max() >= 4
    assert counts.mean(0).tolist() == pytest.approx([1] * 6, abs=0.2) and abs(counts.var(0).mean() - 5 / 6) < 0.15
    part = torch.rand(6, 2)
    assert torch.allclose(resampled_sums(part, 400, seed=3), counts @ part.double())
    assert not torch.equal(resampled_sums(one, 400, seed=4), counts)


def test_draws_in_small_blocks(monkeypatch):
    part = torch.rand(10, 3)
    whole = resampled_sums(part, 50, seed=1)
    monkeypatch.setattr("evaluation.metrics.bootstrap.CELLS", 70)
    assert torch.equal(resampled_sums(part, 50, seed=1), whole)


def test_ratio_interval_by_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    part, whole = torch.rand(12, generator=generator), torch.randint(1, 5, (12,), generator=generator).double()
    draws = torch.randint(12, (200, 12), generator=torch.Generator().manual_seed(9)).tolist()
    values = [sum(part[c].item() for c in draw) / sum(whole[c].item() for c in draw) for draw in draws]
    assert ratio_interval(part, whole, 200, seed=9) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_classes_without_a_query_do_not_count():
    part, whole = torch.rand(20).double(), torch.ones(20).double()
    padded = [torch.cat([x, torch.zeros(5)]) for x in (part, whole)]
    assert ratio_interval(*padded, 100) == ratio_interval(part, whole, 100)


def test_influence_of_a_mean_is_the_bootstrap_of_the_mean():
    value = torch.randn(15, generator=torch.Generator().manual_seed(2)).double()
    left_out = torch.cat([value.mean()[None], (value.sum() - value) / 14])
    assert influence_interval(left_out, 500) == pytest.approx(ratio_interval(value, torch.ones(15), 500))


def test_constant_metrics_have_no_spread():
    assert ratio_interval(torch.arange(1.0, 9), torch.arange(1.0, 9), 100) == (1, 1)
    assert influence_interval(torch.full((9,), 0.75), 100) == (0.75, 0.75)
    label = torch.arange(40) % 8
    assert influence_interval(nmi(contingency(label, label)), 100) == pytest.approx((1, 1))


def test_nothing_known_and_nothing_to_draw():
    assert influence_interval(torch.tensor([1.0, torch.inf, 2.0]), 10) == (-torch.inf, torch.inf)
    assert influence_interval(torch.tensor([1.0, torch.nan, 2.0]), 10) == (-torch.inf, torch.inf)
    for one in (lambda: ratio_interval(torch.ones(3), torch.tensor([0, 1, 0]), 10),
                lambda: influence_interval(torch.ones(2), 10)):
        with pytest.raises(RunError, match="needs two classes or more"):
            one()


def test_covers_a_mean_over_queries():
    """Hit rates differ from class to class, and larger classes are easier: the truth is the ratio of expectations."""
    def trial(seed):
        g = torch.Generator().manual_seed(seed)
        size = torch.randint(2, 20, (60,), generator=g).double()
        rate = (torch.rand(60, generator=g) * 0.5 + size / 40).clamp(max=1)
        return ratio_interval(torch.binomial(size, rate, generator=g), size, RESAMPLES, seed)
    g = torch.Generator().manual_seed(-1)
    size = torch.randint(2, 20, (10**6,), generator=g).double()
    truth = ((torch.rand(10**6, generator=g) * 0.5 + size / 40) * size).sum() / size.sum()
    assert 0.90 <= covered(trial, truth.item()) <= 0.98


def sample(seed, classes=40, width=6):
    """Rows of fresh classes, some tight and some wide, of 4 to 12 images each."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(classes).repeat_interleave(torch.randint(4, 13, (classes,), generator=g))
    spread = torch.rand(classes, generator=g)[label][:, None]
    centre = torch.randn(classes, width, generator=g) * torch.linspace(2, 0.5, width)
    return centre[label] + spread * torch.randn(len(label), width, generator=g), label


METRICS = {"nmi": lambda x, y: nmi(contingency(y, kmeans(x, int(y.max()) + 1))),
           "f1": lambda x, y: f1(contingency(y, kmeans(x, int(y.max()) + 1))),
           "dists@inter": dists_inter,
           "rho_spectrum@1": lambda x, y: rho_spectrum(singular_values(x, y), 1)}


@pytest.mark.parametrize("name", METRICS)
def test_covers_what_fresh_classes_give_on_average(name):
    values = [METRICS[name](*sample(seed)) for seed in range(TRIALS)]
    truth = torch.stack([value[0] for value in values]).mean().item()
    assert 0.88 <= covered(lambda seed: influence_interval(values[seed], RESAMPLES, seed), truth) <= 0.985


def test_copies_of_a_class_would_share_its_clusters():
    """Why nmi has an interval by influence: counted as classes of their own, drawn copies mostly lower it."""
    rows, label = sample(0)
    cluster = kmeans(rows, 40)
    value, draws = nmi(contingency(label, cluster)), []
    for seed in range(100):
        drawn = torch.randint(40, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
        parts = [(label == c).nonzero()[:, 0] for c in drawn]
        copy = torch.arange(40).repeat_interleave(torch.tensor([len(part) for part in parts]))
        draws.append(nmi(contingency(copy, cluster[torch.cat(parts)]))[0])
    low, high = influence_interval(value, RESAMPLES)
    assert low < value[0] < high
    assert (torch.stack(draws) < value[0]).double().mean() > 0.85
