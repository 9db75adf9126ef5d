"""Which classes are mixed up, counted by hand and by a loop over queries."""
from collections import Counter

import pytest
import torch

from evaluation.metrics.confusions import Confusion, confusions
from evaluation.ranking import nearest
from tests.evaluation.sets import clusters, singletons

NAMES = ["ant", "bee", "cat", "dog"]


def test_counts_worked_by_hand():
    # the class of one image has no query
    label = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3])
    near = torch.tensor([3, 4, 8, 0, 5, 4, 1, 6, 0])
    found = confusions(near, label, NAMES)
    assert found == [
        Confusion("ant", "bee", 2, 3, pytest.approx(2 / 3)),
        Confusion("cat", "ant", 1, 2, pytest.approx(1 / 2)),
        Confusion("ant", "dog", 1, 3, pytest.approx(1 / 3)),
        Confusion("bee", "ant", 1, 3, pytest.approx(1 / 3)),
    ]
    assert str(found[0]) == "2 of 3 images of ant are nearest to one of bee."


def test_many_images_come_before_a_large_share():
    near = torch.tensor([5, 6, 3, 4, 2, 0, 5])
    label = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    found = confusions(near, label, NAMES)
    pairs = [(pair.name, pair.count, pair.share) for pair in found]
    assert pairs == [("ant", 2, 0.4), ("bee", 1, 0.5)]


@pytest.mark.parametrize("data", [
    clusters(0),
    clusters(1, classes=12, per_class=3, noise=3.0),
    singletons(),
])
def test_equals_a_loop_over_queries(data):
    rows, label = data
    near = nearest(rows, rows, 1, exclude_self=True)[1][:, 0]
    names = [f"class{c}" for c in range(int(label.max()) + 1)]
    size = Counter(label.tolist())
    expected = Counter()
    for own, other in zip(label.tolist(), label[near].tolist()):
        if size[own] > 1 and own != other:
            expected[names[own], names[other]] += 1
    found = confusions(near, label, names)
    assert {(pair.name, pair.taken_for): pair.count for pair in found} == expected
    assert len(found) == len(expected)
    for pair in found:
        assert pair.queries == size[names.index(pair.name)]
        assert pair.share == pytest.approx(pair.count / pair.queries)
    counts = [pair.count for pair in found]
    assert counts == sorted(counts, reverse=True)


def test_nothing_is_mixed_up():
    near = torch.tensor([1, 0, 3, 2])
    assert confusions(near, torch.tensor([0, 0, 1, 1]), NAMES) == []


def test_in_another_gallery():
    # cat has nothing to find there; both queries of bee find ant, one of ant finds dog
    near = torch.tensor([0, 2, 0, 1, 1])
    label = torch.tensor([0, 0, 1, 1, 2])
    found = confusions(near, label, NAMES, torch.tensor([0, 0, 3, 1]))
    assert found == [Confusion("bee", "ant", 2, 2, 1.0), Confusion("ant", "dog", 1, 2, 0.5)]
