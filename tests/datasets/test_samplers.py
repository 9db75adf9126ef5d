"""Every batch's composition, coverage, resuming, sharing, and what is refused."""
import inspect
from collections import Counter

import pytest
import torch

from datasets.samplers import SAMPLERS, BatchSampler, select
from datasets.samplers.by_class import ClassRandom, FullRandom, in_turn, times_seen
from parameters import build_parser
from utilities.choices import takers
from utilities.errors import UsageError

LABELS = [label for label in range(13) for _ in range(5 + label)]
SHUFFLED = LABELS[::3] + LABELS[1::3] + LABELS[2::3]
SUPER = [label % 3 for label in range(13)]


def made(name, labels=SHUFFLED, bs=12, samples_per_class=2, super_labels=SUPER, **further):
    """A sampler of any name, with embeddings where it needs them."""
    sampler = select(
        name,
        labels,
        bs=bs,
        samples_per_class=samples_per_class,
        super_labels=super_labels,
        **{"batchmatch_bigbs": 30} | further,
    )
    if sampler.needs_storage:
        sampler.fill(torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(0)))
    return sampler


@pytest.mark.parametrize("bs, k", [(8, 2), (12, 4), (10, 5), (13, 1), (26, 2), (6, 6)])
def test_class_random_composition(bs, k):
    sampler = ClassRandom(SHUFFLED, bs=bs, samples_per_class=k)
    for _ in range(3):
        batches = list(sampler)
        assert len(batches) == len(sampler) == len(SHUFFLED) // bs
        for batch in batches:
            count = Counter(SHUFFLED[row] for row in batch)
            assert len(count) == bs // k and set(count.values()) == {k}
            rows = Counter(batch)
            assert all(rows[row] == 1 or SHUFFLED.count(SHUFFLED[row]) < k for row in rows)


def test_all_classes_and_images_are_reached():
    sampler = ClassRandom(SHUFFLED, bs=8, samples_per_class=2)
    epochs = [[row for batch in sampler for row in batch] for _ in range(8)]
    assert all({SHUFFLED[row] for row in epoch} == set(range(13)) for epoch in epochs)
    assert {row for epoch in epochs for row in epoch} == set(range(len(SHUFFLED)))
    assert epochs[0] != epochs[1]


def test_images_of_a_class_come_before_one_comes_again():
    sampler = ClassRandom(SHUFFLED, bs=8, samples_per_class=2)
    drawn = Counter(row for batch in sampler for row in batch)
    for label in range(13):
        counts = [drawn[row] for row, of in enumerate(SHUFFLED) if of == label]
        assert max(counts) - min(counts) <= 1


def test_small_classes_repeat_and_it_is_said_once():
    labels = [0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3]
    sampler = ClassRandom(labels, bs=8, samples_per_class=4)
    assert "2 of 4 training classes" in sampler.notice and "--samples_per_class 4" in sampler.notice
    for batch in [batch for _ in range(20) for batch in sampler]:
        count = Counter(labels[row] for row in batch)
        assert len(count) == 2 and set(count.values()) == {4}
        one = Counter(row for row in batch if labels[row] == 1)
        # as evenly as it goes
        assert sorted(one.values()) in ([], [1, 1, 2])
    assert ClassRandom(SHUFFLED, bs=8, samples_per_class=4).notice is None


