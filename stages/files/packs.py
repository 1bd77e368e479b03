"""Image packs: many images of one size as one uint8 array in a .npy file."""

from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np

from stages.errors import InputError
from stages.files.whole import whole_file

ROUNDING = 1e-5  # a sum of float32 probabilities can be above 1 by less
PART = 4096 * 28 * 28  # bytes of pixels that are processed at the same time: 4,096 MNIST digits


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one array as .npy."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_probabilities(path: Path, rows: int) -> np.ndarray:
    """Read the class probabilities of some images, float32 (rows, K), as `write_array` has written them.

    Raises:
        InputError: the file is damaged, or holds something else.
    """
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except HEADER_ERRORS:
        array = np.zeros(0)
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype != np.float32:
        raise InputError(f"{path}: is not an array of float32 probabilities; run `dvc repro`")
    if len(array) != rows:
        raise InputError(f"{path}: holds {len(array)} images; its table has {rows} rows; run `dvc repro`")
    if not ((array >= 0) & (array <= 1 + ROUNDING)).all():
        raise InputError(f"{path}: holds numbers that are no probabilities; run `dvc repro`")
    return array


def part_size(shape: Sequence[int]) -> int:
    """How many images of shape (C, H, W) are processed at the same time: PART bytes, at least one image."""
    return max(1, PART // int(np.prod(shape)))


def write_pack(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
    """Write some rows of a pack, uint8 (N, C, H, W), as .npy, without loading all of them into memory."""
    size = part_size(images.shape[1:])
    with whole_file(path) as temporary, temporary.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), size):
            file.write(images[rows[start : start + size]].tobytes())


# NOTE: NumPy parses the header of a .npy file as a Python literal, so a damaged header can raise any of
# these.
HEADER_ERRORS = (
    ValueError, TypeError, LookupError, ArithmeticError, EOFError, SyntaxError, TokenError,
    MemoryError, RecursionError,
)  # fmt: skip


def read_pack_if_any(path: Path, rows: int) -> np.ndarray | None:
    """`read_pack`; None: there is no such file."""
    return read_pack(path, rows) if path.exists() else None


def read_pack(path: Path, rows: int | None = None) -> np.ndarray:
    """Open an image pack, uint8 (N, C, H, W), memory-mapped.

    Args:
        rows: the number of rows of the table beside it; None: not checked.

    Raises:
        InputError: it is not an image pack, is damaged, or does not fit its table.
    """
    try:
        images: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except HEADER_ERRORS as error:
        raise InputError(f"{path}: is not an image pack ({' '.join(str(error).split())})") from None
    if not isinstance(images, np.ndarray):
        raise InputError(f"{path}: is a .npz archive; allowed: one array in .npy format")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            f"{path}: holds {images.dtype} {images.shape}; allowed: uint8 (N, 1 or 3 channels, height, width)"
        )
    if not images.size:
        raise InputError(f"{path}: has no pixels: its shape is {images.shape}")
    if isinstance(images, np.memmap) and path.stat().st_size != images.offset + images.nbytes:
        raise InputError(f"{path}: is longer than its {len(images)} images of {images[0].nbytes} bytes")
    if rows is not None and rows != len(images):
        raise InputError(f"{path}: holds {len(images)} images; its table has {rows} rows; run `dvc repro`")
    return images
