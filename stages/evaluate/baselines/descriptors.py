"""Numbers that describe an image without any training: its pixels, its gradients, its colours."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from stages.files.packs import part_size

CELLS, BLOCK, ORIENTATIONS = 8, 2, 9  # HOG: cells along a side, about; cells along a block's side; directions
CLIP, EPSILON = 0.2, 1e-5
GRID, LEVELS = 4, 4  # colours: areas along a side; levels of each channel in the histogram
Describe = Callable[[np.ndarray], np.ndarray]  # from uint8 (n, C, H, W) to float32 (n, D)


def described(images: np.ndarray, rows: np.ndarray, describe: Describe) -> np.ndarray:
    """The descriptions of some images of a pack, float32 (n, D), computed part by part.

    Args:
        images: uint8 (N, C, H, W), memory-mapped.
        rows: of the pack, (n,), at least one.
        describe: one of the functions below.
    """
    size = part_size(images.shape[1:]) // 16 + 1  # the arrays on the way are many times as large
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return np.concatenate([describe(np.asarray(images[part])) for part in parts])


def pixels(images: np.ndarray) -> np.ndarray:
    """All pixels as they are, from 0 to 1."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def shapes(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients (HOG: N. Dalal, B. Triggs, CVPR 2005, doi:10.1109/CVPR.2005.177).

    The directions of the gradients are counted in cells, each weighted by its gradient's length, and the
    counts are normalised in overlapping blocks of cells (L2-Hys). Of a colour image each pixel has the
    gradient of the channel where it is longest. The result is that of scikit-image's `hog`, which takes ten
    times as long, because it goes through images one by one.
    """
    x = images.astype(np.float32)
    count, channels, height, width = x.shape
    down, right = np.zeros_like(x), np.zeros_like(x)
    down[:, :, 1:-1] = x[:, :, 2:] - x[:, :, :-2]
    right[..., 1:-1] = x[..., 2:] - x[..., :-2]
    length = np.hypot(down, right)
    if channels > 1:
        longest = length.argmax(1, keepdims=True)
        down, right, length = (np.take_along_axis(of, longest, 1) for of in (down, right, length))
    angle = np.degrees(np.arctan2(down, right)) % 180
    direction = np.minimum((angle * (ORIENTATIONS / 180)).astype(np.int64), ORIENTATIONS - 1)

    side = max(1, round(height / CELLS))
    rows, columns = height // side, width // side
    cell = np.arange(height)[:, None] // side * columns + np.arange(width) // side
    inside = (np.arange(height)[:, None] < rows * side) & (np.arange(width) < columns * side)
    number = np.arange(count)[:, None, None] * (rows * columns) + cell
    bins = number[:, inside] * ORIENTATIONS + direction[:, 0, inside]
    counts = np.bincount(bins.ravel(), length[:, 0, inside].ravel(), count * rows * columns * ORIENTATIONS)
    cells = counts.reshape(count, rows, columns, ORIENTATIONS) / side**2

    block = min(BLOCK, rows, columns)
    blocks = np.lib.stride_tricks.sliding_window_view(cells, (block, block), axis=(1, 2))
    blocks = np.moveaxis(blocks, 3, -1).reshape(count, rows - block + 1, columns - block + 1, -1)
    blocks = np.minimum(_unit(blocks), CLIP)
    return _unit(blocks).reshape(count, -1).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.sqrt((vectors**2).sum(-1, keepdims=True) + EPSILON**2))


def colours(images: np.ndarray) -> np.ndarray:
    """Which colours there are, and where.

    A histogram of all pixels (4 levels of each channel, so 64 colours of an RGB image; the square roots of
    the shares), and mean and standard deviation of each channel in 4 × 4 areas.
    """
    count, channels, height, width = images.shape
    level = (images >> 6).reshape(count, channels, -1).astype(np.int64)  # 0 to 3
    colour = np.tensordot(LEVELS ** np.arange(channels), level, (0, 1))  # (n, pixels)
    kinds = LEVELS**channels
    counts = np.bincount((np.arange(count)[:, None] * kinds + colour).ravel(), minlength=count * kinds)
    shares = counts.reshape(count, kinds) / (height * width)
    areas = [
        images[:, :, top:bottom, left:right].reshape(count, channels, -1) / 255
        for top, bottom in _areas(height)
        for left, right in _areas(width)
    ]
    statistics = [of for area in areas for of in (area.mean(2), area.std(2))]
    return np.concatenate([np.sqrt(shares), *statistics], axis=1).astype(np.float32)


def _areas(side: int) -> list[tuple[int, int]]:
    """The bounds of GRID areas along a side."""
    ends = [round(side * number / GRID) for number in range(GRID + 1)]
    return list(pairwise(ends))


def shapes_and_colours(images: np.ndarray) -> np.ndarray:
    """`shapes`, and beside them the `colours` of images that have any: HOG alone would throw them away."""
    if images.shape[1] == 1:
        return shapes(images)
    return np.concatenate([shapes(images), colours(images)], axis=1)
