"""The same batches for any number of workers; clean errors from workers; resuming while workers
fetch ahead.
"""
import os
import signal
import subprocess

import pytest
import torch
from torch.utils.data import Subset
from torchvision.transforms import v2

from architectures.backbones import Backbone
from architectures.network import Network
from datasets import batches, make_loader
from datasets.base import image_list
from datasets.cache import open_cache
from datasets.decode import decode
from datasets.image_folder import image_folder
from datasets.samplers import select
from datasets.transforms import eval_transform, train_transform
from tests.datasets.pictures import save_jpeg, textured
from utilities.errors import RunError

HALF = (0.5, 0.5, 0.5)


def training(images, workers, seed=0, state=None, cache=None, **share):
    """A training loader and its sampler."""
    sampler = select("class_random", images.labels, bs=4, samples_per_class=2, seed=seed, **share)
    if state:
        sampler.load_state_dict(state)
    transform = train_transform("base", 16, HALF, HALF)
    return make_loader(images, transform, sampler, workers=workers, seed=seed, cache=cache), sampler


def equal(one, two):
    """Whether two lists of batches are equal bit for bit."""
    return len(one) == len(two) and all(
        torch.equal(a, b) for x, y in zip(one, two) for a, b in zip(x, y)
    )


def two_epochs(images, workers, seed=0, cache=None):
    loader, _ = training(images, workers, seed, cache=cache)
    return [batch for _ in range(2) for batch in batches(loader)]


def test_equal_for_any_number_of_workers(tree):
    images = image_folder(tree).train
    one = two_epochs(images, workers=0)
    torch.rand(5)
    assert len(one) == 6 and equal(one, two_epochs(images, workers=0))
    assert equal(one, two_epochs(images, workers=2))
    assert not equal(one, two_epochs(images, workers=0, seed=1))


def test_the_seed_decides_the_crops_too(tree):
    images = image_folder(tree).train
    transform = train_transform("base", 16, HALF, HALF)
    order = [
        select("class_random", images.labels, bs=4, samples_per_class=2, seed=0) for _ in range(2)
    ]
    one, two = (
        list(batches(make_loader(images, transform, order[seed], seed=seed))) for seed in (0, 1)
    )
    assert all(
        torch.equal(a.index, b.index) and not torch.equal(a.image, b.image)
        for a, b in zip(one, two)
    )


@pytest.fixture
def photographs(tmp_path):
    """JPEG files in class folders, of different sizes, one of them grey."""
    for row in range(12):
        size = (60 + 9 * row, 150 - 5 * row)
        mode = "L" if row == 5 else "RGB"
        save_jpeg(
            tmp_path / "photographs" / f"class_{row // 2}" / f"{row}.jpg",
            textured(*size, seed=row),
            mode,
        )
    return image_folder(tmp_path / "photographs")


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_equal_from_a_cache_that_keeps_every_pixel(photographs, tmp_path, kind, workers):
    """The scaled decoding is not asked for either: the crops are less than twice as large as
    what is cut from them.
    """
    images = photographs.train
    side = 70
    cache = open_cache(kind, images.paths, 1000, tmp_path / "cache", workers=workers)

    def epochs(workers, cache):
        sampler = select("class_random", images.labels, bs=4, samples_per_class=2, seed=0)
        loader = make_loader(
            images, train_transform("adv", side, HALF, HALF), sampler, workers=workers, cache=cache
        )
        return [batch for _ in range(2) for batch in batches(loader)]
    assert equal(epochs(0, None), epochs(workers, cache))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_scaled_decoding_and_small_caches_give_near_pixels(photographs, tmp_path, workers):
    images = photographs.test
    cache = open_cache("disk", images.paths, 40, tmp_path / "cache")
    seen = [
        next(
            batches(
                make_loader(
                    images, eval_transform(24, (0, 0, 0), (1, 1, 1)), workers=workers, cache=where
                )
            )
        )
        for where in (None, cache)
    ]
    plain = torch.stack(
        [
            v2.Compose([v2.Resize(24, antialias=True), v2.CenterCrop(24)])(decode(path))
            for path in images.paths
        ]
    )
    for batch in seen:
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
        assert 0 < (batch.image * 255 - plain).abs().mean() < 4


