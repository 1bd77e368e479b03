import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from stages import views
from stages.randomness import Stream
from stages.sections import Views
from tests.conftest import MOVING, strengths

STEP = Stream.of(1, "test").at("step", 3)
EACH = [{name: value} for name, value in MOVING.items()]


def sample(images: Tensor, grid: Tensor) -> Tensor:
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def affine(images: Tensor, **changes: list[float] | list[list[float]]) -> Tensor:
    """Images through `affine_grid`; what is not named changes nothing."""
    n = len(images)
    still = {"angle": [0.0] * n, "scale": [1.0] * n, "shear": [0.0] * n, "shift": [[0.0, 0.0]] * n}
    parameters = {name: torch.tensor(value) for name, value in (still | changes).items()}
    return sample(images, views.affine_grid(images, **parameters))


def dot(x: int, y: int) -> Tensor:
    image = torch.zeros(1, 1, 29, 29)  # of odd side, so that (14, 14) is the centre
    image[0, 0, y, x] = 1
    return image


def brightest(image: Tensor) -> tuple[int, int]:
    y, x = divmod(int(image[0, 0].argmax()), image.shape[3])
    return x, y


# --- which image gets which transform


@pytest.mark.parametrize("strength", EACH, ids=lambda s: next(iter(s)))
def test_images_of_one_batch_get_different_transforms(strength: dict[str, object]) -> None:
    same = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)).repeat(20, 1, 1, 1)
    out = views.augment(same, torch.arange(20), strengths(**strength), STEP).flatten(1)
    apart = torch.cdist(out, out, p=torch.inf) > 1e-3
    # A few pairs may be alike: two tiny squares erase nothing.
    assert apart.float().mean() > 0.85


def test_a_resumed_step_draws_the_same_views(floats: Tensor) -> None:
    batch, positions = floats[:16], torch.arange(16)
    before = views.augment(batch, positions, Views(**MOVING), STEP)
    torch.manual_seed(99)
    views.augment(batch, positions, Views(**MOVING), STEP.at("something else"))
    again = Stream.of(1, "test").at("step", 3)
    assert torch.equal(views.augment(batch, positions, Views(**MOVING), again), before)


@pytest.mark.parametrize("strength", EACH, ids=lambda s: next(iter(s)))
def test_the_next_step_draws_other_views(strength: dict[str, object]) -> None:
    batch = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    following = Stream.of(1, "test").at("step", 4)
    two = [views.augment(batch, torch.arange(20), strengths(**strength), s) for s in (STEP, following)]
    apart = (two[0] - two[1]).abs().amax((1, 2, 3)) > 1e-3
    assert apart.float().mean() > 0.85  # two tiny squares erase nothing


def test_positions_decide_and_not_the_company(floats: Tensor) -> None:
    positions = torch.arange(100, 116)
    whole = views.augment(floats[:16], positions, Views(**MOVING), STEP)
    part = views.augment(floats[4:9], positions[4:9], Views(**MOVING), STEP)
    torch.testing.assert_close(part, whole[4:9], rtol=0, atol=1e-6)
    backwards = views.augment(floats[:16].flip(0), positions.flip(0), Views(**MOVING), STEP)
    torch.testing.assert_close(backwards.flip(0), whole, rtol=0, atol=1e-6)
    elsewhere = views.augment(floats[:16], positions + 1, Views(**MOVING), STEP)
    assert (elsewhere - whole).abs().amax((1, 2, 3)).min() > 0.05


def test_two_views_are_the_even_and_the_odd_addresses(floats: Tensor) -> None:
    positions = torch.arange(40, 56)
    both = views.two_views(floats[:16], positions, Views(**MOVING), STEP)
    assert both.shape == (32, 1, 28, 28)
    first = views.augment(floats[:16], 2 * positions, Views(**MOVING), STEP)
    second = views.augment(floats[:16], 2 * positions + 1, Views(**MOVING), STEP)
    torch.testing.assert_close(both, torch.cat([first, second]), rtol=0, atol=1e-6)
    assert ((first - second).abs().amax((1, 2, 3)) > 0.05).all()


def test_zero_strengths_change_nothing(floats: Tensor) -> None:
    out = views.augment(floats[:64], torch.arange(64), strengths(), STEP)
    torch.testing.assert_close(out, floats[:64], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 1, 28, 28), (6, 3, 33, 33)])
def test_views_keep_shape_and_stay_between_black_and_white(shape: tuple[int, ...]) -> None:
    noisy = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for images in (noisy, torch.ones(shape), torch.zeros(shape)):
        for strength in [MOVING, *EACH]:
            out = views.augment(images, torch.arange(len(images)), strengths(**strength), STEP)
            assert out.shape == images.shape
            assert out.dtype == torch.float32
            assert out.min() >= 0
            assert out.max() <= 1 + 1e-6


