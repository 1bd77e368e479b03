"""Features of images: the output of an encoder."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.images.tensors import as_tensor, pixels
from stages.networks.encoder import Encoder
from stages.training.machine import Machine

# Images that go through the encoder together. On a CPU, few images stay in the processor's cache.
CHUNK = {"cpu": 128, "cuda": 256}


@torch.no_grad()
def encode(
    encoder: Encoder, images: Tensor | np.ndarray, machine: Machine, head: nn.Module | None = None
) -> Tensor:
    """Features (N, D) float32 of images, computed in evaluation mode.

    The last bits of a feature depend on how many images are computed together. Therefore every chunk has the
    same size, and the last one is filled up with black images: the features of an image are the same bits
    whatever images are beside it.

    Args:
        encoder: on the machine's device.
        images: uint8 (N, C, H, W); of a pack, only one chunk is in memory at a time.
        head: applied to the features in fp32; the result is then (N, its outputs). None: nothing is applied.
    """
    encoder.eval()
    size = CHUNK[machine.device.type]
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        filled = part if isinstance(part, Tensor) else as_tensor(part)
        if len(part) < size:
            filled = torch.cat([filled, filled.new_zeros(size - len(part), *filled.shape[1:])])
        with machine.autocast():
            features = encoder(pixels(filled, machine.device)).float()
        parts.append((head(features) if head else features)[: len(part)])
    return torch.cat(parts)


def encode_rows(
    encoder: Encoder, pack: np.ndarray, rows: np.ndarray, machine: Machine, head: nn.Module | None = None
) -> Tensor:
    """`encode` for some rows (K,) of a pack; one chunk is in memory at a time."""
    size = CHUNK[machine.device.type]
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return torch.cat([encode(encoder, pack[part], machine, head) for part in parts])


@torch.no_grad()
def apply_head(head: nn.Module, features: Tensor, machine: Machine) -> Tensor:
    """What `encode` gives with this head, to the last bit, from features (N, D) that it gave without one."""
    size = CHUNK[machine.device.type]
    filled = [(len(part), F.pad(part, (0, 0, 0, size - len(part)))) for part in features.split(size)]
    return torch.cat([head(part)[:count] for count, part in filled])
