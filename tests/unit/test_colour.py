"""Each colour transform of a batch, compared with torchvision's of each single image.

The formulas are the same. The tolerance is 1e-5 of white for rounding errors.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from stages.views import colour


def photos(channels: int = 3) -> Tensor:
    """Random pixels, with pure colours, greys, black and white among them."""
    images = torch.rand(5, channels, 24, 30, generator=torch.Generator().manual_seed(0))
    images[:, :, :2, :2] = torch.eye(channels)[:, :1, None].expand(channels, 2, 2)
    images[:, :, 3, :] = images[:, :1, 3, :]
    images[:, :, 4, :] = 0
    images[:, :, 5, :] = 1
    return images


def assert_each(ours: Tensor, images: Tensor, single: Callable[..., Tensor], parameters: Tensor) -> None:
    for image, out, parameter in zip(images, ours, parameters.tolist(), strict=True):
        torch.testing.assert_close(out, single(image, parameter), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_is_torchvisions(name: str, channels: int) -> None:
    images, factors = photos(channels), torch.tensor([0.0, 0.6, 1.0, 1.4, 2.0])
    out = getattr(colour, name)(images, factors)
    assert_each(out, images, getattr(reference, f"adjust_{name}"), factors)


def test_hue_is_torchvisions() -> None:
    images, turns = photos(), torch.tensor([-0.5, -0.13, 0.0, 0.1, 0.5])
    assert_each(colour.hue(images, turns), images, reference.adjust_hue, turns)


def test_a_third_of_the_circle_turns_red_to_green() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    out = colour.hue(red, torch.tensor([1 / 3]))
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-5)


def test_grayscale_is_torchvisions_for_chosen_images() -> None:
    images = photos()
    out = colour.grayscale(images, torch.tensor([True, False, True, False, False]))
    for i in (0, 2):
        torch.testing.assert_close(out[i], reference.rgb_to_grayscale(images[i], 3), rtol=0, atol=1e-5)
    assert torch.equal(out[[1, 3, 4]], images[[1, 3, 4]])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("radius", [1, 3, 6])
def test_blur_is_torchvisions(channels: int, radius: int) -> None:
    images, sigmas = photos(channels), torch.tensor([0.1, 0.5, 1.0, 1.7, 3.0])

    def single(image: Tensor, sigma: float) -> Tensor:
        return reference.gaussian_blur(image, [2 * radius + 1] * 2, [sigma, sigma])

    assert_each(colour.blur(images, sigmas, radius), images, single, sigmas)


def test_blur_by_zero_changes_nothing_and_a_wide_blur_works_on_a_small_image() -> None:
    images = photos()
    assert torch.equal(colour.blur(images, torch.zeros(5), 4), images)
    small = images[:, :, :3, :4]
    out = colour.blur(small, torch.full((5,), 2.0), 50)
    assert out.shape == small.shape
    assert small.amin() <= out.amin()
    assert out.amax() <= small.amax()


def test_blur_is_equally_exact_under_autocast() -> None:
    images, sigmas = photos(), torch.full((5,), 1.0)
    exact = colour.blur(images, sigmas, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(colour.blur(images, sigmas, 3), exact)


def test_luminance_is_equally_exact_under_autocast() -> None:
    exact = colour.luminance(photos())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(colour.luminance(photos()), exact)


@pytest.mark.parametrize("channels", [1, 3])
def test_gamma_is_torchvisions(channels: int) -> None:
    images, exponents = photos(channels), torch.tensor([0.25, 0.5, 1.0, 1.7, 4.0])
    assert_each(colour.gamma(images, exponents), images, reference.adjust_gamma, exponents)


def test_parameters_are_per_image_and_inputs_are_not_changed() -> None:
    images, half = photos(), torch.full((5,), 0.5)
    before = images.clone()
    for transform in (
        colour.brightness, colour.contrast, colour.saturation, colour.hue, colour.gamma,
    ):  # fmt: skip
        one_by_one = torch.cat([transform(image[None], half[:1]) for image in images])
        torch.testing.assert_close(transform(images, half), one_by_one, rtol=0, atol=1e-6)
        assert torch.equal(images, before)
