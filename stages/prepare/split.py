"""Which images are held out: by the seed for a dataset that stays, by an image's own content for a folder."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from stages.prepare.folder import Picture
from stages.randomness import Stream
from stages.sections import Folder

STRICTNESS = ("pool", "validation", "test")


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that can be read: its digest, its split, and its row among the decoded."""

    picture: Picture
    digest: bytes
    split: str
    row: int


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


def place(pairs: list[tuple[Picture, bytes]], settings: Folder, rows: dict[bytes, int]) -> list[Image]:
    """The images in their order, each with its split: what is said of it, else by its group or its content.

    Where some are said to be the test (or validation), they are all of it: by content no other comes to them.
    They are sorted by their files' own names, so that a label moves none, and then by content.
    """
    said = [picture.split for picture, _ in pairs]
    test = 0.0 if "test" in said else settings.test
    validation = 0.0 if "validation" in said else settings.validation
    if 0 < said.count(None) < len(said):
        print(
            f"a split is stated for {len(said) - said.count(None):,} of {len(said):,} images: by content the "
            f"others give {test:.0%} to test and {validation:.0%} to validation",
            flush=True,
        )
    images = []
    for picture, digest in sorted(pairs, key=lambda pair: (pair[0].name, pair[1], pair[0].file)):
        name = picture.split
        if name in (None, "train"):
            key = f"group {picture.group}".encode() if picture.group else digest
            name = by_content(key, 0.0 if name == "train" else test, validation)
        images.append(Image(picture, digest, str(name), rows[digest]))
    return images


def together(images: list[Image]) -> list[Image]:
    """The images, copies and members of one group where the strictest of them belongs.

    A copy of a test image is a test image, and so is all of its group; and so on, where copies link groups.
    """
    while True:
        strictest: dict[bytes | str, str] = {}
        for image in images:
            for tie in _ties(image):
                strictest[tie] = max(image.split, strictest.get(tie, image.split), key=STRICTNESS.index)
        moved = [
            replace(image, split=max((strictest[tie] for tie in _ties(image)), key=STRICTNESS.index))
            for image in images
        ]
        if moved == images:
            return images
        images = moved


def _ties(image: Image) -> list[bytes | str]:
    """What an image may have in common with others: its content and its group."""
    return [image.digest, image.picture.group] if image.picture.group else [image.digest]
