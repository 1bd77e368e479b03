"""An encoder is built from its declaration, by the name of its network."""

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
    """A freshly initialised encoder; its weights depend on the generator alone."""
    encoder = KINDS[declaration.name](declaration)
    encoder.initialise(generator)
    return encoder.to(memory_format=torch.channels_last)


def unfilled(declaration: Declaration) -> Encoder:
    """The encoder's names and shapes without memory behind them (PyTorch's meta device)."""
    with torch.device("meta"):
        return KINDS[declaration.name](declaration).to(memory_format=torch.channels_last)