def test_input_is_left_as_it_is(floats: Tensor) -> None:
    batch = floats[:8].clone()
    views.augment(batch, torch.arange(8), Views(**MOVING), STEP)
    assert torch.equal(batch, floats[:8])


def test_views_are_as_exact_under_autocast(floats: Tensor) -> None:
    # A sampling grid in bf16 is off by up to a 256th of the image's side: methods draw inside autocast.
    moving = strengths(**{name: MOVING[name] for name in ("rotate", "scale", "shear", "shift")})
    exact = views.augment(floats[:16], torch.arange(16), moving, STEP)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = views.augment(floats[:16], torch.arange(16), moving, STEP)
    torch.testing.assert_close(mixed.float(), exact, rtol=0, atol=1e-5)


# --- geometry: conventions by hand, then against torchvision


def test_positive_angles_turn_counter_clockwise_as_seen() -> None:
    assert brightest(affine(dot(24, 14), angle=[90.0])) == (14, 4)  # from the right to the top


def test_positive_shear_moves_the_lower_half_right() -> None:
    assert brightest(affine(dot(14, 24), shear=[45.0])) == (24, 24)
    assert brightest(affine(dot(14, 4), shear=[45.0])) == (4, 4)


def test_scale_above_one_magnifies() -> None:
    assert brightest(affine(dot(18, 11), scale=[2.0])) == (22, 8)


def test_positive_shift_moves_right_and_down_by_fractions_of_the_side() -> None:
    assert brightest(affine(dot(14, 14), shift=[[6 / 29, -3 / 29]])) == (20, 11)


def test_shear_comes_before_rotation_and_the_shift_last() -> None:
    # (14, 24) is 10 below the centre: sheared to (+10, +10), turned to (+10, −10), halved, then moved.
    turned = affine(dot(14, 24), shear=[45.0], angle=[90.0])
    assert brightest(turned) == (24, 4)
    large = affine(dot(14, 19), shear=[45.0], angle=[90.0], scale=[2.0], shift=[[-4 / 29, 0.0]])
    assert brightest(large) == (20, 4)


GEOMETRY = [  # angle, scale, shear, shift in x, shift in y
    (0.0, 1.0, 0.0, 0.0, 0.0),
    (30.0, 1.0, 0.0, 0.0, 0.0),
    (-77.5, 1.0, 0.0, 0.0, 0.0),
    (0.0, 1.3, 0.0, 0.0, 0.0),
    (0.0, 0.6, 0.0, 0.0, 0.0),
    (0.0, 1.0, 20.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.13, -0.06),
    (25.0, 1.2, -12.0, 0.1, 0.07),
    (-140.0, 0.8, 9.0, -0.2, 0.15),
]


