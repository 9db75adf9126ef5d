"""Crops against torchvision's transforms: the same draws number for number, the same pixels,
reduced or not.
"""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from datasets.crops import CentreCrop, Crop, RandomCrop, RandomResizedCrop, Shrink, shorter_side
from tests.datasets.pictures import noise, textured

SIDES = st.integers(1, 900)
IMAGES = [(375, 500), (500, 375), (300, 300), (40, 700), (700, 40), (33, 57)]


def whole(image):
    return tuple(image.shape[1:])


@pytest.mark.parametrize("size", IMAGES)
def test_boxes_are_those_that_torchvision_draws(size):
    theirs = v2.RandomResizedCrop(224, antialias=True)
    for seed in range(200):
        torch.manual_seed(seed)
        crop = RandomResizedCrop(224)(*size)
        torch.manual_seed(seed)
        expected = theirs.make_params([torch.empty(3, *size)])
        flip = torch.rand(1).item() < 0.5
        assert crop == Crop(
            tuple(expected[name] for name in ("top", "left", "height", "width")),
            (224, 224),
            (0, 0, 224, 224),
            flip,
        )


def test_areas_and_ratios_are_uniform_and_boxes_lie_anywhere():
    size = (600, 600)
    draws = 4000
    boxes = torch.tensor([RandomResizedCrop(224)(*size).box for _ in range(draws)]).double()
    top, left, height, width = boxes.T
    area = height * width / (size[0] * size[1])
    ratio = (width / height).log()
    # below .75 no ratio is refused
    inside = (area > 0.08) & (area < 0.7)
    # 1.63: the 1 % point
    assert kolmogorov(area[inside], 0.08, 0.7) < 1.63 / inside.sum() ** 0.5
    assert kolmogorov(ratio[inside], math.log(3 / 4), math.log(4 / 3)) < 1.63 / inside.sum() ** 0.5
    for start, length in ((top, height), (left, width)):
        place = (start + 0.5) / (size[0] - length + 1)
        assert kolmogorov(place, 0, 1) < 1.63 / draws ** 0.5


def kolmogorov(sample, low, high):
    """Largest distance between the sample's distribution and the uniform one."""
    value = ((sample - low) / (high - low)).sort().values
    steps = torch.arange(len(value) + 1) / len(value)
    return max((value - steps[:-1]).abs().max(), (value - steps[1:]).abs().max()).item()


@pytest.mark.parametrize("size", IMAGES)
def test_random_resized_crop_is_torchvisions_bit_for_bit(size):
    image = noise(*size)
    theirs = v2.Compose([v2.RandomResizedCrop(64, antialias=True), v2.RandomHorizontalFlip()])
    for seed in range(20):
        torch.manual_seed(seed)
        mine = RandomResizedCrop(64)(*size).cut(image, size)
        torch.manual_seed(seed)
        assert torch.equal(mine, theirs(image))


@pytest.mark.parametrize("size", [*IMAGES, (224, 300), (256, 256), (20, 20)])
def test_centre_crop_is_torchvisions_bit_for_bit(size):
    image = noise(*size)
    theirs = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])
    assert torch.equal(CentreCrop(224, 256)(*size).cut(image, size), theirs(image))


@pytest.mark.parametrize("size", IMAGES)
def test_random_crop_is_a_window_of_the_resized_image(size):
    image = noise(*size)
    plan = RandomCrop(50, 64)
    resized = v2.Resize(64, antialias=True)(image)
    crops = [plan(*size) for _ in range(60)]
    for crop in crops[:10]:
        top, left, height, width = crop.window
        part = resized[:, top:top + height, left:left + width]
        assert (height, width) == (50, 50)
        assert torch.equal(crop.cut(image, size), part.flip(-1) if crop.flip else part)
    assert {crop.window[0] for crop in crops} <= set(range(whole(resized)[0] - 50 + 1))
    assert len({crop.window for crop in crops}) > 40 and 10 < sum(crop.flip for crop in crops) < 50


