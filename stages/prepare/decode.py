"""Decodes many image files on all cores, in bounded memory, and decodes equal files once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from stages.images import pictures
from stages.images.pictures import CONTENT, THUMBNAIL, Header, ImageError
from stages.networks.pixel_rule import Decoding
from stages.prepare.row_cache import CACHE, DIGEST, RowCache, parallel

DEEP = (None, "uint16", "int32", "float32", "colours")  # what `Header.deep` may be


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known about an image file without decoding it.

    Attributes:
        digest: SHA-256 of its content.
        header: what its header says.
    """

    digest: bytes
    header: Header


def inspect(path: Path) -> FileInfo | str:
    """The digest and header of an image file, or the reason why it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        return FileInfo(digest, pictures.read_header(path))
    except ImageError as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)


@dataclass(frozen=True)
class FileInfos:
    """`FileInfo` of many files in columns, which takes a hundred bytes less per file than objects.

    For a file that cannot be read a column has zero or False.

    Attributes:
        digests: uint8 (n, 32).
        grey: bool (n,).
        deep: indices into DEEP, int8 (n,).
        transparent: bool (n,).
        errors: why a file cannot be read, by its index.
    """

    digests: np.ndarray
    grey: np.ndarray
    deep: np.ndarray
    transparent: np.ndarray
    errors: dict[int, str]


def inspect_all(folder: Path, files: Sequence[str]) -> FileInfos:
    """`inspect` each file of a folder, in the given order."""
    count = len(files)
    infos = FileInfos(
        np.zeros((count, DIGEST), dtype=np.uint8),
        np.zeros(count, dtype=bool),
        np.zeros(count, dtype=np.int8),
        np.zeros(count, dtype=bool),
        {},
    )
    index = 0
    for chunk in parallel("prepare: reading", inspect, folder, files, count):
        for info in chunk:
            if isinstance(info, FileInfo):
                infos.digests[index] = np.frombuffer(info.digest, dtype=np.uint8)
                infos.grey[index], infos.transparent[index] = info.header.grey, info.header.transparent
                infos.deep[index] = DEEP.index(info.header.deep)
            else:
                infos.errors[index] = info
            index += 1
    return infos


class PixelCache:
    """Decoded images of one size and number of channels, and what they are compared by, on disk."""

    def __init__(
        self, size: int, channels: int, decoding: Decoding = pictures.PLAIN, folder: Path = CACHE
    ) -> None:
        self.size, self.channels, self.decoding = size, channels, decoding
        self.dtype = np.dtype(
            [
                ("pixels", np.uint8, (channels, size, size)),
                ("thumbnail", np.uint8, (3, THUMBNAIL, THUMBNAIL)),
                ("content", np.uint8, CONTENT),
            ]
        )
        self._cache = RowCache(f"{channels}x{size}-{decoding.name()}", self.dtype, folder)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._cache)

    def rows(self, digests: np.ndarray) -> np.ndarray:
        """The rows of the files with these digests (n, 32), int64 (n,); -1 for a file that is not cached."""
        return self._cache.rows(digests)

    def add(self, folder: Path, files: Sequence[str], digests: np.ndarray) -> dict[bytes, str]:
        """Decode the files that are not cached yet; of files with equal content, decode one.

        Args:
            folder: the folder of the files.
            files: their paths relative to it.
            digests: of their contents, uint8 (n, 32).

        Returns:
            Why a file cannot be decoded, by its digest.
        """
        return self._cache.add("prepare: decoding", folder, files, digests, self._decode)

    def images(self) -> np.ndarray:
        """All images, memory-mapped, uint8 (N, C, H, W)."""
        return np.asarray(self._cache.values()["pixels"])

    def thumbnails(self) -> np.ndarray:
        """Their thumbnails, memory-mapped, uint8 (N, 3, THUMBNAIL, THUMBNAIL)."""
        return np.asarray(self._cache.values()["thumbnail"])

    def contents(self) -> np.ndarray:
        """The hashes of their pixels, memory-mapped, uint8 (N, CONTENT)."""
        return np.asarray(self._cache.values()["content"])

    def _decode(self, path: Path) -> np.void | str:
        try:
            decoded = pictures.decode(path, self.size, self.channels, self.decoding)
        except ImageError as error:
            return error.reason
        row = np.zeros((), dtype=self.dtype)
        row["pixels"], row["thumbnail"], row["content"] = decoded.pixels, decoded.thumbnail, decoded.content
        return cast(np.void, row[()])
