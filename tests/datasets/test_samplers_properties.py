"""What holds for every sampler, whatever the classes, the batch and the seed."""
from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasets import batches, make_loader
from datasets.image_folder import image_folder
from datasets.samplers import SAMPLERS, select
from datasets.transforms import eval_transform
from tests.datasets.conftest import save_tree

HALF = (0.5, 0.5, 0.5)


@st.composite
def settings_of(draw):
    """Arguments of a sampler: 4 to 12 classes of 1 to 9 images in any order, in 2 or more super-
    classes.
    """
    counts = draw(st.lists(st.integers(1, 9), min_size=4, max_size=12))
    k = draw(st.integers(1, 3))
    halves = draw(st.integers(1, 2))
    world = draw(st.sampled_from([1, 2]))
    assume(sum(counts) >= 2 * halves * k)
    labels = draw(
        st.permutations([label for label, count in enumerate(counts) for _ in range(count)])
    )
    super_labels = [0, 1] + [draw(st.integers(0, 2)) for _ in counts[2:]]
    return {
        "labels": labels,
        "bs": 2 * halves * k,
        "samples_per_class": k,
        "super_labels": super_labels,
        "seed": draw(st.integers(0, 2**40)),
        "batchmatch_bigbs": draw(st.integers(2 * halves * k, 40)),
        "batchmatch_ncomps": draw(st.integers(1, 3)),
    }, world


def made(name, arguments, **share):
    sampler = select(name, **arguments, **share)
    if sampler.needs_storage:
        sampler.fill(
            torch.randn(len(arguments["labels"]), 3, generator=torch.Generator().manual_seed(1))
        )
    return sampler


@pytest.mark.parametrize("name", SAMPLERS)
@given(drawn=settings_of(), stop=st.integers(0, 9))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_batches_resume_and_shares(name, drawn, stop):
    arguments, world = drawn
    labels = arguments["labels"]
    bs = arguments["bs"]
    k = arguments["samples_per_class"]
    state = torch.get_rng_state()
    sampler = made(name, arguments)
    epochs = [list(sampler) for _ in range(2)]
    flat = [batch for epoch in epochs for batch in epoch]
    assert [len(epoch) for epoch in epochs] == [len(sampler)] * 2 and len(sampler) == len(
        labels
    ) // bs
    for batch in flat:
        count = Counter(labels[row] for row in batch)
        assert len(batch) == bs and (
            name == "random" or all(images % k == 0 for images in count.values())
        )
        if name not in ("random", "hierarchical", "greedy_coreset", "d2_coreset"):
            assert len(count) == bs // k
        if name == "hierarchical":
            assert len({arguments["super_labels"][label] for label in count}) == 2

    stop = stop % len(flat)
    stopped = made(name, arguments)
    for _ in range(stop):
        next(iter(stopped))
    resumed = select(name, **arguments | {"seed": 0})
    resumed.load_state_dict(stopped.state_dict())
    assert list(resumed) == flat[stop:][:len(resumed) - stop % len(resumed)]

    shares = [list(made(name, arguments, rank=rank, world=world)) for rank in range(world)]
    assert [sum(parts, []) for parts in zip(*shares)] == epochs[0]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_class_and_image_is_reached(name):
    labels = [label for label in range(20) for _ in range(2 + label % 4)]
    sampler = made(
        name,
        {
            "labels": labels,
            "bs": 8,
            "samples_per_class": 2,
            "seed": 0,
            "batchmatch_bigbs": 24,
            "super_labels": [label % 3 for label in range(20)],
        },
    )
    assert {row for _ in range(60) for batch in sampler for row in batch} == set(range(len(labels)))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_with_the_batches_that_are_left(name, workers, tmp_path):
    images = image_folder(save_tree(tmp_path, classes=8, images=7)).train
    arguments = {"labels": images.labels, "bs": 4, "samples_per_class": 1, "batchmatch_bigbs": 9,
                 "super_labels": [0, 0, 1, 1]}

    def train(sampler, steps):
        """The images of these batches, each of which enters the storage."""
        loader = make_loader(images, eval_transform(8, HALF, HALF), sampler, workers=workers)
        seen = []
        while len(seen) < steps:
            for batch in batches(loader):
                sampler.update(batch.image[:, :, 4, 4] - sampler.epoch, batch.index)
                seen.append(batch.index.tolist())
                if len(seen) == steps:
                    break
        return seen

    stopped = made(name, arguments)
    resumed = made(name, arguments)
    whole = train(made(name, arguments), 14)
    assert train(stopped, 4) == whole[:4] and len(stopped) == 7
    resumed.load_state_dict(stopped.state_dict())
    assert train(resumed, 10) == whole[4:]