@pytest.mark.parametrize("size", [28, 41])
@pytest.mark.parametrize("channels", [1, 3])
def test_affine_is_torchvisions_of_each_single_image(floats: Tensor, size: int, channels: int) -> None:
    images = floats[: len(GEOMETRY) * channels].reshape(-1, channels, 28, 28)
    images = reference.resize(images, [size, size])
    angle, scale, shear, x, y = (list(column) for column in zip(*GEOMETRY, strict=True))
    shift = [list(pair) for pair in zip(x, y, strict=True)]
    ours = affine(images, angle=angle, scale=scale, shear=shear, shift=shift)
    for image, out, (degrees, factor, slant, right, down) in zip(images, ours, GEOMETRY, strict=True):
        # torchvision turns clockwise, shears to the left, and moves by pixels.
        expected = reference.affine(
            image,
            angle=-degrees,
            translate=[right * size, down * size],
            scale=factor,
            shear=[-slant, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


def test_elastic_is_torchvisions_with_the_same_field(floats: Tensor) -> None:
    images = floats[:4]
    knots = 4 * torch.rand(4, 2 * views.ELASTIC_KNOTS**2, generator=torch.Generator().manual_seed(1)) - 2
    still = {
        "angle": torch.zeros(4), "scale": torch.ones(4), "shear": torch.zeros(4), "shift": torch.zeros(4, 2),
    }  # fmt: skip
    field = views.elastic_offsets(images, knots)
    ours = sample(images, views.affine_grid(images, **still) + field)
    for image, out, displacement in zip(images, ours, field, strict=True):
        expected = reference.elastic(image, displacement[None], InterpolationMode.BILINEAR)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)
        assert (out - image).abs().max() > 0.1


def test_elastic_knots_are_pixels_x_first_then_y() -> None:
    # Every knot says 3 to the right, 5 down: where to look, so the dot moves left and up.
    images, side = dot(14, 14), views.ELASTIC_KNOTS**2
    knots = torch.cat([torch.full((1, side), 3.0), torch.full((1, side), 5.0)], 1)
    field = views.elastic_offsets(images, knots)
    torch.testing.assert_close(field * 29 / 2, torch.tensor([3.0, 5.0]).expand(1, 29, 29, 2))
    still = torch.zeros(1)
    grid = views.affine_grid(images, still, still + 1, still, torch.zeros(1, 2))
    assert brightest(sample(images, grid + field)) == (11, 9)


def test_elastic_field_passes_through_the_knots_of_each_image() -> None:
    images = torch.zeros(3, 1, 28, 40)
    knots = torch.randn(3, 2 * views.ELASTIC_KNOTS**2, generator=torch.Generator().manual_seed(2))
    field = views.elastic_offsets(images, knots)
    assert field.shape == (3, 28, 40, 2)
    corners = knots.view(3, 2, views.ELASTIC_KNOTS, views.ELASTIC_KNOTS)
    for row in (0, -1):
        for column in (0, -1):
            torch.testing.assert_close(field[:, row, column, 0], corners[:, 0, row, column] * 2 / 40)
            torch.testing.assert_close(field[:, row, column, 1], corners[:, 1, row, column] * 2 / 28)


# --- strokes, tone, noise and erasing


def test_thickness_blends_with_scipys_dilation_and_erosion(floats: Tensor) -> None:
    amounts = [-1.0, -0.3, 0.0, 0.6, 1.0]
    out = views.thickness(floats[:5], torch.tensor(amounts))
    for image, one, amount in zip(floats[:5].numpy(), out.numpy(), amounts, strict=True):
        reached = ndimage.grey_dilation if amount > 0 else ndimage.grey_erosion
        target = reached(image[0], size=3, mode="nearest")
        expected = (1 - abs(amount)) * image[0] + abs(amount) * target
        np.testing.assert_allclose(one[0], expected, atol=1e-6)
    ink = out.sum((1, 2, 3)) - floats[:5].sum((1, 2, 3))
    assert ink.sign().tolist() == [-1, -1, 0, 1, 1]


def test_gamma_is_torchvisions_of_each_single_image(floats: Tensor) -> None:
    exponents = torch.tensor([0.5, 1.0, 1.7, 2.0])
    out = views.gamma(floats[:4], exponents)
    for image, one, exponent in zip(floats[:4], out, exponents.tolist(), strict=True):
        torch.testing.assert_close(one, reference.adjust_gamma(image, exponent))


def test_contrast_multiplies_each_image(floats: Tensor) -> None:
    out = views.contrast(floats[:3], torch.tensor([0.0, 0.4, 1.0]))
    assert torch.equal(out, torch.stack([floats[0] * 0.0, floats[1] * 0.4, floats[2]]))


def test_noise_is_added_and_clipped(floats: Tensor) -> None:
    normals = torch.randn(4, 784, generator=torch.Generator().manual_seed(3))
    out = views.noise(floats[:4], 0.3, normals)
    expected = (floats[:4].flatten(1) + 0.3 * normals).clamp(0, 1).reshape(4, 1, 28, 28)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("shape", [(28, 28), (20, 32)])
def test_erase_is_torchvisions_of_each_single_image(shape: tuple[int, int]) -> None:
    height, width = shape
    images = torch.rand(4, 3, height, width, generator=torch.Generator().manual_seed(4))
    centre = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.73, 0.21], [0.5, 0.5]])
    half = torch.tensor([0.25, 0.3, 0.11, 0.0])
    out = views.erase(images, centre, half)
    for image, one, (x, y), h in zip(images, out, centre.tolist(), half.tolist(), strict=True):
        # A pixel is erased where its middle is inside: middles are at (i + 0.5) / side.
        left, right = (math.ceil(width * edge - 0.5) for edge in (x - h, x + h))
        top, bottom = (math.ceil(height * edge - 0.5) for edge in (y - h, y + h))
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, width), min(bottom, height)
        expected = reference.erase(image, top, left, bottom - top, right - left, torch.zeros(1))
        assert torch.equal(one, expected)


# --- how far `augment` goes: each strength alone, measured on the picture


def measured(strength: dict[str, object], images: Tensor) -> Tensor:
    n = 600
    batch = images.expand(n, *images.shape[1:])
    return views.augment(batch, torch.arange(n), strengths(**strength), STEP)[:, 0]


