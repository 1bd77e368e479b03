"""Which images are held out: pure functions of the number of images and the seed."""

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
