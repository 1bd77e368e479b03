"""Decodes many image files on all cores, in bounded memory, and decodes equal files once.

Decoded images are cached in `data/cache`, outside DVC's outputs, by the digest of the file's content: a
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
from stages.training.resources import cores

CACHE = Path("data/cache")
RULE = 1  # version of the decoding rule in stages/images/pictures.py; a new version starts a new cache
CHUNK = 1024  # files in memory at the same time; fewer are decoded at once if the images are large
CORES = cores()
DIGEST, CHECKSUM = 32, 16  # bytes
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known about an image file without decoding it.

    Attributes:
        digest: SHA-256 of its content.
        grey: its header says that its pixels are grey values.
    """

    digest: bytes
    grey: bool


def inspect(path: Path) -> FileInfo | str:
    """The digest and header of an image file, or the reason why it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        return FileInfo(digest, pictures.is_grey_file(path))
    except ImageError as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)


@dataclass(frozen=True)
class FileInfos:
    """`FileInfo` of many files in columns, which takes a hundred bytes less per file than objects.

    Attributes:
        digests: uint8 (n, 32); zeros for a file that cannot be read.
        grey: bool (n,); False for a file that cannot be read.
        errors: why a file cannot be read, by its index.
    """

    digests: np.ndarray
    grey: np.ndarray
    errors: dict[int, str]


def inspect_all(folder: Path, files: Sequence[str]) -> FileInfos:
    """`inspect` each file of a folder, in the given order."""
    digests, grey = np.zeros((len(files), DIGEST), dtype=np.uint8), np.zeros(len(files), dtype=bool)
    errors, index = {}, 0
    for chunk in _parallel("prepare: reading", inspect, folder, files, len(files), CHUNK):
        for info in chunk:
            if isinstance(info, FileInfo):
                digests[index], grey[index] = np.frombuffer(info.digest, dtype=np.uint8), info.grey
            else:
                errors[index] = info
            index += 1
    return FileInfos(digests, grey, errors)


def as_keys(digests: np.ndarray) -> np.ndarray:
    """View digests (n, 32) as an array (n,) of values that can be compared and sorted."""
    keys: np.ndarray = np.ascontiguousarray(digests).view(f"S{DIGEST}").reshape(-1)
    return keys


class PixelCache:
    """Decoded images of one size and number of channels, uint8 (C, H, W), on disk.

    There are two files: the pixels of all images one after another, and for each image a key, made of the
    digest of its file and a checksum of its pixels. Pixels are written first, so an image that has a key
    is complete.
    """

    def __init__(self, size: int, channels: int, folder: Path = CACHE) -> None:
        self.size, self.channels = size, channels
        # Another version of Pillow may decode or resample to other bytes: they must not be mixed.
        name = f"{channels}x{size}-rule{RULE}-pillow{PIL.__version__}"
        self._pixels, self._keys = folder / f"{name}.pixels", folder / f"{name}.keys"
        folder.mkdir(parents=True, exist_ok=True)
        self._digests = np.zeros((0, DIGEST), dtype=np.uint8)  # row by row
        self._load()

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        return self.channels, self.size, self.size

    def __len__(self) -> int:
        """The number of images."""
        return len(self._digests)

    def rows(self, digests: np.ndarray) -> np.ndarray:
        """The rows of the files with these digests (n, 32), int64 (n,); -1 for a file that is not cached."""
        if not len(self):
            return np.full(len(digests), -1)
        cached, wanted = as_keys(self._digests), as_keys(digests)
        order = np.argsort(cached)
        rows = order[np.searchsorted(cached, wanted, sorter=order).clip(max=len(cached) - 1)]
        return np.where(cached[rows] == wanted, rows, -1)

    def add(self, folder: Path, files: Sequence[str], digests: np.ndarray) -> dict[bytes, str]:
        """Decode the files that are not cached yet; of files with equal content, decode one.

        Args:
            folder: the folder of the files.
            files: their paths relative to it.
            digests: of their contents, uint8 (n, 32).

        Returns:
            Why a file cannot be decoded, by its digest.
        """
        first = np.unique(as_keys(digests), return_index=True)[1]
        new = np.sort(first[self.rows(digests[first]) < 0])
        indices, errors, decoded = iter(range(len(new))), {}, np.ones(len(new), dtype=bool)
        names = (files[number] for number in new)
        size = max(4 * CORES, min(CHUNK, part_size(self.shape)))  # the minimum keeps all cores busy
        with self._pixels.open("ab") as pixels, self._keys.open("ab") as keys:
            for chunk in _parallel("prepare: decoding", self._decode, folder, names, len(new), size):
                records = b""
                for image in chunk:
                    index = next(indices)
                    digest = digests[new[index]].tobytes()
                    if isinstance(image, str):
                        errors[digest], decoded[index] = image, False
                        continue
                    content = image.tobytes()
                    pixels.write(content)
                    records += digest + _checksum(content)
                pixels.flush()
                keys.write(records)
                keys.flush()
        self._digests = np.concatenate([self._digests, digests[new[decoded]]])
        return errors

    def images(self) -> np.ndarray:
        """All images, memory-mapped, uint8 (N, C, H, W)."""
        if not len(self):
            return np.zeros((0, *self.shape), dtype=np.uint8)
        return np.memmap(self._pixels, dtype=np.uint8, mode="r", shape=(len(self), *self.shape))

    def _decode(self, path: Path) -> np.ndarray | str:
        try:
            return pictures.read(path, self.size, self.channels)
        except ImageError as error:
            return error.reason

    def _load(self) -> None:
        """Read the keys; from the first damaged or incomplete image on, truncate both files."""
        key_size, image_size = DIGEST + CHECKSUM, int(np.prod(self.shape))
        for file in (self._pixels, self._keys):
            file.touch()
        digests = bytearray()
        with self._pixels.open("rb") as pixels, self._keys.open("rb") as keys:
            while (
                len(key := keys.read(key_size)) == key_size
                and len(content := pixels.read(image_size)) == image_size
            ):
                if key[DIGEST:] != _checksum(content):
                    break
                digests += key[:DIGEST]
        self._digests = np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, DIGEST)
        os.truncate(self._pixels, len(self) * image_size)
        os.truncate(self._keys, len(self) * key_size)


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()


def _parallel(
    title: str, function: Callable[[Path], T], folder: Path, files: Iterable[str], count: int, size: int
) -> Iterator[list[T]]:
    """Call `function` on each of `count` files on all cores; yield the results in order, `size` at a time."""
    if not count:
        return
    remaining = iter(files)
    with progress(title, count) as bar, ThreadPoolExecutor(CORES) as pool:
        while chunk := list(islice(remaining, size)):
            yield list(pool.map(function, (folder / file for file in chunk)))
            bar.advance(len(chunk))
