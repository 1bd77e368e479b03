"""A picture for the report: some images of the pool, and what the method sees or makes of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.images import thumbnails
from stages.images.tensors import as_tensor, pixels
from stages.pretrain.learner import Learner
from stages.training.machine import Machine
from stages.training.randomness import Stream

COLUMNS = 10  # images, evenly spaced in the pool


@torch.no_grad()
def make_rows(
    learner: Learner | None, pool: np.ndarray, machine: Machine, stream: Stream
) -> dict[str, Tensor]:
    """The rows of the picture by name, each (n, C, H, W) in [0, 1]: the images first, then the method's rows.

    Args:
        learner: None if nothing was trained; then the images are the only row.
        pool: uint8 (N, C, H, W).
    """
    chosen = np.unique(np.linspace(0, len(pool) - 1, COLUMNS).astype(int))
    images = pixels(as_tensor(pool[chosen]), machine.device)
    by_name = {"images of the pool": images}
    if learner is not None:
        learner.eval()
        with machine.autocast():
            by_name |= learner.illustrate(images, torch.arange(len(images), device=machine.device), stream)
    return by_name


def write(path: Path, rows: Mapping[str, Tensor]) -> None:
    """Write the rows, one below the other, as one sheet."""
    images = torch.cat([row.float().clamp(0, 1) for row in rows.values()])
    levels = (images * 255).round().to(torch.uint8).cpu().numpy()
    columns = len(next(iter(rows.values())))
    thumbnails.write(path, thumbnails.sheet(levels, columns))
