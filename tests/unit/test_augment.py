import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from stages.settings.schema import Views
from stages.training.randomness import Stream
from stages.views import augment, geometry
from tests.conftest import MOVING, strengths

STEP = Stream.of(1, "test").at("step", 3)
EACH = [{name: value} for name, value in MOVING.items()]
SOME_IMAGES = {"flip", "grayscale", "blur"}  # transforms that leave some images unchanged


def dot(x: int, y: int) -> Tensor:
    image = torch.zeros(1, 1, 29, 29)  # with an odd side, so that (14, 14) is the centre
    image[0, 0, y, x] = 1
    return image


# --- each image gets its own transform


@pytest.mark.parametrize("strength", EACH, ids=lambda s: next(iter(s)))
def test_images_of_one_batch_get_different_transforms(strength: dict[str, object]) -> None:
    same = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(0)).repeat(20, 1, 1, 1)
    out = augment.random_views(same, torch.arange(20), strengths(**strength), STEP).flatten(1)
    differ = torch.cdist(out, out, p=torch.inf) > 1e-3
    # A few pairs may be equal: two tiny squares erase nothing.
    assert differ.float().mean() > (0.2 if SOME_IMAGES & strength.keys() else 0.85)


def test_a_resumed_step_draws_the_same_views(floats: Tensor) -> None:
    batch, positions = floats[:16], torch.arange(16)
    before = augment.random_views(batch, positions, Views(**MOVING), STEP)
    torch.manual_seed(99)
    augment.random_views(batch, positions, Views(**MOVING), STEP.at("something else"))
    again = Stream.of(1, "test").at("step", 3)
    assert torch.equal(augment.random_views(batch, positions, Views(**MOVING), again), before)


@pytest.mark.parametrize("strength", EACH, ids=lambda s: next(iter(s)))
def test_the_next_step_draws_other_views(strength: dict[str, object]) -> None:
    batch = torch.rand(20, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    following = Stream.of(1, "test").at("step", 4)
    two = [augment.random_views(batch, torch.arange(20), strengths(**strength), s) for s in (STEP, following)]
    differ = (two[0] - two[1]).abs().amax((1, 2, 3)) > 1e-3
    assert differ.float().mean() > (0.2 if SOME_IMAGES & strength.keys() else 0.85)


def test_a_view_depends_on_its_position_not_on_the_other_images(floats: Tensor) -> None:
    positions = torch.arange(100, 116)
    of_all = augment.random_views(floats[:16], positions, Views(**MOVING), STEP)
    part = augment.random_views(floats[4:9], positions[4:9], Views(**MOVING), STEP)
    torch.testing.assert_close(part, of_all[4:9], rtol=0, atol=1e-6)
    reversed_views = augment.random_views(floats[:16].flip(0), positions.flip(0), Views(**MOVING), STEP)
    torch.testing.assert_close(reversed_views.flip(0), of_all, rtol=0, atol=1e-6)
    elsewhere = augment.random_views(floats[:16], positions + 1, Views(**MOVING), STEP)
    assert (elsewhere - of_all).abs().amax((1, 2, 3)).min() > 0.05


def test_the_two_views_have_even_and_odd_positions(floats: Tensor) -> None:
    positions = torch.arange(40, 56)
    both = augment.two_views(floats[:16], positions, Views(**MOVING), STEP)
    assert both.shape == (32, 1, 28, 28)
    first = augment.random_views(floats[:16], 2 * positions, Views(**MOVING), STEP)
    second = augment.random_views(floats[:16], 2 * positions + 1, Views(**MOVING), STEP)
    torch.testing.assert_close(both, torch.cat([first, second]), rtol=0, atol=1e-6)
    assert ((first - second).abs().amax((1, 2, 3)) > 0.05).all()


def test_zero_strengths_change_nothing(floats: Tensor) -> None:
    out = augment.random_views(floats[:64], torch.arange(64), strengths(), STEP)
    torch.testing.assert_close(out, floats[:64], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 1, 28, 28), (6, 3, 33, 33)])
def test_views_keep_shape_and_stay_between_black_and_white(shape: tuple[int, ...]) -> None:
    noisy = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for images in (noisy, torch.ones(shape), torch.zeros(shape)):
        for strength in [MOVING, *EACH]:
            out = augment.random_views(images, torch.arange(len(images)), strengths(**strength), STEP)
            assert out.shape == images.shape
            assert out.dtype == torch.float32
            assert out.min() >= 0
            assert out.max() <= 1 + 1e-6


