"""Builds an encoder from its declaration."""

from collections.abc import Callable

import torch

from stages.networks.cnn import ClassicCNN
from stages.networks.encoder import Declaration, Encoder
from stages.networks.residual import SmallResidual
from stages.networks.torchvision import TorchvisionEncoder
from stages.networks.vit import VisionTransformer

KINDS: dict[str, Callable[[Declaration], Encoder]] = {
    "cnn": ClassicCNN,
    "residual": SmallResidual,
    "vit": VisionTransformer,
    **dict.fromkeys(TorchvisionEncoder.FEATURES, TorchvisionEncoder),
}


def build(declaration: Declaration, generator: torch.Generator) -> Encoder:
    """An encoder with new weights, which depend only on the generator."""
    encoder = KINDS[declaration.name](declaration)
    encoder.initialise(generator)
    return encoder.to(memory_format=torch.channels_last)


def build_on_meta(declaration: Declaration) -> Encoder:
    """An encoder on PyTorch's meta device: names and shapes of its weights, without memory for them."""
    with torch.device("meta"):
        return KINDS[declaration.name](declaration).to(memory_format=torch.channels_last)
