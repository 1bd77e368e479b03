"""Converts images of a pack to the tensors that views and networks take."""

import numpy as np
import torch
from torch import Tensor


def as_tensor(images: np.ndarray) -> Tensor:
    """Copy images of a pack into a tensor, uint8 (n, C, H, W)."""
    return torch.from_numpy(np.array(images))


def pixels(images: Tensor, device: torch.device) -> Tensor:
    """Move uint8 images (N, C, H, W) to the device and scale them to float in [0, 1]."""
    return images.to(device, non_blocking=True).float() / 255
