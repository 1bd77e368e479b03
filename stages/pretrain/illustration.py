"""What a method sees and makes of some images, as one picture for the report."""

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
def rows_of(learner: Learner | None, pool: np.ndarray, machine: Machine, stream: Stream) -> dict[str, Tensor]:
    """Each row's name and its images, (n, C, H, W) in [0, 1]: as they are, then the method's.

    Args:
        learner: None where nothing was trained: then there are the images alone.
        pool: uint8 (N, C, H, W).
    """
    chosen = np.unique(np.linspace(0, len(pool) - 1, COLUMNS).astype(int))
    images = pixels(as_tensor(pool[chosen]), machine.device)
    rows = {"images of the pool": images}
    if learner is not None:
        learner.eval()
        with machine.autocast():
            rows |= learner.shown(images, torch.arange(len(images), device=machine.device), stream)
    return rows


def write(path: Path, rows: Mapping[str, Tensor]) -> None:
    """Write the rows below each other as one sheet."""
    images = torch.cat([row.float().clamp(0, 1) for row in rows.values()])
    grey_levels = (images * 255).round().to(torch.uint8).cpu().numpy()
    across = len(next(iter(rows.values())))
    thumbnails.write(path, thumbnails.sheet(grey_levels, across))
