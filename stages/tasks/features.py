"""Features of images: the output of an encoder."""

import torch
from torch import Tensor

from stages.images.tensors import pixels
from stages.networks.encoder import Encoder
from stages.training.machine import Machine


@torch.no_grad()
def encode(encoder: Encoder, images: Tensor, machine: Machine, chunk: int = 1024) -> Tensor:
    """Features (N, D) float32 of uint8 images (N, C, H, W), computed in evaluation mode.

    Args:
        encoder: on the machine's device.
        chunk: how many images go through the encoder at the same time.
    """
    encoder.eval()
    parts = []
    for part in images.split(chunk):
        with machine.autocast():
            parts.append(encoder(pixels(part, machine.device)).float())
    return torch.cat(parts)
