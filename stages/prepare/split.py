"""Which images are held out: by the seed for a dataset that stays, by an image's own content for a folder."""

import hashlib

import numpy as np
import torch

from stages.randomness import Stream


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