def test_the_input_is_not_changed(floats: Tensor) -> None:
    batch = floats[:8].clone()
    augment.random_views(batch, torch.arange(8), Views(**MOVING), STEP)
    assert torch.equal(batch, floats[:8])


def test_views_are_equally_exact_under_autocast(floats: Tensor) -> None:
    # Methods draw views under autocast, where a sampling grid in bf16 would be off by 1/256 of the side.
    moving = strengths(
        **{name: MOVING[name] for name in ("crop", "rotate", "scale", "shear", "shift", "blur")}
    )
    exact = augment.random_views(floats[:16], torch.arange(16), moving, STEP)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = augment.random_views(floats[:16], torch.arange(16), moving, STEP)
    torch.testing.assert_close(mixed.float(), exact, rtol=0, atol=1e-5)


# --- strokes, noise and erasing


def test_thickness_blends_with_scipys_dilation_and_erosion(floats: Tensor) -> None:
    amounts = [-1.0, -0.3, 0.0, 0.6, 1.0]
    out = augment.thickness(floats[:5], torch.tensor(amounts))
    for image, one, amount in zip(floats[:5].numpy(), out.numpy(), amounts, strict=True):
        morphology = ndimage.grey_dilation if amount > 0 else ndimage.grey_erosion
        target = morphology(image[0], size=3, mode="nearest")
        expected = (1 - abs(amount)) * image[0] + abs(amount) * target
        np.testing.assert_allclose(one[0], expected, atol=1e-6)
    ink = out.sum((1, 2, 3)) - floats[:5].sum((1, 2, 3))
    assert ink.sign().tolist() == [-1, -1, 0, 1, 1]


def test_noise_is_added_and_clipped(floats: Tensor) -> None:
    normals = torch.randn(4, 784, generator=torch.Generator().manual_seed(3))
    out = augment.noise(floats[:4], 0.3, normals)
    expected = (floats[:4].flatten(1) + 0.3 * normals).clamp(0, 1).reshape(4, 1, 28, 28)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("shape", [(28, 28), (20, 32)])
def test_erase_is_torchvisions_of_each_single_image(shape: tuple[int, int]) -> None:
    height, width = shape
    images = torch.rand(4, 3, height, width, generator=torch.Generator().manual_seed(4))
    centre = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.73, 0.21], [0.5, 0.5]])
    half = torch.tensor([0.25, 0.3, 0.11, 0.0])
    out = augment.erase(images, centre, half)
    for image, one, (x, y), h in zip(images, out, centre.tolist(), half.tolist(), strict=True):
        # A pixel is erased if its centre, at (i + 0.5) / side, is inside the square.
        left, right = (math.ceil(width * edge - 0.5) for edge in (x - h, x + h))
        top, bottom = (math.ceil(height * edge - 0.5) for edge in (y - h, y + h))
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, width), min(bottom, height)
        expected = reference.erase(image, top, left, bottom - top, right - left, torch.zeros(1))
        assert torch.equal(one, expected)


# --- the range of each transform, measured on the views


def measured(strength: dict[str, object], images: Tensor) -> Tensor:
    n = 600
    batch = images.expand(n, *images.shape[1:])
    return augment.random_views(batch, torch.arange(n), strengths(**strength), STEP)[:, 0]


