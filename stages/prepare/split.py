"""Which images are held out: by the seed for a dataset that stays, by an image's own content for a folder."""

import hashlib
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from stages.prepare.columns import Pictures, own_name
from stages.prepare.decode import as_keys
from stages.settings.schema import Folder
from stages.training.randomness import Stream

STRICTNESS = ("pool", "validation", "test")


@dataclass(frozen=True)
class Images:
    """The pictures that can be read, in columns.

    Attributes:
        pictures: what is said of each.
        digests: of their contents, uint8 (n, 32); rows: among the decoded, int64 (n,).
        splits: numbers of STRICTNESS, int8 (n,).
    """

    pictures: Pictures
    digests: np.ndarray
    rows: np.ndarray
    splits: np.ndarray

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.pictures)

    def take(self, numbers: np.ndarray) -> "Images":
        """Some of them."""
        pictures = self.pictures.take(numbers)
        return Images(pictures, self.digests[numbers], self.rows[numbers], self.splits[numbers])

    def of(self, split: str) -> np.ndarray:
        """The numbers of those in a split, ascending."""
        return np.flatnonzero(self.splits == STRICTNESS.index(split))


def limited(n: int, limit: int | None, stream: Stream) -> np.ndarray:
    """Which of `n` images are used, ascending: all, or a random `limit` of them."""
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(stream.permutation(n)[:limit].numpy())


def held_out(indices: np.ndarray, count: int, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Split `indices` at random into a pool and `count` for validation, each ascending."""
    order = torch.from_numpy(indices)[stream.permutation(len(indices))].numpy()
    return np.sort(order[count:]), np.sort(order[:count])


def by_content(key: bytes, test: float, validation: float) -> str:
    """The split of one image: test, validation or pool, whatever other images there are.

    Args:
        key: what decides: the digest of its file, or the name of its group.
        test, validation: fractions.
    """
    place = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "pool"


def place(images: Images, settings: Folder) -> Images:
    """The images in their order, each with its split: what is said of it, else by its group or its content.

    Where some are said to be the test (or validation), they are all of it: by content no other comes to them.
    They are sorted by their files' own names, so that a label moves none, and then by content.
    """
    pictures, said = images.pictures, set(images.pictures.splits)
    test = 0.0 if "test" in said else settings.test
    validation = 0.0 if "validation" in said else settings.validation
    unsaid = int((~pictures.splits.given()).sum())
    if 0 < unsaid < len(images):
        print(
            f"a split is stated for {len(images) - unsaid:,} of {len(images):,} images: by content the "
            f"others give {test:.0%} to test and {validation:.0%} to validation",
            flush=True,
        )
    splits = np.zeros(len(images), dtype=np.int8)
    for number, (name, group) in enumerate(zip(pictures.splits, pictures.groups, strict=True)):
        if name in (None, "train"):
            key = f"group {group}".encode() if group else images.digests[number].tobytes()
            name = by_content(key, 0.0 if name == "train" else test, validation)
        splits[number] = STRICTNESS.index(str(name))
    return replace(images, splits=splits).take(np.array(_order(images), dtype=np.int64))


def _order(images: Images) -> list[int]:
    """Their numbers by name; where names are equal by content, then by the file's place."""
    files = images.pictures.files
    order = sorted(range(len(files)), key=lambda number: own_name(files[number]))
    found: list[int] = []
    for _, same in groupby(order, key=lambda number: own_name(files[number])):
        numbers = list(same)
        if len(numbers) > 1:
            numbers.sort(key=lambda number: (images.digests[number].tobytes(), files[number]))
        found += numbers
    return found


def together(images: Images) -> Images:
    """The images, copies and members of one group where the strictest of them belongs.

    A copy of a test image is a test image, and so is all of its group; and so on, where copies link groups.
    """
    groups = images.pictures.groups
    # An image without a group is one by itself.
    of_group = groups.codes.astype(np.int64)
    alone = ~groups.given()
    of_group[alone] = len(groups.known) + np.arange(alone.sum())
    of_content = np.unique(as_keys(images.digests), return_inverse=True)[1]
    splits = images.splits
    while True:
        moved = _strictest(of_group, _strictest(of_content, splits))
        if np.array_equal(moved, splits):
            return replace(images, splits=splits)
        splits = moved


def _strictest(members: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """For each image the strictest split among those of the same number in `members`."""
    strictest = np.zeros(members.max(initial=-1) + 1, dtype=splits.dtype)
    np.maximum.at(strictest, members, splits)
    return np.asarray(strictest[members])
