"""Finds near duplicates: images whose pixels correlate so strongly with a test image's that they leak it.

All pairs are compared, but only few at full resolution. The dot product of two unit vectors is at most the
dot product of their projections onto some directions plus the product of the norms of their residuals
(Cauchy–Schwarz inequality). With the lowest frequencies of an image as the directions, this bound excludes
almost all pairs.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.files.packs import part_size
from stages.prepare.row_cache import CACHE
from stages.training.progress import progress

FREQUENCIES = 8  # per axis and channel
IMAGES, REFERENCES = 256, 2048  # size of a block of bounds that is computed at once: it limits the memory
ROUNDING = 1e-4  # numerical error of the bound
SAMPLE, REFERENCE_SAMPLE = 2_000, 20_000  # images; with more, resemblance is estimated on a sample
EQUAL = 1 - 1e-5  # rounding may reduce the correlation of equal images to this


def near_duplicates(
    pixels: np.ndarray, rows: np.ndarray, references: np.ndarray, threshold: float
) -> dict[int, int]:
    """Find the images that are near duplicates of a reference.

    Args:
        pixels: uint8 (N, C, H, W), may be memory-mapped.
        rows: of the images to check, (n,).
        references: rows of the images to compare with, (m,).
        threshold: the smallest correlation of near duplicates, at most 1.

    Returns:
        For each near duplicate, by its index into `rows`, the index of its first match in `references`.
    """
    if not len(references):
        return {}
    threshold = min(threshold, EQUAL)
    matches: dict[int, int] = {}
    with _bounds(pixels, references) as bounds, progress("prepare: near duplicates", len(rows)) as bar:
        start = 0
        for batch in _batches(pixels, rows):
            bound = _bound_vectors(batch)
            for first in range(0, len(references), REFERENCES):
                block = torch.from_numpy(bounds[first : first + REFERENCES])
                candidates = (bound @ block.T >= threshold - ROUNDING).nonzero()
                for pairs in candidates.split(part_size(pixels.shape[1:])):
                    others = standardise(pixels, references[first + pairs[:, 1].numpy()]).flatten(1)
                    correlation = (batch.flatten(1)[pairs[:, 0]] * others).sum(1)
                    for image, reference in pairs[correlation >= threshold].tolist():
                        matches.setdefault(start + image, first + reference)
            start += len(batch)
            bar.advance(len(batch))
    return matches


def resembling(
    pixels: np.ndarray, rows: np.ndarray, references: np.ndarray, threshold: float
) -> tuple[dict[int, tuple[int, float]], int]:
    """Find the images that resemble a reference; at most SAMPLE of them and REFERENCE_SAMPLE references.

    Args:
        pixels: uint8 (N, C, H, W), may be memory-mapped.
        rows: of the images to check, (n,).
        references: rows of the images to compare with, (m,).
        threshold: the smallest correlation of images that resemble each other.

    Returns:
        For each such image, by its index into `rows`, the index of the closest reference and the
        correlation; and how many images were checked.
    """
    some, others = _evenly(len(rows), SAMPLE), _evenly(len(references), REFERENCE_SAMPLE)
    best = torch.full((len(some),), -1.0)
    closest = torch.zeros(len(some), dtype=torch.int64)
    if not len(some) or not len(others):
        return {}, len(some)
    checked = standardise(pixels, rows[some]).flatten(1)
    for start in range(0, len(others), IMAGES):
        part = standardise(pixels, references[others[start : start + IMAGES]]).flatten(1)
        values, indices = (checked @ part.T).max(1)
        closest = torch.where(values > best, indices + start, closest)
        best = torch.maximum(values, best)
    resembled = {
        int(some[index]): (int(others[closest[index]]), float(best[index]))
        for index in (best >= threshold).nonzero().flatten().tolist()
    }
    return resembled, len(some)


def _evenly(count: int, most: int) -> np.ndarray:
    """At most `most` evenly spaced indices below `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


@contextmanager
def _bounds(pixels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """`_bound_vectors` of some images, (n, K), in an unnamed file: they may not fit into memory."""
    shape = len(rows), pixels.shape[1] * FREQUENCIES**2 + 1
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=CACHE) as file:
        for batch in _batches(pixels, rows):
            file.write(_bound_vectors(batch).numpy().tobytes())
        file.flush()
        yield np.memmap(file, np.float32, "c", shape=shape)


def standardise(pixels: np.ndarray, rows: np.ndarray) -> Tensor:
    """Images with mean 0 in each channel and norm 1, float (n, C, H, W): dot products are correlations.

    The mean is taken per channel, because otherwise a common tint would make unrelated images correlate.
    """
    images = torch.from_numpy(pixels[rows]).float()
    centred = images - images.mean((2, 3), keepdim=True)
    return F.normalize(centred.flatten(1), dim=1).view_as(images)


def _batches(pixels: np.ndarray, rows: np.ndarray) -> Iterator[Tensor]:
    size = min(IMAGES, part_size(pixels.shape[1:]))
    for start in range(0, len(rows), size):
        yield standardise(pixels, rows[start : start + size])


def _bound_vectors(images: Tensor) -> Tensor:
    """Vectors (n, K) whose dot products are upper bounds of those of the images (n, C, H, W)."""
    basis = low_frequencies(images.shape[-1])
    projected = (basis @ images @ basis.T).flatten(1)
    residual = (images.square().sum((1, 2, 3)) - projected.square().sum(1)).clamp_min(0).sqrt()
    return torch.cat([projected, residual[:, None]], 1)


def low_frequencies(size: int) -> Tensor:
    """The first rows of the orthonormal discrete cosine transform (DCT-II), (FREQUENCIES, size)."""
    position, frequency = torch.arange(size) + 0.5, torch.arange(FREQUENCIES)[:, None]
    basis = torch.cos(math.pi / size * frequency * position) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis
