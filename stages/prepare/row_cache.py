"""A cache on disk: for each file a row of fixed size, computed once, found by the digest of its content.

It lies in `data/cache`, outside DVC's outputs, and may be deleted at any time: a rerun with ten new images
computes ten rows.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL

from stages.files.packs import part_size
from stages.training.progress import progress
from stages.training.resources import cores

CACHE = Path("data/cache")
RULE = 2  # version of how rows are made, in stages/images; a new version starts a new cache
CHUNK = 1024  # files in memory at the same time; fewer are decoded at once if their rows are large
CORES = cores()
DIGEST, CHECKSUM = 32, 16  # bytes
T = TypeVar("T")


class RowCache:
    """Rows of one NumPy type, on disk.

    There are two files: all rows one after another, and for each a key, made of the digest of its file and a
    checksum of the row. Rows are written first, so a row that has a key is complete.
    """

    def __init__(self, name: str, dtype: np.dtype, folder: Path = CACHE) -> None:
        self._dtype = dtype
        # Another version of Pillow may decode or resample to other bytes: they must not be mixed.
        name = f"{name}-rule{RULE}-pillow{PIL.__version__}"
        self._rows, self._keys = folder / f"{name}.rows", folder / f"{name}.keys"
        folder.mkdir(parents=True, exist_ok=True)
        self._digests = np.zeros((0, DIGEST), dtype=np.uint8)  # row by row
        self._load()

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._digests)

    def rows(self, digests: np.ndarray) -> np.ndarray:
        """The rows of the files with these digests (n, 32), int64 (n,); -1 for a file that is not cached."""
        if not len(self):
            return np.full(len(digests), -1)
        cached, wanted = as_keys(self._digests), as_keys(digests)
        order = np.argsort(cached)
        rows = order[np.searchsorted(cached, wanted, sorter=order).clip(max=len(cached) - 1)]
        return np.where(cached[rows] == wanted, rows, -1)

    def values(self) -> np.ndarray:
        """All rows, memory-mapped, (N,)."""
        if not len(self):
            return np.zeros(0, dtype=self._dtype)
        return np.memmap(self._rows, dtype=self._dtype, mode="r", shape=(len(self),))

    def add(
        self,
        title: str,
        folder: Path,
        files: Sequence[str],
        digests: np.ndarray,
        compute: Callable[[Path], np.void | str],
    ) -> dict[bytes, str]:
        """Compute the rows of the files that are not cached yet; of files with equal content, one.

        Args:
            title: of the progress bar.
            folder: the folder of the files.
            files: their paths relative to it.
            digests: of their contents, uint8 (n, 32).
            compute: returns the row of a file, or why it cannot be read; it is called by several threads.

        Returns:
            Why a file cannot be read, by its digest.
        """
        first = np.unique(as_keys(digests), return_index=True)[1]
        new = np.sort(first[self.rows(digests[first]) < 0])
        indices, errors, computed = iter(range(len(new))), {}, np.ones(len(new), dtype=bool)
        names = (files[number] for number in new)
        size = max(4 * CORES, min(CHUNK, part_size((self._dtype.itemsize,))))  # the minimum: all cores busy
        with self._rows.open("ab") as rows, self._keys.open("ab") as keys:
            for chunk in parallel(title, compute, folder, names, len(new), size):
                records = b""
                for row in chunk:
                    index = next(indices)
                    digest = digests[new[index]].tobytes()
                    if isinstance(row, str):
                        errors[digest], computed[index] = row, False
                        continue
                    content = row.tobytes()
                    rows.write(content)
                    records += digest + _checksum(content)
                rows.flush()
                keys.write(records)
                keys.flush()
        self._digests = np.concatenate([self._digests, digests[new[computed]]])
        return errors

    def _load(self) -> None:
        """Read the keys; from the first damaged or incomplete row on, truncate both files."""
        key_size, row_size = DIGEST + CHECKSUM, self._dtype.itemsize
        for file in (self._rows, self._keys):
            file.touch()
        digests = bytearray()
        with self._rows.open("rb") as rows, self._keys.open("rb") as keys:
            while (
                len(key := keys.read(key_size)) == key_size
                and len(content := rows.read(row_size)) == row_size
            ):
                if key[DIGEST:] != _checksum(content):
                    break
                digests += key[:DIGEST]
        self._digests = np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, DIGEST)
        os.truncate(self._rows, len(self) * row_size)
        os.truncate(self._keys, len(self) * key_size)


def as_keys(digests: np.ndarray) -> np.ndarray:
    """View digests (n, bytes) as an array (n,) of values that can be compared and sorted."""
    keys: np.ndarray = np.ascontiguousarray(digests).view(f"S{digests.shape[1]}").reshape(-1)
    return keys


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()


def parallel(
    title: str,
    function: Callable[[Path], T],
    folder: Path,
    files: Iterable[str],
    count: int,
    size: int | None = None,
) -> Iterator[list[T]]:
    """Call `function` on each of `count` files on all cores; yield the results in order, `size` at a time."""
    if not count:
        return
    size, remaining = size or CHUNK, iter(files)
    with progress(title, count) as bar, ThreadPoolExecutor(CORES) as pool:
        while chunk := list(islice(remaining, size)):
            yield list(pool.map(function, (folder / file for file in chunk)))
            bar.advance(len(chunk))
