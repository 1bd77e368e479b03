"""Builds an encoder from its declaration."""

from collections.abc import Callable

import torch

from stages.networks.cnn import ClassicCNN
from stages.networks.encoder import TIMM, Declaration, Encoder
from stages.networks.residual import SmallResidual
from stages.networks.timm import TimmEncoder
from stages.networks.vit import VisionTransformer

KINDS: dict[str, Callable[[Declaration], Encoder]] = {
    "cnn": ClassicCNN,
    "residual": SmallResidual,
    "vit": VisionTransformer,
}


def new(declaration: Declaration) -> Encoder:
    """An encoder whose weights have no meaning yet.

    Raises:
        InputError: timm has no such network, or it does not take such images.
    """
    if declaration.name.startswith(TIMM):
        return TimmEncoder(declaration)
    return KINDS[declaration.name](declaration)


def build(declaration: Declaration, generator: torch.Generator) -> Encoder:
    """An encoder with new weights, which depend only on the generator; errors as those of `new`."""
    encoder = new(declaration)
    encoder.initialise(generator)
    return encoder.to(memory_format=torch.channels_last)


def build_on_meta(declaration: Declaration) -> Encoder:
    """An encoder on PyTorch's meta device: names and shapes of its weights, without memory for them.

    Errors as those of `new`.
    """
    with torch.device("meta"):
        return new(declaration).to(memory_format=torch.channels_last)
