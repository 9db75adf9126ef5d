"""Two super-classes in every batch, all classes reached, and what is said or refused."""
from collections import Counter

import pytest

from datasets.samplers.hierarchical import Hierarchical
from utilities.errors import UsageError

# of each super-class
CLASSES = [9, 4, 5, 6, 7]
SUPER = [group for group, classes in enumerate(CLASSES) for _ in range(classes)]
LABELS = [label for _ in range(3) for label in range(31) for _ in range(1 + label % 4)][::-1]


def made(labels=LABELS, bs=16, samples_per_class=2, super_labels=SUPER, **share):
    return Hierarchical(
        labels, bs=bs, samples_per_class=samples_per_class, super_labels=super_labels, **share
    )


@pytest.mark.parametrize("bs, k", [(16, 2), (12, 3), (8, 1), (4, 2), (14, 2), (9, 3), (3, 1)])
def test_batches_hold_two_super_classes_with_half_the_classes_of_equally_many_images(bs, k):
    sampler = made(bs=bs, samples_per_class=k)
    assert sampler.notice is None
    for batch in [batch for _ in range(3) for batch in sampler]:
        count = Counter(LABELS[row] for row in batch)
        classes = Counter(SUPER[label] for label in count)
        halves = {(bs // k + 1) // 2, bs // k // 2}
        assert set(count.values()) == {k} and set(classes.values()) == halves and len(classes) == 2
        assert len(set(batch)) == bs


@pytest.mark.parametrize("bs", [16, 14])
def test_all_classes_and_images_are_reached_over_epochs(bs):
    sampler = made(bs=bs)
    drawn = {row for _ in range(12) for batch in sampler for row in batch}
    assert drawn == set(range(len(LABELS)))


def test_super_classes_take_turns_in_every_pairing():
    sampler = made()
    pairs = Counter()
    for _ in range(20):
        meeting = [tuple(sorted({SUPER[LABELS[row]] for row in batch})) for batch in sampler]
        pairs.update(meeting)
        # 2 of 5 / 2 batches to a round
        for one, two in zip(meeting[::2], meeting[1::2]):
            assert not set(one) & set(two)
    assert len(pairs) == 10


def test_a_super_class_with_few_classes_repeats_them_and_it_is_said():
    labels = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4]
    super_labels = [0, 1, 1, 2, 2]
    sampler = made(labels, bs=8, samples_per_class=2, super_labels=super_labels)
    assert sampler.notice.startswith("1 of 3 super-classes have fewer than the 2 classes")
    for batch in [batch for _ in range(9) for batch in sampler]:
        count = Counter(labels[row] for row in batch)
        assert len({super_labels[label] for label in count}) == 2
        assert sorted(count.values()) in ([2, 2, 2, 2], [2, 2, 4]) and count.get(0) in (None, 4)
        # other images of the class
        assert len(set(batch)) == 8
    both = made(labels, bs=12, samples_per_class=3, super_labels=super_labels).notice
    assert "fewer than --samples_per_class 3" in both and "1 of 3 super-classes" in both


def test_labels_without_images_do_not_count():
    labels = [label for label in (1, 2, 4, 5) for _ in range(4)]
    super_labels = [7, 0, 0, 9, 3, 3]
    for batch in made(labels, bs=8, samples_per_class=2, super_labels=super_labels):
        assert {labels[row] for row in batch} == {1, 2, 4, 5}


@pytest.mark.parametrize("super_labels, said", [
    (None, "needs super-classes.*super_label column"),
    ([4] * 31, "two super-classes.*has one"),
])
def test_refused(super_labels, said):
    with pytest.raises(UsageError, match=said):
        made(super_labels=super_labels)