def measured_rgb(strength: dict[str, object], images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green and blue of the pixel at the centre of many views."""
    n = 600
    out = augment.random_views(
        images.expand(n, *images.shape[1:]), torch.arange(n), strengths(**strength), STEP
    )
    red, green, blue = out[:, :, out.shape[2] // 2, out.shape[3] // 2].unbind(1)
    return red, green, blue


def assert_fills(values: Tensor, low: float, high: float, slack: float = 0.0) -> None:
    """The values are within the limits and come near both."""
    assert low - slack <= values.min()
    assert values.max() <= high + slack
    assert values.min() < low + 0.1 * (high - low)
    assert values.max() > high - 0.1 * (high - low)


def blob(width: float) -> Tensor:
    """A Gaussian at the centre of 41 × 41 pixels."""
    along = torch.arange(41) - 20.0
    return torch.exp(-(along[:, None] ** 2 + along**2) / (2 * width**2))[None, None]


def test_shift_reaches_its_strength_in_all_directions() -> None:
    out = measured({"shift": 0.2}, blob(2.0))
    mass, along = out.sum((1, 2)), (torch.arange(41) - 20.0) / 41
    x, y = (out.sum(1) * along).sum(1) / mass, (out.sum(2) * along).sum(1) / mass
    assert_fills(x, -0.2, 0.2, 0.002)
    assert_fills(y, -0.2, 0.2, 0.002)
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.15


def test_pixels_from_outside_the_image_are_black() -> None:
    white = measured({"shift": 0.2}, torch.ones(1, 1, 20, 20))
    share = white.mean((1, 2))
    assert 0.6 < share.min() < 0.7  # up to a fifth of each side is lost
    assert white[:, 6:14, 6:14].min() > 0.999


def test_the_logarithm_of_the_scale_is_uniform() -> None:
    out = measured({"scale": (0.5, 2.0)}, blob(3.0))
    scale = (out.sum((1, 2)) / blob(3.0).sum()).sqrt()
    assert_fills(scale.log2(), -1.0, 1.0, 0.02)
    assert scale.log2().mean().abs() < 0.1


def test_rotation_and_shear_reach_their_strength_in_both_directions() -> None:
    bar = torch.zeros(1, 1, 41, 41)
    bar[0, 0, 6:35, 20] = 1
    along = torch.arange(41) - 20.0
    for name in ("rotate", "shear"):
        out = measured({name: 30}, bar)
        crossed = (out * along[:, None] * along).sum((1, 2)) / (out * along[:, None] ** 2).sum((1, 2))
        assert_fills(torch.rad2deg(torch.atan(crossed)), -30.0, 30.0, 1.0)


def test_elastic_moves_by_no_more_than_its_pixels() -> None:
    ramp = (torch.arange(41) / 40.0).expand(1, 1, 41, 41)  # the brightness of a pixel is its position
    moved = (measured({"elastic": 3.0}, ramp)[:, 5:36, 5:36] - ramp[0, :, 5:36, 5:36]) * 40
    assert moved.abs().max() <= 3.001
    assert moved.max() > 2
    assert moved.min() < -2


def test_strokes_are_thickened_up_to_the_strength_and_thinned_less() -> None:
    out = measured({"thickness": 0.5}, dot(14, 14))
    amount = out[:, 14, 15] - (1 - out[:, 14, 14])  # the gain of the neighbour, or the loss of the dot
    assert_fills(amount, -0.5 * augment.THINNING, 0.5, 1e-4)


def test_tone_reaches_its_strength() -> None:
    grey = torch.full((1, 1, 9, 9), 0.5)
    exponent = -measured({"gamma": 1.0}, grey)[:, 4, 4].log2()
    assert_fills(exponent.log2(), -1.0, 1.0, 1e-3)
    assert_fills(measured({"dim": 0.4}, grey)[:, 4, 4] / 0.5, 0.6, 1.0, 1e-4)
    assert_fills(measured({"brightness": 0.4}, grey)[:, 4, 4] / 0.5, 0.6, 1.4, 1e-4)
    grey[..., :4] = 0.25
    grey[..., 5:] = 0.75
    assert_fills((measured({"contrast": 0.4}, grey)[:, 4, 8] - 0.5) / 0.25, 0.6, 1.4, 1e-4)


def test_colour_reaches_its_strength() -> None:
    rosy = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1).expand(1, 3, 5, 5)
    red, green, blue = measured_rgb({"saturation": 0.4}, rosy)
    assert_fills((red - green) / 0.2, 0.6, 1.4, 1e-3)
    red, green, blue = measured_rgb({"hue": 0.1}, rosy)
    assert_fills((green - blue) / 0.2 / 6, -0.1, 0.1, 1e-3)  # from red to yellow, or to magenta
    red, green, blue = measured_rgb({"grayscale": 0.2}, rosy)
    assert (red == green).float().mean().item() == pytest.approx(0.2, abs=0.05)


def test_grey_images_are_not_changed_by_colour_transforms(floats: Tensor) -> None:
    out = augment.random_views(
        floats[:8], torch.arange(8), strengths(saturation=1.0, hue=0.5, grayscale=1.0), STEP
    )
    torch.testing.assert_close(out, floats[:8], rtol=0, atol=1e-5)


def test_jitter_is_applied_in_the_order_brightness_contrast_saturation_hue() -> None:
    images = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    expected = images
    for name in ("brightness", "contrast", "saturation", "hue"):
        expected = augment.random_views(expected, torch.arange(8), strengths(**{name: MOVING[name]}), STEP)
    jitter = strengths(**{name: MOVING[name] for name in ("hue", "saturation", "contrast", "brightness")})
    out = augment.random_views(images, torch.arange(8), jitter, STEP)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


def test_half_of_the_images_are_blurred_up_to_the_strength() -> None:
    out = measured({"blur": 1.5}, dot(14, 14))
    along = torch.arange(29) - 14.0
    variance = (out.sum(1) * along**2).sum(1)
    sharp = 1 - augment.BLURRED * (1 - 0.22 / 1.5)  # a Gaussian of 0.22 pixels has this variance on the grid
    assert (variance < 1e-4).float().mean().item() == pytest.approx(sharp, abs=0.06)
    assert_fills(variance.sqrt(), 0.0, 1.5, 0.01)


def test_flip_mirrors_its_fraction_of_the_images() -> None:
    out = measured({"flip": 0.3}, dot(20, 9))
    assert (out[:, 9, 8] > 0.99).float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert ((out[:, 9, 8] > 0.99) | (out[:, 9, 20] > 0.99)).all()


def test_crops_have_the_area_and_aspect_of_the_parameters() -> None:
    # Two ramps show which part of the image was cropped.
    ramp = (torch.arange(40) + 0.5) / 40
    crop_x = measured({"crop": (0.3, 0.8)}, ramp.expand(1, 1, 40, 40))
    crop_y = measured({"crop": (0.3, 0.8)}, ramp[:, None].expand(1, 1, 40, 40))
    width = (crop_x[:, 20, 30] - crop_x[:, 20, 10]) * 2  # over half of the view
    height = (crop_y[:, 30, 20] - crop_y[:, 10, 20]) * 2
    assert_fills(width * height, 0.3, 0.8, 1e-3)
    assert (width / height).min() >= 0.75 - 1e-3
    assert (width / height).max() <= 4 / 3 + 1e-3
    assert crop_x.min() < 0.03  # up to every border
    assert crop_x.max() > 0.97


def test_a_crop_has_no_dark_rim() -> None:
    white = measured({"crop": (0.2, 1.0), "rotate": 30}, torch.ones(1, 1, 20, 20))
    torch.testing.assert_close(white, torch.ones_like(white), rtol=0, atol=1e-5)


def test_switching_one_transform_off_does_not_change_the_others(floats: Tensor) -> None:
    positions = torch.arange(16)
    without = augment.random_views(floats[:16], positions, Views(**{**MOVING, "erase": 0, "noise": 0}), STEP)
    erased = augment.random_views(floats[:16], positions, Views(**{**MOVING, "noise": 0}), STEP)
    visible = erased > 0
    assert visible.float().mean() > 0.1
    assert torch.equal(erased[visible], without[visible])


def test_noise_has_its_standard_deviation() -> None:
    out = measured({"noise": 0.1}, torch.full((1, 1, 28, 28), 0.5))[:, 1:-1, 1:-1]
    assert out.std().item() == pytest.approx(0.1, rel=0.02)
    assert out.mean().item() == pytest.approx(0.5, abs=0.003)


def test_erased_squares_reach_their_side_and_are_anywhere() -> None:
    black = measured({"erase": 0.5}, torch.ones(1, 1, 40, 40)) < 0.5
    width, height = black.any(1).sum(1), black.any(2).sum(1)
    assert 18 <= width.max() <= 20
    assert 18 <= height.max() <= 20
    assert black.float().mean(0).min() > 0.005  # each pixel is erased in some views


def test_squares_are_centred_anywhere_with_sides_up_to_the_largest() -> None:
    centre, half = augment.squares(torch.tensor([[0.0, 0.3, 1.0], [0.9, 1.0, 0.0]]), 0.6)
    torch.testing.assert_close(centre, torch.tensor([[0.0, 0.3], [0.9, 1.0]]))
    torch.testing.assert_close(half, torch.tensor([0.3, 0.0]))


def test_views_of_large_colour_images_are_noisy_and_differ() -> None:
    images = torch.full((2, 3, 512, 512), 0.5)
    views = augment.two_views(images, torch.arange(2), strengths(noise=0.1, flip=0.5, blur=1.0), STEP)
    assert views.shape == (4, 3, 512, 512)
    assert views.std().item() == pytest.approx(0.1, rel=0.01)
    correlation = torch.corrcoef(views.flatten(1)) - torch.eye(4)
    assert correlation.abs().max() < 0.01


def test_reflected_views_have_no_border_and_see_the_image_around_a_crop() -> None:
    white = torch.ones(8, 3, 28, 28)
    turned = strengths(rotate=180, shift=0.3)
    assert augment.random_views(white, torch.arange(8), turned, STEP).amin() == 0  # black corners
    turned = strengths(rotate=180, shift=0.3, reflect=True)
    torch.testing.assert_close(augment.random_views(white, torch.arange(8), turned, STEP), white)
    # The image is a vertical ramp. A corner of a turned view that repeats the crop's nearest pixel is flat.
    ramp = torch.linspace(0, 1, 28).view(1, 1, 28, 1).expand(8, 1, 28, 28).contiguous()
    flat = {}
    for reflect in (False, True):
        turned = strengths(rotate=180, crop=(0.3, 0.3), reflect=reflect)
        corners = augment.random_views(ramp, torch.arange(8), turned, STEP)[:, 0, :5, :5]
        still = (corners.diff(dim=1)[..., 1:].abs() < 1e-4) & (corners.diff(dim=2)[:, 1:].abs() < 1e-4)
        flat[reflect] = float(still.float().mean())
    assert flat[True] < 0.02 < 0.1 < flat[False]


# --- views of images that have more pixels than the views


def large_images(side: int = 64, n: int = 8) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("factor", [2, 4])
def test_an_unchanged_view_of_a_larger_image_is_its_reduction_by_area(factor: int) -> None:
    images = large_images(28 * factor)
    out = augment.random_views(images, torch.arange(8), strengths(), STEP, side=28)
    torch.testing.assert_close(out, F.avg_pool2d(images, factor), rtol=0, atol=1e-5)
    coloured = augment.random_views(images, torch.arange(8), strengths(brightness=0.5), STEP, side=28)
    expected = augment.random_views(
        F.avg_pool2d(images, factor), torch.arange(8), strengths(brightness=0.5), STEP
    )
    torch.testing.assert_close(coloured, expected, rtol=0, atol=1e-5)


def test_a_crop_shows_the_pixels_that_the_larger_image_has() -> None:
    images = large_images()
    points = geometry.crop(
        geometry.lattice(images[..., :32, :32]), images[..., :32, :32],
        torch.full((8, 2), 0.25), torch.full((8, 2), 0.5),
    )  # fmt: skip
    box = torch.full((8, 2), 0.25), torch.full((8, 2), 0.5)
    out = geometry.sample(images, points, box, side=32)
    torch.testing.assert_close(out, images[..., 16:48, 16:48], rtol=0, atol=1e-5)


def test_each_image_gets_the_level_of_its_own_crop() -> None:
    # Black and white columns: in full detail where a view shows a quarter, grey where it shows all.
    stripes = (torch.arange(64) % 2).float().expand(2, 1, 64, 64).contiguous()
    frame = stripes[..., :32, :32]
    corner, size = torch.tensor([[0.25, 0.25], [0.0, 0.0]]), torch.tensor([[0.5, 0.5], [1.0, 1.0]])
    points = geometry.crop(geometry.lattice(frame), frame, corner, size)
    fine, coarse = geometry.sample(stripes, points, (corner, size), side=32)
    assert fine.std() > 0.45
    torch.testing.assert_close(coarse, torch.full_like(coarse, 0.5), rtol=0, atol=1e-5)


def test_views_of_larger_images_are_the_same_views_in_more_detail() -> None:
    # Of smooth images: the geometry is the same whatever the images' size.
    small = F.interpolate(large_images(8), 32, mode="bicubic").clamp(0, 1)
    large = F.interpolate(small, 64, mode="bilinear")
    moving = Views(**{name: value for name, value in MOVING.items() if name not in ("thickness", "noise")})
    for strength in (moving, strengths(rotate=180, crop=(0.3, 1), reflect=True)):
        expected = augment.two_views(small, torch.arange(8), strength, STEP)
        out = augment.two_views(large, torch.arange(8), strength, STEP, side=32)
        assert out.shape == expected.shape
        assert (out - expected).abs().mean() < 0.01
        assert (out - expected.roll(1, 0)).abs().mean() > 0.1


def test_a_side_that_is_no_power_of_two_smaller_is_refused() -> None:
    with pytest.raises(ValueError, match="no power of two"):
        augment.random_views(large_images(60), torch.arange(8), strengths(), STEP, side=28)
