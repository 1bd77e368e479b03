"""Metadata of many image files, stored in columns: a few dozen bytes per file instead of hundreds."""

import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Record:
    """Metadata of one image file; None means unknown.

    Attributes:
        file: path relative to the folder, with `/`.
        label: the name of its class.
        split: train, validation or test.
        group: images of the same group (a patient, a video) are always in the same split.
    """

    file: str
    label: str | None = None
    split: str | None = None
    group: str | None = None


def base_name(file: str) -> str:
    """The last component of a path, in Unicode NFC: it does not change when the file is moved."""
    # NOTE: not with pathlib, which interns every name.
    return unicodedata.normalize("NFC", file.rpartition("/")[2])


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key for natural order: 2 before 10, and 01 before 1; no two names have the same key."""
    parts = re.split(r"(\d+)", name)
    return [(int(text), "") if text.isdecimal() else (-1, text) for text in parts], name


@dataclass(frozen=True)
class Paths(Sequence[str]):
    """A column of file paths.

    Attributes:
        block: all paths in UTF-8, each terminated by a zero byte, which no path contains.
        starts: offset of each path in the block, int64 (n,).
    """

    block: bytes
    starts: np.ndarray

    def __len__(self) -> int:
        """The number of paths."""
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        """The path at an index (slices are not supported)."""
        start = self.starts[index]
        return self.block[start : self.block.index(0, start)].decode()

    def take(self, indices: np.ndarray) -> "Paths":
        """A subset, which shares the block."""
        return Paths(self.block, self.starts[indices])


@dataclass(frozen=True)
class Categorical(Sequence[str | None]):
    """A column of strings with few distinct values.

    Attributes:
        codes: index of each value into the categories, int32 (n,).
        categories: the distinct values; the first is None, for unknown.
    """

    codes: np.ndarray
    categories: list[str | None]

    def __len__(self) -> int:
        """The number of values."""
        return len(self.codes)

    def __getitem__(self, index: Any) -> Any:
        """The value at an index (slices are not supported)."""
        return self.categories[self.codes[index]]

    def take(self, indices: np.ndarray) -> "Categorical":
        """A subset with the same categories."""
        return Categorical(self.codes[indices], self.categories)

    def is_known(self) -> np.ndarray:
        """Which values are not None, bool (n,)."""
        return np.asarray(self.codes != 0)


@dataclass(frozen=True)
class Records(Sequence[Record]):
    """Records in columns; a `Record` is created when it is accessed."""

    files: Paths
    labels: Categorical
    splits: Categorical
    groups: Categorical

    @staticmethod
    def of(records: Iterable[Record]) -> "Records":
        """Build the columns from records, which may come from a generator."""
        block, starts, codes = bytearray(), array("q"), array("i")
        known: dict[str | None, int] = {None: 0}
        for record in records:
            starts.append(len(block))
            block += record.file.encode() + b"\0"
            for value in (record.label, record.split, record.group):
                codes.append(known.setdefault(value, len(known)))
        columns = np.array(codes, dtype=np.int32).reshape(-1, 3).T.copy()
        files = Paths(bytes(block), np.array(starts, dtype=np.int64))
        return Records(files, *(Categorical(column, list(known)) for column in columns))

    def __len__(self) -> int:
        """The number of records."""
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        """The record at an index (slices are not supported)."""
        return Record(self.files[index], self.labels[index], self.splits[index], self.groups[index])

    def take(self, indices: np.ndarray) -> "Records":
        """A subset."""
        columns = (column.take(indices) for column in (self.labels, self.splits, self.groups))
        return Records(self.files.take(indices), *columns)
