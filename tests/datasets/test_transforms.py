"""Sizes, what is resampled and what is not, what may move, flip or be mirrored, colours, and
normalisation.
"""
import pytest
import torch
from torch.nn.functional import pad
from torchvision.transforms import v2

from architectures.backbones import Backbone
from architectures.network import Network
from datasets.transforms import (
    AUGMENTATIONS,
    Normalise,
    Shift,
    eval_transform,
    sides,
    train_transform,
)
from parameters import get_options
from tests.datasets.pictures import noise, textured
from training.building import settle_sizes
from utilities.errors import UsageError

MEAN = (0.5, 0.25, 0.0)
STD = (0.5, 0.25, 1.0)


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize(
    "source", [(32, 32), (20, 20), (300, 300), (90, 60), (60, 90), (500, 40), (1, 1), (224, 224)]
)
def test_every_source_gives_the_size(size, source):
    for name in AUGMENTATIONS:
        image = train_transform(name, size, MEAN, STD)(noise(*source))
        side = round(size * 256 / 224) if name == "big" else size
        assert image.shape == (3, side, side) and image.dtype == torch.uint8
        assert eval_transform(size, MEAN, STD, augmentation=name)(noise(*source)).shape == (
            3,
            side,
            side,
        )
        cut = train_transform(name, size + 9, MEAN, STD, crop_size=size)(noise(*source))
        assert cut.shape == (3, size, size)


def test_sides():
    assert sides(224) == (224, 256) and sides(224, augmentation="big") == (256, 256)
    assert sides(256, 224) == (224, 256) and sides(240, 224, "red") == (224, 240)
    assert sides(32) == (32, 32) and sides(64) == (64, 64) and sides(65) == (65, 74)


def test_images_that_fit_are_not_resampled():
    for size in (32, 64):
        image = noise(size, size)
        for transform in (
            eval_transform(size, MEAN, STD),
            train_transform("none", size, MEAN, STD),
        ):
            assert torch.equal(transform(image), image)
    image = noise(224, 224)
    assert torch.equal(train_transform("none", 224, MEAN, STD)(image), image)
    assert not torch.equal(eval_transform(224, MEAN, STD)(image), image)


def test_evaluation_takes_the_centre():
    image = torch.zeros(3, 256, 512, dtype=torch.uint8)
    image[:, 16:240, 144:368] = 255
    assert (eval_transform(224, MEAN, STD)(image) == 255).all()
    assert (eval_transform(300, MEAN, STD, crop_size=224)(image) == 255).all()
    assert (eval_transform(224, MEAN, STD, crop_size=224)(image)[:, 0] < 255).all()
    assert (eval_transform(224, MEAN, STD, augmentation="big")(image)[:, 0] < 255).all()


def test_small_evaluation_cuts_only_the_longer_side():
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    image[:, :, 20:60] = 255
    assert (eval_transform(40, MEAN, STD)(image) == 255).all()


