"""Decoding many image files: on all cores, in bounded memory, and each of them only once.

What was decoded is kept in `data/cache`, outside DVC's outputs, under the digest of the file's content: a
rerun with ten new images decodes ten. The cache may be deleted at any time.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL

from stages.files.packs import part_size
from stages.images import pictures
from stages.images.pictures import ImageError
from stages.training.progress import progress

CACHE = Path("data/cache")
RULE = 1  # of `stages/pictures.py`: another rule makes another cache
T = TypeVar("T")
PART = 1024  # files that are read at the same time; fewer are decoded where the images are large
# macOS has no sched_getaffinity.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
DIGEST, CHECK = 32, 16  # bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a file before it is decoded: the digest of its content, and whether it has colours."""

    digest: bytes
    grey: bool


def inspect(path: Path) -> Seen | str:
    """Digest and header of an image file, or the reason why it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        return Seen(digest, pictures.is_grey(path))
    except ImageError as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)


@dataclass(frozen=True)
class Inspected:
    """`inspect` of many files, in columns: a hundred bytes a file fewer than objects take.

    Attributes:
        digests: uint8 (n, 32); grey: bool (n,); where a file cannot be read, they say nothing.
        wrong: why some cannot be read, by their numbers.
    """

    digests: np.ndarray
    grey: np.ndarray
    wrong: dict[int, str]


def inspect_all(folder: Path, files: Sequence[str]) -> Inspected:
    """`inspect` of each file, in their order."""
    digests, grey = np.zeros((len(files), DIGEST), dtype=np.uint8), np.zeros(len(files), dtype=bool)
    wrong, number = {}, 0
    for part in _parallel("prepare: reading", inspect, folder, files, len(files), PART):
        for seen in part:
            if isinstance(seen, Seen):
                digests[number], grey[number] = np.frombuffer(seen.digest, dtype=np.uint8), seen.grey
            else:
                wrong[number] = seen
            number += 1
    return Inspected(digests, grey, wrong)


def as_keys(digests: np.ndarray) -> np.ndarray:
    """Digests (n, 32) as one value each, (n,), that can be compared and sorted."""
    keys: np.ndarray = np.ascontiguousarray(digests).view(f"S{DIGEST}").reshape(-1)
    return keys


class Decoded:
    """The images that were decoded to one size and number of channels, uint8 (C, H, W), on disk.

    Two files: the pixels of one image after the other, and for each the digest of its file with a
    checksum of its pixels. Pixels are written first, so a record that has its digest is whole.
    """

    def __init__(self, size: int, channels: int, folder: Path = CACHE) -> None:
        self.size, self.channels = size, channels
        # Another Pillow may decode or resample to other bytes, which must not stand beside these.
        name = f"{channels}x{size}-rule{RULE}-pillow{PIL.__version__}"
        self._pixels, self._keys = folder / f"{name}.pixels", folder / f"{name}.keys"
        folder.mkdir(parents=True, exist_ok=True)
        self._known = np.zeros((0, DIGEST), dtype=np.uint8)  # row by row
        self._open()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return self.channels, self.size, self.size

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._known)

    def rows(self, digests: np.ndarray) -> np.ndarray:
        """Where the images of the files with these digests (n, 32) are, int64 (n,); -1: not here."""
        if not len(self):
            return np.full(len(digests), -1)
        known, wanted = as_keys(self._known), as_keys(digests)
        order = np.argsort(known)
        found = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)]
        return np.where(known[found] == wanted, found, -1)

    def add(self, folder: Path, files: Sequence[str], digests: np.ndarray) -> dict[bytes, str]:
        """Decode the files that are not here yet, one of each content; why some cannot be, by digest.

        digests: of the files' contents, (n, 32).
        """
        first = np.unique(as_keys(digests), return_index=True)[1]
        new = np.sort(first[self.rows(digests[first]) < 0])
        waiting, wrong, decoded = iter(range(len(new))), {}, np.ones(len(new), dtype=bool)
        names = (files[number] for number in new)
        size = max(4 * CORES, min(PART, part_size(self.shape)))  # so many at least keep the cores busy
        with self._pixels.open("ab") as pixels, self._keys.open("ab") as keys:
            for part in _parallel("prepare: decoding", self._decode, folder, names, len(new), size):
                records = b""
                for image in part:
                    number = next(waiting)
                    digest = digests[new[number]].tobytes()
                    if isinstance(image, str):
                        wrong[digest], decoded[number] = image, False
                        continue
                    content = image.tobytes()
                    pixels.write(content)
                    records += digest + _check(content)
                pixels.flush()
                keys.write(records)
                keys.flush()
        self._known = np.concatenate([self._known, digests[new[decoded]]])
        return wrong

    def images(self) -> np.ndarray:
        """All of them, memory-mapped, uint8 (N, C, H, W)."""
        if not len(self):
            return np.zeros((0, *self.shape), dtype=np.uint8)
        return np.memmap(self._pixels, dtype=np.uint8, mode="r", shape=(len(self), *self.shape))

    def _decode(self, path: Path) -> np.ndarray | str:
        try:
            return pictures.read(path, self.size, self.channels)
        except ImageError as error:
            return error.reason

    def _open(self) -> None:
        """Find out what is there; from the first record that is not whole on, all is dropped."""
        record, each = DIGEST + CHECK, int(np.prod(self.shape))
        for file in (self._pixels, self._keys):
            file.touch()
        known = bytearray()
        with self._pixels.open("rb") as pixels, self._keys.open("rb") as keys:
            while len(key := keys.read(record)) == record and len(content := pixels.read(each)) == each:
                if key[DIGEST:] != _check(content):
                    break
                known += key[:DIGEST]
        self._known = np.frombuffer(bytes(known), dtype=np.uint8).reshape(-1, DIGEST)
        whole = len(self._known)
        os.truncate(self._pixels, whole * each)
        os.truncate(self._keys, whole * record)


def _check(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECK).digest()


def _parallel(
    title: str, work: Callable[[Path], T], folder: Path, files: Iterable[str], count: int, size: int
) -> Iterator[list[T]]:
    """`work` on each of `count` files of a folder, on all cores, in parts of `size` and in order."""
    if not count:
        return
    waiting = iter(files)
    with progress(title, count) as bar, ThreadPoolExecutor(CORES) as pool:
        while part := list(islice(waiting, size)):
            yield list(pool.map(work, (folder / file for file in part)))
            bar.advance(len(part))
