"""Images of a pack as tensors: what views and networks take."""

import numpy as np
import torch
from torch import Tensor


def as_tensor(images: np.ndarray) -> Tensor:
    """Images of a pack as a tensor of their own, uint8 (n, C, H, W)."""
    return torch.from_numpy(np.array(images))


def pixels(images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, C, H, W) to float in [0, 1] on the device: what views and encoders take."""
    return images.to(device, non_blocking=True).float() / 255
