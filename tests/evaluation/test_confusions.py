"""Which classes are mixed up, counted by hand and by a loop over queries."""
import pytest
import torch

from evaluation.metrics.confusions import Confusion, confusions
from evaluation.ranking.neighbours import nearest_neighbours
from tests.evaluation.sets import clusters, singletons

NAMES = ["ant", "bee", "cat", "dog"]


def test_counts_worked_by_hand():
    # class:                0  0  0  1  1  1  2  2  3: a single image, no query
    label = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3])
    nearest = torch.tensor([3, 4, 8, 0, 5, 4, 1, 7 - 1, 0])
    assert confusions(nearest, label, NAMES) == [
        Confusion("ant", "bee", 2, 3, pytest.approx(2 / 3)), Confusion("cat", "ant", 1, 2, pytest.approx(1 / 2)),
        Confusion("ant", "dog", 1, 3, pytest.approx(1 / 3)), Confusion("bee", "ant", 1, 3, pytest.approx(1 / 3))]
    assert str(confusions(nearest, label, NAMES)[0]) == "2 of 3 images of ant are nearest to one of bee."


def test_many_images_come_before_a_large_share():
    found = confusions(torch.tensor([5, 6, 3, 4, 2, 0, 5]), torch.tensor([0, 0, 0, 0, 0, 1, 1]), NAMES)
    assert [(pair.name, pair.count, pair.share) for pair in found] == [("ant", 2, 0.4), ("bee", 1, 0.5)]


@pytest.mark.parametrize("rows,label", [clusters(0), clusters(1, classes=12, per_class=3, noise=3.0), singletons()])
def test_equals_a_loop_over_queries_and_adds_up_to_the_misses(rows, label):
    nearest = nearest_neighbours(rows, rows, 1, exclude_self=True)[1][:, 0]
    names = [f"class{c}" for c in range(int(label.max()) + 1)]
    expected, queries, missed = {}, 0, 0
    for i, j in enumerate(nearest.tolist()):
        own, other = int(label[i]), int(label[j])
        if int((label == own).sum()) < 2:
            continue
        queries += 1
        if own != other:
            missed += 1
            expected[names[own], names[other]] = expected.get((names[own], names[other]), 0) + 1
    found = confusions(nearest, label, names)
    assert {(pair.name, pair.taken_for): pair.count for pair in found} == expected
    assert sum(pair.count for pair in found) == missed and len(found) == len(expected)
    for pair in found:
        assert pair.queries == int((label == names.index(pair.name)).sum())
        assert pair.share == pytest.approx(pair.count / pair.queries)
    assert [pair.count for pair in found] == sorted((pair.count for pair in found), reverse=True)


def test_nothing_is_mixed_up():
    assert confusions(torch.tensor([1, 0, 3, 2]), torch.tensor([0, 0, 1, 1]), NAMES) == []


def test_in_a_gallery_apart():
    # cat has nothing to find there; both queries of bee find ant, one of ant finds dog
    found = confusions(torch.tensor([0, 2, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 2]), NAMES, torch.tensor([0, 0, 3, 1]))
    assert found == [Confusion("bee", "ant", 2, 2, 1.0), Confusion("ant", "dog", 1, 2, 0.5)]
