import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.files import packs
from stages.files.packs import PART
from stages.prepare import near_duplicates as module
from stages.prepare.near_duplicates import low_frequencies, near_duplicates, standardise


def noise(count: int, size: int = 24, channels: int = 3, smooth: bool = False) -> np.ndarray:
    values = torch.rand(count, channels, 4 if smooth else size, 4 if smooth else size)
    images = F.interpolate(values, (size, size), mode="bicubic").clamp(0, 1)
    return (255 * images).round().to(torch.uint8).numpy()


def by_brute_force(
    pixels: np.ndarray, rows: np.ndarray, references: np.ndarray, threshold: float
) -> dict[int, int]:
    matches = {}
    centred = pixels - pixels.mean((2, 3), keepdims=True)
    unit = [image.ravel() / np.linalg.norm(image) for image in centred]
    for number, row in enumerate(rows):
        for other, reference in enumerate(references):
            if unit[row] @ unit[reference] >= threshold:
                matches[number] = other
                break
    return matches


@pytest.mark.parametrize("threshold", [0.4, 0.7, 0.9])
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("size", [13, 24])
def test_matches_equal_those_of_brute_force(
    threshold: float, smooth: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMAGES", 7)
    monkeypatch.setattr(module, "REFERENCES", 6)
    monkeypatch.setattr(packs, "PART", 5 * 3 * size * size)  # five pairs at once
    torch.manual_seed(size)
    plain = noise(40, size, smooth=smooth)
    mixed = (0.7 * plain[:20] + 0.3 * noise(20, size, smooth=smooth)).astype(np.uint8)
    pixels = np.concatenate([plain, mixed, plain[3:6]])
    rows, references = np.r_[0:25, 45:63], np.r_[25:45]
    expected = by_brute_force(pixels, rows, references, threshold)
    assert near_duplicates(pixels, rows, references, threshold) == expected


def test_brightness_and_contrast_do_not_matter() -> None:
    torch.manual_seed(1)
    images = noise(2)
    pixels = np.concatenate([images, (images // 2 + 20)])
    assert near_duplicates(pixels, np.array([2, 3]), np.array([0, 1]), 0.99) == {0: 0, 1: 1}


def test_a_common_tint_makes_no_near_duplicates() -> None:
    torch.manual_seed(1)
    tint = np.array([250, 40, 120])[None, :, None, None]
    pixels = (tint + noise(40) % 5).astype(np.uint8)
    flattened = pixels.reshape(40, -1).astype(float)
    assert np.corrcoef(flattened).min() > 0.99  # if the mean is taken over all channels
    assert near_duplicates(pixels, np.arange(20), np.arange(20, 40), 0.5) == {}


def test_grey_images_have_the_usual_correlation() -> None:
    torch.manual_seed(1)
    pixels = noise(6, channels=1)
    values = standardise(pixels, np.arange(6)).flatten(1)
    np.testing.assert_allclose(values @ values.T, np.corrcoef(pixels.reshape(6, -1)), atol=1e-5)


def test_fewer_large_images_are_compared_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    pixels = noise(120, 128, smooth=True)
    sizes: list[int] = []

    def counted(pixels: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        sizes.append(len(rows))
        return standardise(pixels, rows)

    monkeypatch.setattr(module, "standardise", counted)
    near_duplicates(pixels, np.arange(80), np.arange(80, 120), 0.0)  # every pair is a candidate
    assert max(sizes) == PART // (3 * 128 * 128) == 65


def test_without_references_there_are_no_near_duplicates() -> None:
    pixels = np.full((2, 1, 16, 16), 200, dtype=np.uint8)
    assert near_duplicates(pixels, np.array([0]), np.array([], dtype=int), 0.5) == {}


@pytest.mark.parametrize("size", [8, 13, 28, 64])
def test_low_frequencies_are_orthonormal(size: int) -> None:
    basis = low_frequencies(size)
    torch.testing.assert_close(basis @ basis.T, torch.eye(8), atol=1e-5, rtol=0)


def test_standardised_images_have_mean_zero_and_norm_one() -> None:
    torch.manual_seed(1)
    values = standardise(noise(5), np.array([4, 0]))
    torch.testing.assert_close(values.mean((2, 3)), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.flatten(1).norm(dim=1), torch.ones(2))


def test_equal_pixels_are_found_at_the_highest_threshold() -> None:
    pixels = noise(300)
    images = np.concatenate([pixels, pixels, noise(50)])
    matches = near_duplicates(images, np.arange(300, 650), np.arange(300), 1.0)
    assert matches == {image: image for image in range(300)}


def test_images_of_one_colour_are_not_near_duplicates_and_are_not_compared() -> None:
    pixels = np.concatenate([noise(20), np.full((20, 3, 24, 24), 77, dtype=np.uint8)])
    assert near_duplicates(pixels, np.arange(40), np.arange(20, 40), 0.5) == {}
    assert module._bound_vectors(standardise(pixels, np.arange(20, 40))).abs().max() < 1e-3
