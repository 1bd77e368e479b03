"""The base class of all encoders: a network with a declaration from which it can be built again.

Every encoder takes float images (N, C, H, W) in [0, 1], normalises them with statistics that are part of its
weights, and returns float features (N, `features`).
"""

import re
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from stages.networks.pixel_rule import Decoding

SMALL = ("cnn", "residual", "vit")
TIMM = "timm/"  # before the name of one of timm's networks


class Declaration(BaseModel):
    """All that is needed to build an encoder again and to use it; stored in the file of its weights.

    Attributes:
        decoding: how the image files that it was trained on became pixels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    width: int = Field(ge=1, le=1024)
    channels: Literal[1, 3]
    image_size: int = Field(ge=8, le=1024)
    decoding: Decoding = Decoding()
    input_size: int | None = Field(default=None, ge=8, le=1024)  # None: images are not enlarged

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        # NOTE: timm takes also names that make it fetch code and weights from a hub (`hf-hub:…`).
        if name not in SMALL and not re.fullmatch(f"{TIMM}[a-z0-9_]+", name):
            raise ValueError(f"{name!r} is none of {', '.join(SMALL)}, {TIMM}NAME")
        return name

    @model_validator(mode="after")
    def _enlarged(self) -> Self:
        if self.input_size is not None and not self.name.startswith(TIMM):
            raise ValueError(f"{self.name} has no input_size; only {TIMM}NAME has")
        if self.input_size is not None and self.input_size < self.image_size:
            raise ValueError(f"input_size is {self.input_size}, smaller than the images ({self.image_size})")
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

    def restore_constants(self) -> None:
        """Set what no file of weights has, after an encoder without memory was filled from one."""


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """He initialisation (arXiv:1502.01852) of every convolution and linear layer, in order."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