def test_full_random():
    sampler = FullRandom(SHUFFLED, bs=20)
    one = list(sampler)
    two = list(sampler)
    assert len(one) == len(sampler) == len(SHUFFLED) // 20
    rows = [row for batch in one for row in batch]
    assert len(set(rows)) == len(rows) == 20 * len(sampler)
    assert one != two


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeds(name):
    first, again, other = (list(made(name, seed=seed)) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("name", SAMPLERS)
def test_epochs_differ_are_complete_and_leave_the_global_stream_alone(name):
    state = torch.get_rng_state()
    sampler = made(name)
    one = list(sampler)
    two = list(sampler)
    assert len(one) == len(two) == len(sampler) == 11 and one != two
    assert all(len(batch) == 12 and set(batch) <= set(range(143)) for batch in one + two)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("number, per_batch, "
                         "batches", [(7, 3, 9), (6, 3, 5), (3, 7, 4), (1, 2, 3), (5, 5, 2)])
def test_numbers_take_turns(number, per_batch, batches):
    drawn = in_turn(number, per_batch, batches, torch.Generator().manual_seed(0)).tolist()
    assert len(drawn) == batches
    for batch in drawn:
        count = Counter(batch)
        assert (
            len(batch) == per_batch
            and max(count.values()) - min(count[n] for n in range(number)) <= 1
        )
    # batches of different numbers
    round_ = max(1, number // per_batch)
    for first in range(0, batches - round_ + 1, round_):
        numbers = Counter(n for batch in drawn[first:first + round_] for n in batch)
        assert len(numbers) == min(number, round_ * per_batch)


def test_times_seen():
    assert times_seen(torch.tensor([4, 1, 4, 4, 0, 1])).tolist() == [0, 0, 1, 2, 0, 1]


def test_flags_are_the_arguments_of_the_samplers_that_they_apply_to():
    shared = {*inspect.signature(BatchSampler).parameters, "device", "super_labels"}
    taken = {name: inspect.signature(sampler).parameters.keys() - shared for name, sampler in SAMPLERS.items()}
    dests = [action.dest for action in build_parser()._actions if action.dest != "data_sampler"]
    flags = {dest.removeprefix("data_") for dest in dests if dest.startswith("data_")}
    assert flags == set().union(*taken.values())
    for argument in flags:
        names = [name for name, own in taken.items() if argument in own]
        assert takers("data_sampler", argument) == names


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("stop", [0, 1, 5, 11, 12])
def test_resume_mid_epoch(name, stop):
    whole = made(name, seed=3)
    stopped = made(name, seed=3)
    assert len(whole) == 11
    batches = [list(whole), list(whole), list(whole)]
    for _, batch in zip(range(stop), (batch for _ in range(2) for batch in stopped)):
        assert batch in batches[0] + batches[1]
    state = stopped.state_dict()
    resumed = select(
        name, SHUFFLED, bs=12, samples_per_class=2, seed=99, super_labels=SUPER, batchmatch_bigbs=30
    )
    resumed.load_state_dict(state)
    rest = list(resumed)
    flat = [batch for epoch in batches for batch in epoch]
    assert rest == flat[stop:][:11 - stop % 11]
    assert list(resumed) == flat[stop + len(rest):][:11]


@pytest.mark.parametrize("name", SAMPLERS)
def test_processes_share_each_batch(name):
    whole = list(made(name).draws())
    shares = [list(made(name, rank=rank, world=3).draws()) for rank in range(3)]
    assert [one + two + three for one, two, three in zip(*shares)] == whole
    assert len({(draw.epoch, draw.position) for batch in whole for draw in batch}) == 12 * len(
        whole
    )


@pytest.mark.parametrize("name, bs, k, world, said", [
    ("class_random", 10, 4, 1, "--bs 10 is not a multiple of --samples_per_class 4"),
    ("class_random", 28, 2, 1, "--bs 28 with --samples_per_class 2 needs 14 classes.*there are 13"),
    ("class_random", 4, 0, 1, "--samples_per_class 0"),
    ("class_random", 1000, 4, 1, "--bs 1000: the training split has 143 images"),
    ("random", 0, 4, 1, "--bs 0"),
    ("random", 10, 4, 3, "--bs 10 cannot be shared by 3 processes"),
    ("class_randm", 8, 4, 1, "--data_sampler class_randm.*Did you mean class_random"),
    ("hierarchical", 4, 4, 1, "--bs 4 holds images of one class with --samples_per_class 4.*at "
                              "least --bs 8"),
    ("greedy_coreset", 32, 1, 1, "--data_batchmatch_bigbs 30 is too few to choose 32"),
    ("d2_coreset", 10, 4, 1, "--bs 10 is not a multiple of --samples_per_class 4"),
    ("fid_batchmatch", 32, 4, 1, "--data_batchmatch_bigbs 30 .*--bs 32"),
    ("disthist_batchmatch", 28, 2, 1, "--bs 28 with --samples_per_class 2 needs 14 classes.*there "
                                      "are 13"),
])
def test_refused(name, bs, k, world, said):
    assert len(SHUFFLED) == 143
    with pytest.raises(UsageError, match=said):
        made(name, bs=bs, samples_per_class=k, world=world)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_place_in_a_batch_says_nothing_of_the_class(name):
    """Neighbours are of one class as often as in a random order: (k - 1) / (bs - 1)."""
    sampler = made(name, seed=3)
    batches = torch.tensor([batch for _ in range(20) for batch in sampler])
    label = torch.as_tensor(LABELS)[batches]  # (batches, bs)
    pairs = label[:, :, None] == label[:, None]
    pairs.diagonal(dim1=1, dim2=2).zero_()
    size = label.shape[1]
    by_chance = pairs.sum() / (len(label) * size * (size - 1))
    neighbours = (label[:, 1:] == label[:, :-1]).float().mean()
    assert abs(neighbours - by_chance) < 0.04


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [3, 30])
def test_steps_of_an_epoch_by_request(name, steps):
    sampler = made(name, epoch_steps=steps)
    batches = list(sampler)
    assert len(sampler) == len(batches) == steps and sampler.epoch == 1
    assert {len(batch) for batch in batches} == {len(batches[0])}
    drawn = {row for batch in batches for row in batch}
    if steps == 30 and name in ("random", "class_random"):
        assert drawn == set(range(len(LABELS)))


# classes, images of each, K, processes, --bs
SIZES = [(20, 10, 4, 1, 112), (3, 5, 4, 1, 20), (5, 4, 4, 2, 24), (6, 4, 2, 3, 13), (9, 9, 3, 2, 10), (2, 9, 4, 1, 2)]


def built(name, classes, images, each, world, bs):
    return select(name, list(range(classes)) * images, bs=bs, samples_per_class=each, world=world)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", ["class_random", "random"])
def test_a_batch_that_does_not_fit_is_refused_with_the_closest_that_does(name, sizes):
    *data, bs = sizes

    def fits(size):
        try:
            built(name, *data, size)
        except UsageError:
            return False
        return True
    if fits(bs):
        return
    # the largest smaller one, or else the smallest of all
    expected = max(filter(fits, range(bs)), default=None) or min(filter(fits, range(bs, 999)))
    with pytest.raises(UsageError, match=f"pass --bs {expected}[.,]"):
        built(name, *data, bs)


def test_where_no_batch_fits_that_is_said():
    with pytest.raises(UsageError, match="a batch takes 4 or more here"):
        built("class_random", 1, 3, 4, 1, 8)
