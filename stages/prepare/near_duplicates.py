"""Near duplicates: pairs of images whose pixels correlate so much that one flatters a test with the other.

All pairs are compared, at the price of a few numbers a pair: of two vectors of length 1 the product is at
most that of their projections onto some directions plus that of what is left of each (Cauchy and Schwarz).
With an image's lowest frequencies as the directions, few pairs remain that must be looked at in full.
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
from stages.prepare.decode import CACHE
from stages.training.progress import progress

FREQUENCIES = 8  # of each direction of the image, and each channel
IMAGES, REFERENCES = 256, 2048  # whose bounds are multiplied at the same time: the memory that it takes
ROUNDING = 1e-4  # by which the bound may err
EQUAL = 1 - 1e-5  # so much correlate, after rounding, images whose pixels are the same


def near_duplicates(
    pixels: np.ndarray, rows: np.ndarray, references: np.ndarray, threshold: float
) -> dict[int, int]:
    """The images that are nearly one of the references.

    Args:
        pixels: uint8 (N, C, H, W), perhaps memory-mapped.
        rows: (n,) of the images, references: (m,) of those that they are compared with.
        threshold: the smallest correlation of near duplicates, at most 1.

    Returns:
        By the number of an image (in `rows`) the number of the first reference that it is nearly.
    """
    if not len(references):
        return {}
    threshold = min(threshold, EQUAL)
    found: dict[int, int] = {}
    with _bounds(pixels, references) as bounds, progress("prepare: near duplicates", len(rows)) as bar:
        start = 0
        for part in _parts(pixels, rows):
            bound = _bounded(part)
            for first in range(0, len(references), REFERENCES):
                theirs = torch.from_numpy(bounds[first : first + REFERENCES])
                close = (bound @ theirs.T >= threshold - ROUNDING).nonzero()
                for pairs in close.split(part_size(pixels.shape[1:])):
                    others = standardised(pixels, references[first + pairs[:, 1].numpy()]).flatten(1)
                    correlation = (part.flatten(1)[pairs[:, 0]] * others).sum(1)
                    for image, reference in pairs[correlation >= threshold].tolist():
                        found.setdefault(start + image, first + reference)
            start += len(part)
            bar.advance(len(part))
    return found


@contextmanager
def _bounds(pixels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """`_bounded` of some images, (n, K), in a file without a name: they may be more than the memory holds."""
    shape = len(rows), pixels.shape[1] * FREQUENCIES**2 + 1
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=CACHE) as file:
        for part in _parts(pixels, rows):
            file.write(_bounded(part).numpy().tobytes())
        file.flush()
        yield np.memmap(file, np.float32, "c", shape=shape)


def standardised(pixels: np.ndarray, rows: np.ndarray) -> Tensor:
    """Pixels with mean 0 in each channel and length 1, float (n, C, H, W): their products are correlations.

    With one mean for all channels a common tint would make twins of pictures that share nothing else.
    """
    images = torch.from_numpy(pixels[rows]).float()
    centred = images - images.mean((2, 3), keepdim=True)
    return F.normalize(centred.flatten(1), dim=1).view_as(images)


def _parts(pixels: np.ndarray, rows: np.ndarray) -> Iterator[Tensor]:
    size = min(IMAGES, part_size(pixels.shape[1:]))
    for start in range(0, len(rows), size):
        yield standardised(pixels, rows[start : start + size])


def _bounded(images: Tensor) -> Tensor:
    """Vectors (n, K) whose products are at least those of the images (n, C, H, W)."""
    waves = low_frequencies(images.shape[-1])
    projected = (waves @ images @ waves.T).flatten(1)
    left = (images.square().sum((1, 2, 3)) - projected.square().sum(1)).clamp_min(0).sqrt()
    return torch.cat([projected, left[:, None]], 1)


def low_frequencies(size: int) -> Tensor:
    """The first rows of the orthonormal cosine transform (DCT-II), (FREQUENCIES, size)."""
    place, frequency = torch.arange(size) + 0.5, torch.arange(FREQUENCIES)[:, None]
    waves = torch.cos(math.pi / size * frequency * place) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves
