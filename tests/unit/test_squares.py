from typing import get_args

import numpy as np
import pytest
from PIL import Image

from stages.images.squares import square
from stages.networks.pixel_rule import Fit

FITS = get_args(Fit)


def wide() -> Image.Image:
    """60 × 20 pixels: red, green and blue thirds."""
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    for third in range(3):
        pixels[:, 20 * third : 20 * (third + 1), third] = 200
    return Image.fromarray(pixels)


def test_crop_takes_the_centre() -> None:
    assert (np.asarray(square(wide(), 20, "crop")) == (0, 200, 0)).all()
    assert (np.asarray(square(wide().transpose(Image.Transpose.ROTATE_90), 20, "crop")) == (0, 200, 0)).all()


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("upright", [False, True])
def test_pad_and_stretch_show_the_whole_picture(fit: str, upright: bool) -> None:
    image = wide().transpose(Image.Transpose.ROTATE_90) if upright else wide()
    pixels = np.asarray(square(image, 30, fit))
    pixels = pixels.transpose(1, 0, 2)[:, ::-1] if upright else pixels
    assert pixels.shape == (30, 30, 3)
    middle = pixels[15, [4, 15, 25]].astype(int)
    np.testing.assert_allclose(middle, 200 * np.eye(3), atol=12)
    if fit == "stretch":
        np.testing.assert_allclose(
            pixels[[0, -1]][:, [4, 15, 25]], 200 * np.eye(3)[None].repeat(2, 0), atol=12
        )


def test_the_bars_have_the_mean_colour_of_the_border_and_the_picture_its_proportions() -> None:
    white = np.full((10, 40, 3), 255, dtype=np.uint8)
    white[2:8, 5:35] = (200, 0, 0)
    pixels = np.asarray(square(Image.fromarray(white), 40, "pad"))
    assert (pixels[:15] == 255).all()
    assert (pixels[25:] == 255).all()
    assert np.array_equal(pixels[15:25], white)
    black = np.asarray(square(Image.fromarray(np.zeros((40, 10), dtype=np.uint8)), 20, "pad"))
    assert black.shape == (20, 20)
    assert (black == 0).all()


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_keeps_every_pixel(fit: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(square(Image.fromarray(pixels), 16, fit)), pixels)


@pytest.mark.parametrize("fit", FITS)
def test_a_strip_of_one_pixel_is_no_error(fit: str) -> None:
    assert square(Image.new("L", (500, 1), 70), 16, fit).size == (16, 16)
    assert square(Image.new("RGB", (1, 500), "red"), 16, fit).size == (16, 16)
