"""What is said of many image files, in columns: a few dozen bytes a file, where objects take hundreds."""

import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Picture:
    """One image file and what is said of it; None: nothing.

    Attributes:
        file: below the folder, with `/`.
        split: train, validation or test.
        group: images of one group (a patient, a film) are never in two splits.
    """

    file: str
    label: str | None = None
    split: str | None = None
    group: str | None = None


def own_name(file: str) -> str:
    """The file's own name: what stays when it is moved into a class folder."""
    # NOTE: not by pathlib, which keeps a table of all names that are in use.
    return unicodedata.normalize("NFC", file.rpartition("/")[2])


@dataclass(frozen=True)
class Files(Sequence[str]):
    """Names of files: in one block of bytes, each ended by a zero, which no name has.

    Attributes:
        starts: where in the block each begins, int64 (n,).
    """

    block: bytes
    starts: np.ndarray

    def __len__(self) -> int:
        """How many there are."""
        return len(self.starts)

    def __getitem__(self, number: Any) -> Any:
        """One of them; no slices."""
        start = self.starts[number]
        return self.block[start : self.block.index(0, start)].decode()

    def take(self, numbers: np.ndarray) -> "Files":
        """Some of them, in the same block."""
        return Files(self.block, self.starts[numbers])


@dataclass(frozen=True)
class Words(Sequence[str | None]):
    """Words of which many are the same, each kept once.

    Attributes:
        codes: the number of each among those known, int32 (n,).
        known: the first is None: nothing is said.
    """

    codes: np.ndarray
    known: list[str | None]

    def __len__(self) -> int:
        """How many there are, the same ones too."""
        return len(self.codes)

    def __getitem__(self, number: Any) -> Any:
        """One of them; no slices."""
        return self.known[self.codes[number]]

    def take(self, numbers: np.ndarray) -> "Words":
        """Some of them."""
        return Words(self.codes[numbers], self.known)

    def given(self) -> np.ndarray:
        """Where something is said, bool (n,)."""
        return np.asarray(self.codes != 0)


@dataclass(frozen=True)
class Pictures(Sequence[Picture]):
    """Pictures, which become objects only where they are looked at."""

    files: Files
    labels: Words
    splits: Words
    groups: Words

    @staticmethod
    def of(pictures: Iterable[Picture]) -> "Pictures":
        """These pictures, of which no more than one is needed at a time."""
        block, starts, codes = bytearray(), array("q"), array("i")
        known: dict[str | None, int] = {None: 0}
        for picture in pictures:
            starts.append(len(block))
            block += picture.file.encode() + b"\0"
            for word in (picture.label, picture.split, picture.group):
                codes.append(known.setdefault(word, len(known)))
        columns = np.array(codes, dtype=np.int32).reshape(-1, 3).T.copy()
        files = Files(bytes(block), np.array(starts, dtype=np.int64))
        return Pictures(files, *(Words(column, list(known)) for column in columns))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.files)

    def __getitem__(self, number: Any) -> Any:
        """One of them; no slices."""
        return Picture(self.files[number], self.labels[number], self.splits[number], self.groups[number])

    def take(self, numbers: np.ndarray) -> "Pictures":
        """Some of them."""
        words = (column.take(numbers) for column in (self.labels, self.splits, self.groups))
        return Pictures(self.files.take(numbers), *words)