@pytest.mark.parametrize("cached", [False, True])
def test_grey_images_have_equal_channels_and_colours_stay_in_order(tmp_path, cached):
    flat = torch.tensor([250, 120, 10], dtype=torch.uint8)[:, None, None].expand(3, 200, 260)
    paths = [save_jpeg(tmp_path / "colour.jpg", flat), save_jpeg(tmp_path / "grey.jpg", flat, "L")]
    cache = open_cache("ram", paths, 64) if cached else None
    mean = (0.1, 0.2, 0.3)
    std = (0.5, 0.6, 0.7)
    backbones = [
        Backbone(torch.nn.Identity(), 3, mean, std),
        Backbone(
            torch.nn.Identity(),
            3,
            [255 * m for m in mean[::-1]],
            [255 * s for s in std[::-1]],
            channels="BGR",
            value_range=255,
        ),
    ]
    rgb, bgr = (eval_transform(32, **Network(backbone, 4).preprocessing) for backbone in backbones)
    images = image_list(zip(paths, ["colour", "grey"]))
    found = [
        next(batches(make_loader(images, transform, cache=cache))).image for transform in (rgb, bgr)
    ]
    expected = (flat[:, 0, 0] / 255 - torch.tensor(mean)) / torch.tensor(std)
    assert (found[0][0] - expected[:, None, None]).abs().max() < 0.02
    torch.testing.assert_close(found[1].flip(1), found[0], rtol=0, atol=1e-5)
    grey = found[0][1] * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    assert (grey - grey[:1]).abs().max() < 1e-6 and grey.std() < 1e-3


def test_every_draw_of_an_image_is_augmented_anew(tree):
    batch_of = two_epochs(image_folder(tree).train, workers=0)
    views = {}
    for batch in batch_of:
        for image, row in zip(batch.image, batch.index.tolist()):
            views.setdefault(row, []).append(image)
    again = [images for images in views.values() if len(images) > 1]
    assert again and all(not torch.equal(images[0], images[1]) for images in again)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_stream_is_left_alone(tree, workers):
    state = torch.get_rng_state()
    two_epochs(image_folder(tree).train, workers=workers)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 2])