@pytest.mark.parametrize(
    "name,arguments,steps",
    [
        ("base", {}, [v2.RandomResizedCrop(96, antialias=True), v2.RandomHorizontalFlip()]),
        ("big", {}, [v2.RandomResizedCrop(110, antialias=True), v2.RandomHorizontalFlip()]),
        ("none", {"crop_size": 80}, [v2.Resize(96, antialias=True), v2.CenterCrop(80)]),
        (
            "adv",
            {},
            [
                v2.RandomResizedCrop(96, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomGrayscale(0.2),
                v2.ColorJitter(0.2, 0.2, 0.2, 0.2),
            ],
        ),
    ],
)
def test_augmentations_are_torchvisions(name, arguments, steps):
    image = noise(120, 160)
    theirs = v2.Compose(steps)
    for seed in range(10):
        torch.manual_seed(seed)
        mine = train_transform(name, 96, MEAN, STD, **arguments)(image)
        torch.manual_seed(seed)
        assert torch.equal(mine, theirs(image))


def test_red_cuts_windows_of_the_resized_image():
    image = noise(120, 160)
    resized = v2.Resize(110, antialias=True)(image)
    windows = {
        part.numpy().tobytes()
        for part in resized.unfold(1, 96, 1).unfold(2, 96, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    }
    red = train_transform("red", 96, MEAN, STD)
    for _ in range(10):
        cut = red(image)
        assert (
            cut.contiguous().numpy().tobytes() in windows
            or cut.flip(-1).contiguous().numpy().tobytes() in windows
        )


def test_adv_turns_a_fifth_grey_and_changes_colours():
    image = textured(64, 64)
    adv = train_transform("adv", 64, MEAN, STD, scale=(1.0, 1.0))
    base = train_transform("base", 64, MEAN, STD, scale=(1.0, 1.0))
    found = [adv(image).float() for _ in range(300)]
    grey = sum(bool((one == one[:1]).all()) for one in found)
    # 60, and 3.5 standard deviations
    assert 36 <= grey <= 86
    assert sum(torch.equal(one, base(image).float()) for one in found) == 0
    brightness = torch.stack([one.mean() for one in found]) / image.float().mean()
    assert brightness.min() > 0.75 and brightness.max() < 1.25 and brightness.std() > 0.05


@pytest.mark.parametrize("size", [5, 16, 33])
def test_shift_is_one_of_the_crops_of_the_mirrored_image(size):
    image = noise(size, size)
    margin = size // 8
    wide = pad(image.float(), [margin] * 4, mode="reflect") if margin else image.float()
    crops = {wide[:, y:y + size, x:x + size].numpy().tobytes(): (y, x)
             for y in range(2 * margin + 1) for x in range(2 * margin + 1)}
    shift = Shift(size)
    seen = {crops[shift(image).float().numpy().tobytes()] for _ in range(60 * len(crops) // 5 + 1)}
    assert len(seen) >= 0.9 * len(crops)


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("value_range", [1.0, 255.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalisation_in_the_networks_order_and_range(channels, value_range, layout):
    mean = (104.0, 117.0, 128.0)
    std = (1.0, 2.0, 4.0)
    batch = torch.stack([noise(6, 5, seed) for seed in range(4)]).contiguous(memory_format=layout)
    normalise = Normalise(mean, std, channels, value_range)
    found = normalise(batch)
    assert found.dtype == torch.float32 and found.is_contiguous(memory_format=layout)
    for place, name in enumerate(channels):
        values = batch[:, "RGB".index(name)].double() / 255 * value_range
        torch.testing.assert_close(
            found[:, place].double(), (values - mean[place]) / std[place], rtol=1e-4, atol=1e-4
        )
    assert torch.equal(normalise(batch[1]), found[1])


def test_unknown_augmentation():
    with pytest.raises(UsageError, match="--augmentation tiny.*base, adv, big, red, shift, none"):
        train_transform("tiny", 32, MEAN, STD)


@pytest.mark.parametrize(
    "argv,image_size,cache_side",
    [
        ([], 299, 513),
        (["--image_size", "224"], 224, 384),
        (["--image_size", "256", "--crop_size", "224"], 256, 384),
        (["--image_size", "224", "--augmentation", "big"], 224, 439),
        (["--cache_side", "300"], 299, 300),
        (["--cache", "none"], 299, None),
    ],
)
def test_sizes_that_are_not_asked_for_are_the_networks(argv, image_size, cache_side):
    opt = get_options(argv)
    settle_sizes(opt, Network(Backbone(torch.nn.Identity(), 3, image_size=299), 4))
    assert (opt.image_size, opt.cache_side) == (image_size, cache_side)


def test_a_cache_smaller_than_the_input_is_refused():
    opt = get_options(["--image_size", "64", "--cache_side", "63"])
    with pytest.raises(UsageError, match="--cache_side 63 is less than the input's 64 pixels"):
        settle_sizes(opt, Network(Backbone(torch.nn.Identity(), 3), 4))
