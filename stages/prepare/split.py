"""Decides which images are held out: by the seed for a fixed dataset, by an image's content for a folder."""

import hashlib
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from stages.prepare.columns import Records, base_name
from stages.prepare.row_cache import as_keys
from stages.settings.data import Folder
from stages.training.randomness import Stream

STRICTNESS = ("pool", "validation", "test")  # of splits, the strictest last


@dataclass(frozen=True)
class Images:
    """Images that can be decoded, in columns.

    Attributes:
        records: their metadata.
        digests: of the files' contents, uint8 (n, 32).
        contents: of their decoded pixels, uint8 (n, 16); copies have the same.
        rows: of their pixels in the pixel cache, int64 (n,).
        splits: indices into STRICTNESS, int8 (n,).
    """

    records: Records
    digests: np.ndarray
    contents: np.ndarray
    rows: np.ndarray
    splits: np.ndarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.records)

    def take(self, indices: np.ndarray) -> "Images":
        """A subset."""
        records = self.records.take(indices)
        columns = (self.digests, self.contents, self.rows, self.splits)
        return Images(records, *(column[indices] for column in columns))

    def indices_of(self, split: str) -> np.ndarray:
        """The indices of the images in a split, ascending."""
        return np.flatnonzero(self.splits == STRICTNESS.index(split))


def subsample(n: int, limit: int | None, stream: Stream) -> np.ndarray:
    """Indices of a random `limit` of `n` images, ascending; all if there is no limit or n is smaller."""
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(stream.permutation(n)[:limit].numpy())


def hold_out(indices: np.ndarray, count: int, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Split `indices` at random into a pool and `count` for validation, each ascending."""
    order = torch.from_numpy(indices)[stream.permutation(len(indices))].numpy()
    return np.sort(order[count:]), np.sort(order[:count])


def split_by_hash(key: bytes, test: float, validation: float) -> str:
    """The split of one image: test, validation or pool. It does not depend on other images.

    Args:
        key: the digest of the image's file, or the name of its group.
        test: fraction of images for the test split.
        validation: fraction of images for the validation split.
    """
    position = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) / 2**64
    if position < test:
        return "test"
    return "validation" if position < test + validation else "pool"


def assign_splits(images: Images, settings: Folder) -> Images:
    """Give each image its split and sort the images.

    An image with a stated split keeps it. All others are split by the hash of their group or content; if the
    test split (or validation) is stated for any image, none is added to it by hash.

    The order is by file name without folders, so that moving a file to a class folder does not change it.
    """
    records = images.records
    stated = set(records.splits)
    test = 0.0 if "test" in stated else settings.test
    validation = 0.0 if "validation" in stated else settings.validation
    unstated = int((~records.splits.is_known()).sum())
    if 0 < unstated < len(images):
        print(
            f"a split is stated for {len(images) - unstated:,} of {len(images):,} images; of the others, "
            f"{test:.0%} go to test and {validation:.0%} to validation",
            flush=True,
        )
    splits = np.zeros(len(images), dtype=np.int8)
    for index, (name, group) in enumerate(zip(records.splits, records.groups, strict=True)):
        if name in (None, "train"):
            key = f"group {group}".encode() if group else images.digests[index].tobytes()
            name = split_by_hash(key, 0.0 if name == "train" else test, validation)
        splits[index] = STRICTNESS.index(str(name))
    return replace(images, splits=splits).take(np.array(_order(images), dtype=np.int64))


def _order(images: Images) -> list[int]:
    """Indices sorted by file name without folders; equal names by content, then by path."""
    files = images.records.files
    by_name = sorted(range(len(files)), key=lambda index: base_name(files[index]))
    order: list[int] = []
    for _, same in groupby(by_name, key=lambda index: base_name(files[index])):
        indices = list(same)
        if len(indices) > 1:
            indices.sort(key=lambda index: (images.digests[index].tobytes(), files[index]))
        order += indices
    return order


def unite_splits(images: Images) -> Images:
    """Move all copies of an image and all members of its group to the strictest split among them.

    A copy of a test image is a test image, and so is its whole group. This is repeated until nothing changes,
    because copies link groups.
    """
    groups = images.records.groups
    # An image without a group is a group of its own.
    group_ids = groups.codes.astype(np.int64)
    ungrouped = ~groups.is_known()
    group_ids[ungrouped] = len(groups.categories) + np.arange(ungrouped.sum())
    content_ids = np.unique(as_keys(images.contents), return_inverse=True)[1]
    splits = images.splits
    while True:
        moved = _strictest(group_ids, _strictest(content_ids, splits))
        if np.array_equal(moved, splits):
            return replace(images, splits=splits)
        splits = moved


def _strictest(ids: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """For each image, the strictest split of all images with the same id."""
    strictest = np.zeros(ids.max(initial=-1) + 1, dtype=splits.dtype)
    np.maximum.at(strictest, ids, splits)
    return np.asarray(strictest[ids])
