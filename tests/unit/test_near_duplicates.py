import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.files import packs
from stages.files.packs import PART
from stages.prepare import near_duplicates as module
from stages.prepare.near_duplicates import low_frequencies, near_duplicates, standardised


def noise(count: int, size: int = 24, channels: int = 3, smooth: bool = False) -> np.ndarray:
    values = torch.rand(count, channels, 4 if smooth else size, 4 if smooth else size)
    images = F.interpolate(values, (size, size), mode="bicubic").clamp(0, 1)
    return (255 * images).round().to(torch.uint8).numpy()


def by_brute_force(
    pixels: np.ndarray, rows: np.ndarray, references: np.ndarray, threshold: float
) -> dict[int, int]:
    found = {}
    centred = pixels - pixels.mean((2, 3), keepdims=True)
    unit = [image.ravel() / np.linalg.norm(image) for image in centred]
    for number, row in enumerate(rows):
        for other, reference in enumerate(references):
            if unit[row] @ unit[reference] >= threshold:
                found[number] = other
                break
    return found


@pytest.mark.parametrize("threshold", [0.4, 0.7, 0.9])
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("size", [13, 24])
def test_pairs_are_those_of_brute_force(
    threshold: float, smooth: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMAGES", 7)
    monkeypatch.setattr(module, "REFERENCES", 6)
    monkeypatch.setattr(packs, "PART", 5 * 3 * size * size)  # five pairs
    torch.manual_seed(size)
    plain = noise(40, size, smooth=smooth)
    mixed = (0.7 * plain[:20] + 0.3 * noise(20, size, smooth=smooth)).astype(np.uint8)
    pixels = np.concatenate([plain, mixed, plain[3:6]])
    rows, references = np.r_[0:25, 45:63], np.r_[25:45]
    expected = by_brute_force(pixels, rows, references, threshold)
    assert near_duplicates(pixels, rows, references, threshold) == expected


def test_an_image_darker_or_flatter_is_the_same_picture() -> None:
    torch.manual_seed(1)
    images = noise(2)
    pixels = np.concatenate([images, (images // 2 + 20)])
    assert near_duplicates(pixels, np.array([2, 3]), np.array([0, 1]), 0.99) == {0: 0, 1: 1}


def test_a_common_tint_makes_no_twins() -> None:
    torch.manual_seed(1)
    tint = np.array([250, 40, 120])[None, :, None, None]
    pixels = (tint + noise(40) % 5).astype(np.uint8)
    together = pixels.reshape(40, -1).astype(float)
    assert np.corrcoef(together).min() > 0.99  # of all pixels at once
    assert near_duplicates(pixels, np.arange(20), np.arange(20, 40), 0.5) == {}


def test_one_channel_is_correlated_as_ever() -> None:
    torch.manual_seed(1)
    pixels = noise(6, channels=1)
    values = standardised(pixels, np.arange(6)).flatten(1)
    np.testing.assert_allclose(values @ values.T, np.corrcoef(pixels.reshape(6, -1)), atol=1e-5)


def test_of_large_images_fewer_are_looked_at_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    pixels = noise(120, 128, smooth=True)
    sizes: list[int] = []

    def counted(pixels: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        sizes.append(len(rows))
        return standardised(pixels, rows)

    monkeypatch.setattr(module, "standardised", counted)
    near_duplicates(pixels, np.arange(80), np.arange(80, 120), 0.0)  # all pairs
    assert max(sizes) == PART // (3 * 128 * 128) == 65


def test_a_flat_image_is_nothings_twin() -> None:
    pixels = np.full((2, 1, 16, 16), 200, dtype=np.uint8)
    assert near_duplicates(pixels, np.array([0]), np.array([1]), 0.5) == {}
    assert near_duplicates(pixels, np.array([0]), np.array([], dtype=int), 0.5) == {}


@pytest.mark.parametrize("size", [8, 13, 28, 64])
def test_the_directions_are_orthonormal(size: int) -> None:
    waves = low_frequencies(size)
    torch.testing.assert_close(waves @ waves.T, torch.eye(8), atol=1e-5, rtol=0)


def test_standardised_pixels_have_mean_nought_and_length_one() -> None:
    torch.manual_seed(1)
    values = standardised(noise(5), np.array([4, 0]))
    torch.testing.assert_close(values.mean((2, 3)), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.flatten(1).norm(dim=1), torch.ones(2))


def test_equal_pixels_are_found_at_the_highest_threshold() -> None:
    pixels = noise(300)
    both = np.concatenate([pixels, pixels, noise(50)])
    found = near_duplicates(both, np.arange(300, 650), np.arange(300), 1.0)
    assert found == {image: image for image in range(300)}


def test_images_of_one_colour_are_nobodys_twins_and_cost_no_comparison() -> None:
    pixels = np.concatenate([noise(20), np.full((20, 3, 24, 24), 77, dtype=np.uint8)])
    assert near_duplicates(pixels, np.arange(40), np.arange(20, 40), 0.5) == {}
    assert near_duplicates._bounded(standardised(pixels, np.arange(20, 40))).abs().max() < 1e-3
