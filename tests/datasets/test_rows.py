"""Rows in place of images: which of its views a draw takes, and what a loader gives."""
import numpy as np
import pytest
import torch

from datasets import batches, samplers
from datasets.base import Draw, ImageList
from datasets.rows import RowDataset, row_loader


@pytest.fixture
def images():
    """Twelve images of three classes, which are nowhere read."""
    return ImageList([None] * 12, [i % 3 for i in range(12)], ["a", "b", "c"])


@pytest.fixture
def views():
    """(4, 12, 2): view and row of each."""
    view, row = np.meshgrid(np.arange(4), np.arange(12), indexing="ij")
    return np.stack([view, row], axis=2).astype(np.float32)


def test_a_batch_has_the_rows_asked_for_of_views_that_the_draws_decide(views, images):
    dataset = RowDataset(views, images)
    draws = [Draw(i % 12, epoch, i) for epoch in range(8) for i in range(24)]
    batch = dataset.__getitems__(draws)
    assert batch.index.tolist() == [draw.index for draw in draws]
    assert batch.label.tolist() == [draw.index % 3 for draw in draws]
    assert torch.equal(batch.image[:, 1].long(), batch.index)
    counts = batch.image[:, 0].long().bincount(minlength=4)
    # 48 are expected of each; six standard deviations
    assert (counts - 48).abs().max() < 36
    order = torch.randperm(len(draws)).tolist()
    again = dataset.__getitems__([draws[i] for i in order])
    assert torch.equal(again.image, batch.image[order])
    other = RowDataset(views, images, seed=1).__getitems__(draws)
    assert not torch.equal(other.image, batch.image)


def test_without_a_sampler_all_rows_come_in_order(views, images):
    found = list(batches(row_loader(views[2:3], images, batch_size=5)))
    assert [len(batch.label) for batch in found] == [5, 5, 2]
    assert torch.equal(torch.cat([batch.image for batch in found]), torch.from_numpy(views[2]))


def test_a_sampler_of_batches_draws_from_it(views, images):
    sampler = samplers.select("class_random", labels=images.labels, bs=6, seed=0, samples_per_class=2)
    loader = row_loader(views, images, sampler)
    first = list(batches(loader))
    assert len(first) == len(sampler)
    for batch in first:
        assert batch.image.shape == (6, 2)
        assert (batch.label.bincount()[batch.label] == 2).all()
    second = list(batches(loader.drawn_by(sampler, seed=0)))
    assert not all(torch.equal(a.image, b.image) for a, b in zip(first, second))


def test_rows_stay_in_their_file(tmp_path, images, views):
    np.save(tmp_path / "rows.npy", views)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    found = RowDataset(mapped, images).__getitems__([Draw(3, 0, 0), Draw(3, 0, 1)])
    # a batch is a copy, which may be changed
    found.image.zero_()
    assert mapped[0, 3, 1] == 3