def test_state_counts_the_batches_used_not_those_fetched(tree, workers):
    images = image_folder(tree).train
    whole = two_epochs(images, workers=0)
    loader, sampler = training(images, workers)
    for number, _ in enumerate(batches(loader), start=1):
        assert sampler.state_dict() == {"seed": 0, "epoch": number // 3, "position": number % 3}
        if number == 2:
            break
    rest, _ = training(images, workers, state=sampler.state_dict())
    assert equal([batch for _ in range(2) for batch in batches(rest)], whole[2:])
    assert equal([batch for _ in range(2) for batch in batches(loader)], whole[2:])


def test_plain_iteration_moves_the_sampler_too(tree):
    images = image_folder(tree).train
    loader, sampler = training(images, workers=0)
    expected = [batch.index for batch in two_epochs(images, workers=0)]
    assert all(map(torch.equal, [batch.index for batch in [*loader, *loader]], expected))
    assert sampler.epoch == 2
    list(batches(loader))
    assert not equal(list(loader), list(loader)) and sampler.epoch == 5


def test_processes_make_up_the_batch_of_one(tree):
    images = image_folder(tree).train
    shares = [
        list(batches(training(images, workers=0, rank=rank, world=2)[0])) for rank in range(2)
    ]
    joined = [tuple(torch.cat(parts) for parts in zip(*pair)) for pair in zip(*shares)]
    assert equal(joined, two_epochs(images, workers=0)[:3])


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_sees_all_images_in_order(tree, workers):
    images = image_folder(tree).test
    loader = make_loader(images, eval_transform(16, HALF, HALF), batch_size=5, workers=workers)
    for _ in range(2):
        seen = list(batches(loader, device="cpu"))
        assert [len(batch.index) for batch in seen] == [5, 5, 2]
        assert torch.cat([batch.index for batch in seen]).tolist() == list(range(12))
        assert torch.cat([batch.label for batch in seen]).tolist() == images.labels


def test_a_part_of_the_images_is_named_by_its_rows(tree):
    """As the evaluation shares images between processes."""
    loader = make_loader(image_folder(tree).test, eval_transform(16, HALF, HALF))
    part = next(batches(loader.over(Subset(loader.dataset, [7, 1, 4]))))
    whole = next(batches(loader))
    assert part.index.tolist() == [7, 1, 4]
    assert torch.equal(part.image, whole.image[[7, 1, 4]])


@pytest.mark.parametrize("workers", [0, 1])
def test_corrupt_image_is_one_sentence(tree, workers):
    images = image_folder(tree).test
    images.paths[7].write_bytes(images.paths[7].read_bytes()[:300])
    loader = make_loader(images, eval_transform(16, HALF, HALF), batch_size=5, workers=workers)
    with pytest.raises(RunError) as caught:
        list(batches(loader))
    sentence = str(caught.value)
    assert sentence.startswith(f"{images.paths[7]}: ") and "run again" in sentence
    assert "\n" not in sentence and "Traceback" not in sentence and sentence.count("decoded") == 1


@pytest.mark.parametrize("workers,side", [(0, 16), (0, 150), (1, 16)])
def test_truncated_photograph_is_one_sentence(photographs, workers, side):
    """By the scaled decoding at 16, by the full one at 150."""
    images = photographs.test
    images.paths[3].write_bytes(images.paths[3].read_bytes()[:-400])
    with pytest.raises(RunError) as caught:
        list(batches(make_loader(images, eval_transform(side, HALF, HALF), workers=workers)))
    sentence = str(caught.value)
    assert (
        sentence.startswith(f"{images.paths[3]}: ")
        and "\n" not in sentence
        and sentence.count("decoded") == 1
    )


class Dies:
    """A transform that ends its process."""

    def __call__(self, image):
        os._exit(3)


def test_worker_that_dies_is_one_sentence(tree):
    loader = make_loader(image_folder(tree).test, Dies(), batch_size=5, workers=1)
    with pytest.raises(RunError, match="--kernels 0"):
        list(batches(loader))


def test_other_errors_pass_as_they_are(tree):
    def fails(image):
        raise RuntimeError("of another kind")
    with pytest.raises(RuntimeError, match="of another kind"):
        list(batches(make_loader(image_folder(tree).test, fails, workers=0)))


def test_workers_live_on(tree):
    loader, _ = training(image_folder(tree).train, workers=1)
    list(batches(loader))
    first = [worker.pid for worker in loader._iterator._workers]
    list(batches(loader))
    assert [worker.pid for worker in loader._iterator._workers] == first


def test_pinning_follows_the_device(tree):
    images = image_folder(tree).test
    transform = eval_transform(16, HALF, HALF)
    assert make_loader(images, transform, device="cuda:0").pin_memory
    assert not make_loader(images, transform, device="cpu").pin_memory


def test_batches_cross_to_the_device_without_waiting(tree, monkeypatch):
    crossed = []
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **kwargs: (
        crossed.append((self.dtype, kwargs)) or to(self, *args, **kwargs)))
    list(
        batches(
            make_loader(image_folder(tree).test, eval_transform(16, HALF, HALF), batch_size=6),
            device="cpu",
        )
    )
    kinds = [kind for kind, arguments in crossed if arguments == {"non_blocking": True}]
    # image (as bytes), label, index
    assert kinds == 2 * [torch.uint8, torch.int64, torch.int64]


@pytest.mark.skipif(
    not hasattr(signal, "sigwaitinfo"), reason="this system does not tell who sent a signal"
)
def test_workers_end_when_the_main_process_says_so_and_not_by_a_signal_to_all(tree):
    loader, _ = training(image_folder(tree).train, workers=1)
    given = iter(loader)
    next(given)
    worker, = given._workers
    for number in (signal.SIGTERM, signal.SIGINT):
        # from another process than ours
        subprocess.run(["sh", "-c", f"kill -{number} {worker.pid}"], check=True)
    assert len(list(given)) == len(loader) - 1 and worker.is_alive()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