@given(SIDES, SIDES, st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_shorter_side_is_torchvisions_resize(height, width, side):
    if side * max(height, width) // min(height, width) < 5000:
        assert shorter_side(height, width, side) == whole(
            v2.Resize(side)(torch.empty(1, height, width))
        )


@given(SIDES, SIDES, st.integers(8, 224), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_what_is_cut_has_the_size_whatever_the_pixels_present(height, width, side, reduction, seed):
    torch.manual_seed(seed)
    pixels = torch.zeros(3, -(-height // reduction), -(-width // reduction), dtype=torch.uint8)
    for plan in (RandomResizedCrop(side), CentreCrop(side, side + 9)):
        crop = plan(height, width)
        top, left, h, w = crop._box_in(whole(pixels), (height, width))
        assert (
            min(top, left) >= 0
            and 1 <= h <= pixels.shape[1] - top
            and 1 <= w <= pixels.shape[2] - left
        )
        if max(crop.resized) < 2000:
            assert whole(crop.cut(pixels, (height, width))) == (side, side)


@given(SIDES, SIDES, st.integers(8, 224), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_reduced_boxes_keep_the_resized_size_and_no_larger_factor_would(height, width, side, seed):
    torch.manual_seed(seed)
    crop = RandomResizedCrop(side)(height, width)
    factor = crop.reduction()
    (h, w) = crop.box[2:]
    assert factor == 1 or (h / factor >= side and w / factor >= side)
    assert factor == 8 or min(h, w) / (2 * factor) < side


@pytest.mark.parametrize("reduction", [2, 4])
def test_boxes_in_fewer_pixels_are_the_same_place(reduction):
    image = textured(600, 800)
    fewer = torch.nn.functional.avg_pool2d(image.float(), reduction).round().to(torch.uint8)
    for seed in range(20):
        torch.manual_seed(seed)
        crop = RandomResizedCrop(32, scale=(0.3, 1.0))(600, 800)
        fine = crop.cut(image, (600, 800))
        coarse = crop.cut(fewer, (600, 800))
        assert (fine.float() - coarse.float()).abs().mean() < 3


def test_shrink_keeps_small_images_and_brings_others_to_the_side():
    for size in ((30, 90), (64, 64)):
        image = noise(*size)
        assert Shrink(64)(*size).cut(image, size) is image
    assert whole(Shrink(64)(300, 200).cut(noise(300, 200), (300, 200))) == (96, 64)


@pytest.mark.parametrize(
    "plan", [CentreCrop(224, 256), RandomCrop(224, 256), RandomResizedCrop(224)]
)
@pytest.mark.parametrize("turned", [False, True])
def test_very_long_images_take_no_more_room_than_long_ones(plan, turned):
    """A ramp along 1 x 5,000 pixels: each window shows the part that it would show of the whole
    resized image.
    """
    size = (5000, 1) if turned else (1, 5000)
    ramp = (torch.arange(5000) % 250).to(torch.uint8).view(1, *size).expand(3, -1, -1)
    for seed in range(20):
        torch.manual_seed(seed)
        crop = plan(*size)
        assert crop.resized[0] * crop.resized[1] <= 32 * 256**2 and crop.cut(ramp, size).shape == (
            3,
            224,
            224,
        )
        if not isinstance(plan, RandomResizedCrop):
            torch.manual_seed(seed)
            whole_length = shorter_side(*size, 256)
            top, left = (round((side - 224) / 2) for side in whole_length)
            if isinstance(plan, RandomCrop):
                top, left = (torch.randint(0, side - 224 + 1, (1,)).item() for side in whole_length)
            middle = int(((top if turned else left) + 112) / 256)
            box = crop.box[not turned]
            shown = crop.window[not turned] + 112
            assert box + shown // 256 == middle


@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_pixels_are_torchvisions_on_any_processor(monkeypatch, capability, mode):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    image = noise(97, 143)
    crop = Crop((0, 0, *whole(image)), (40, 61), (0, 0, 40, 61), interpolation=mode)
    resize = v2.Resize((40, 61), v2.InterpolationMode(mode), antialias=True)
    assert torch.equal(crop.cut(image, whole(image)), resize(image))
