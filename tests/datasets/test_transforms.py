"""Shapes, what is resampled and what is not, and what may move, flip or be mirrored."""
import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from datasets.transforms import AUGMENTATIONS, Fit, Shift, eval_transform, train_transform
from utilities.errors import UsageError

MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)


def picture(height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


def by_hand(image):
    """Normalised channel by channel."""
    return torch.stack([(image[c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)]).float()


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("source", [(32, 32), (20, 20), (300, 300), (90, 60), (60, 90), (500, 40), (1, 1), (224, 224)])
def test_every_source_gives_the_size(size, source):
    for name in AUGMENTATIONS:
        image = train_transform(name, size, MEAN, STD)(picture(*source))
        assert image.shape == (3, size, size) and image.dtype == torch.float32 and image.isfinite().all()
    assert eval_transform(size, MEAN, STD)(picture(*source)).shape == (3, size, size)


def test_images_that_fit_are_not_resampled():
    for size in (32, 64):
        image = picture(size, size)
        for transform in (eval_transform(size, MEAN, STD), train_transform("none", size, MEAN, STD)):
            torch.testing.assert_close(transform(image), by_hand(image))
    image = picture(224, 224)
    torch.testing.assert_close(train_transform("none", 224, MEAN, STD)(image), by_hand(image))
    assert (eval_transform(224, MEAN, STD)(image) - by_hand(image)).abs().max() > 0.1


def test_evaluation_takes_the_centre():
    image = torch.zeros(3, 256, 512, dtype=torch.uint8)
    image[:, 16:240, 144:368] = 255
    assert (eval_transform(224, (0, 0, 0), (1, 1, 1))(image) == 1).all()
    assert (eval_transform(224, (0, 0, 0), (1, 1, 1), resize_size=300)(image) == 1).all()
    assert (eval_transform(224, (0, 0, 0), (1, 1, 1), resize_size=224)(image)[:, 0] < 1).all()


def test_small_evaluation_cuts_only_the_longer_side():
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    image[:, :, 20:60] = 255
    assert (eval_transform(40, (0, 0, 0), (1, 1, 1))(image) == 1).all()


@pytest.mark.parametrize("size", [5, 16, 33])
def test_shift_is_one_of_the_crops_of_the_mirrored_image(size):
    image, margin = picture(size, size), size // 8
    wide = pad(image.float(), [margin] * 4, mode="reflect") if margin else image.float()
    crops = {wide[:, y:y + size, x:x + size].numpy().tobytes(): (y, x)
             for y in range(2 * margin + 1) for x in range(2 * margin + 1)}
    shift = Shift(size)
    seen = {crops[shift(image).float().numpy().tobytes()] for _ in range(60 * len(crops) // 5 + 1)}
    assert len(seen) >= 0.9 * len(crops)


def test_base_flips_and_crops():
    ramp = torch.arange(64, dtype=torch.uint8).expand(3, 64, 64).contiguous()   # brighter to the right
    base = train_transform("base", 32, (0, 0, 0), (1, 1, 1))
    slopes = torch.stack([(image[0, 0, -1] - image[0, 0, 0]) for image in (base(ramp) for _ in range(60))])
    assert 10 < (slopes > 0).sum() < 50
    assert slopes.abs().min() < 0.6 * slopes.abs().max()
    whole = train_transform("base", 32, (0, 0, 0), (1, 1, 1), scale=(1.0, 1.0))
    widths = torch.stack([(image[0, 0, -1] - image[0, 0, 0]).abs() for image in (whole(ramp) for _ in range(20))])
    assert widths.min() > 0.9 * widths.max()


def test_fit_keeps_the_object():
    image = picture(48, 48)
    assert Fit(48, 48)(image) is image


def test_unknown_augmentation():
    with pytest.raises(UsageError, match="--augmentation big.*base, shift, none"):
        train_transform("big", 32, MEAN, STD)
