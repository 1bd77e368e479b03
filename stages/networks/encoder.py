"""The base class of all encoders: a network with a declaration from which it can be built again.

Every encoder takes float images (N, C, H, W) in [0, 1], normalises them with statistics that are part of its
weights, and returns float features (N, `features`).
"""

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from stages.networks.decoding import Decoding


class Declaration(BaseModel):
    """All that is needed to build an encoder again and to use it; stored in the file of its weights.

    Attributes:
        decoding: how the image files that it was trained on became pixels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["cnn", "residual", "vit", "resnet18", "resnet50", "vit_b_16"]
    width: int = Field(ge=1, le=1024)
    channels: Literal[1, 3]
    image_size: int = Field(ge=8, le=1024)
    decoding: Decoding = Decoding()

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        if self.name == "vit_b_16" and self.image_size % 16:
            raise ValueError(f"the image size of vit_b_16 must be a multiple of 16, not {self.image_size}")
        return self


class Encoder(nn.Module):
    """A network with a declaration, a normalisation and a number of features.

    Attributes:
        declaration: what `build` builds it from.
        features: the number of features of an image.
        mean: of each channel, (C,), in [0, 1] units.
        std: standard deviation of each channel, (C,), in [0, 1] units.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, declaration: Declaration, features: int) -> None:
        super().__init__()
        self.declaration = declaration
        self.features = features
        self.register_buffer("mean", torch.zeros(declaration.channels))
        self.register_buffer("std", torch.ones(declaration.channels))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation of each channel, (C,) each, in [0, 1] units."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-3))  # so that a constant channel does not divide by zero

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images (N, C, H, W) in [0, 1] by channel; the result has the channels_last layout."""
        normalised = (images - self.mean[:, None, None]) / self.std[:, None, None]
        return normalised.contiguous(memory_format=torch.channels_last)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw new weights from the generator."""
        initialise(self, generator)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """He initialisation (arXiv:1502.01852) of every convolution and linear layer, in order."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