def assert_fills(values: Tensor, low: float, high: float, slack: float = 0.0) -> None:
    """The values keep within the limits, and come near both."""
    assert low - slack <= values.min()
    assert values.max() <= high + slack
    assert values.min() < low + 0.1 * (high - low)
    assert values.max() > high - 0.1 * (high - low)


def blob(width: float) -> Tensor:
    """A Gaussian in the middle of 41 × 41 pixels."""
    along = torch.arange(41) - 20.0
    return torch.exp(-(along[:, None] ** 2 + along**2) / (2 * width**2))[None, None]


def test_shift_reaches_its_strength_in_all_directions() -> None:
    out = measured({"shift": 0.2}, blob(2.0))
    mass, along = out.sum((1, 2)), (torch.arange(41) - 20.0) / 41
    x, y = (out.sum(1) * along).sum(1) / mass, (out.sum(2) * along).sum(1) / mass
    assert_fills(x, -0.2, 0.2, 0.002)
    assert_fills(y, -0.2, 0.2, 0.002)
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.15


def test_what_comes_in_from_outside_is_black() -> None:
    white = measured({"shift": 0.2}, torch.ones(1, 1, 20, 20))
    share = white.mean((1, 2))
    assert 0.6 < share.min() < 0.7  # up to a fifth of each side is lost
    assert white[:, 6:14, 6:14].min() > 0.999


def test_scale_is_drawn_evenly_in_its_logarithm() -> None:
    out = measured({"scale": (0.5, 2.0)}, blob(3.0))
    scale = (out.sum((1, 2)) / blob(3.0).sum()).sqrt()
    assert_fills(scale.log2(), -1.0, 1.0, 0.02)
    assert scale.log2().mean().abs() < 0.1


def test_rotation_and_shear_reach_their_strength_either_way() -> None:
    bar = torch.zeros(1, 1, 41, 41)
    bar[0, 0, 6:35, 20] = 1
    along = torch.arange(41) - 20.0
    for name in ("rotate", "shear"):
        out = measured({name: 30}, bar)
        crossed = (out * along[:, None] * along).sum((1, 2)) / (out * along[:, None] ** 2).sum((1, 2))
        assert_fills(torch.rad2deg(torch.atan(crossed)), -30.0, 30.0, 1.0)


def test_elastic_moves_by_no_more_than_its_pixels() -> None:
    ramp = (torch.arange(41) / 40.0).expand(1, 1, 41, 41)  # its brightness says where a pixel was
    moved = (measured({"elastic": 3.0}, ramp)[:, 5:36, 5:36] - ramp[0, :, 5:36, 5:36]) * 40
    assert moved.abs().max() <= 3.001
    assert moved.max() > 2
    assert moved.min() < -2


def test_strokes_are_thickened_up_to_the_strength_and_thinned_less() -> None:
    out = measured({"thickness": 0.5}, dot(14, 14))
    amount = out[:, 14, 15] - (1 - out[:, 14, 14])  # the neighbour's gain, or the dot's own loss
    assert_fills(amount, -0.5 * views.THINNING, 0.5, 1e-4)


def test_tone_reaches_its_strength() -> None:
    grey = torch.full((1, 1, 9, 9), 0.5)
    exponent = -measured({"gamma": 1.0}, grey)[:, 4, 4].log2()
    assert_fills(exponent.log2(), -1.0, 1.0, 1e-3)
    assert_fills(measured({"contrast": 0.4}, grey)[:, 4, 4] / 0.5, 0.6, 1.0, 1e-4)


def test_noise_has_its_standard_deviation() -> None:
    out = measured({"noise": 0.1}, torch.full((1, 1, 28, 28), 0.5))[:, 1:-1, 1:-1]
    assert out.std().item() == pytest.approx(0.1, rel=0.02)
    assert out.mean().item() == pytest.approx(0.5, abs=0.003)


def test_erased_squares_reach_their_side_and_lie_anywhere() -> None:
    black = measured({"erase": 0.5}, torch.ones(1, 1, 40, 40)) < 0.5
    width, height = black.any(1).sum(1), black.any(2).sum(1)
    assert 18 <= width.max() <= 20
    assert 18 <= height.max() <= 20
    assert black.float().mean(0).min() > 0.005  # every pixel is erased sometimes


def test_squares_are_centred_anywhere_with_sides_up_to_the_largest() -> None:
    centre, half = views.squares(torch.tensor([[0.0, 0.3, 1.0], [0.9, 1.0, 0.0]]), 0.6)
    torch.testing.assert_close(centre, torch.tensor([[0.0, 0.3], [0.9, 1.0]]))
    torch.testing.assert_close(half, torch.tensor([0.3, 0.0]))
