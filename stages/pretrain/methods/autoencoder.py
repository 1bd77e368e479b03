"""Denoising autoencoder: reconstruct the clean image from a corrupted one.

P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol, "Extracting and Composing Robust Features
with Denoising Autoencoders", ICML 2008. Here with a convolutional decoder; the corruption is Gaussian noise
and one erased square.
"""

from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from stages.networks.encoder import Encoder
from stages.pretrain.decoder import Decoder
from stages.pretrain.learner import Learner
from stages.settings.schema import Training, Views
from stages.settings.values import Fraction
from stages.training.randomness import Stream
from stages.views.augment import erase, noise, squares


class Params(Training):
    """The corruption and the width of the decoder, in addition to the parameters of every training."""

    enough_steps: ClassVar[int] = 400  # on MNIST its loss hardly falls after 250

    noise: Fraction
    erase: Fraction
    decoder_width: Annotated[int, Field(ge=1)]


class Method(Learner):
    """The encoder with a decoder, which is discarded after pretraining."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params = encoder, params
        self.decoder = Decoder(encoder.features, encoder.declaration, params.decoder_width, init)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        """The mean squared error per pixel."""
        return F.mse_loss(self.reconstruct(self.corrupt(images, positions, stream)), images)

    def illustrate(self, images: Tensor, positions: Tensor, stream: Stream) -> dict[str, Tensor]:
        corrupted = self.corrupt(images, positions, stream)
        return {"corrupted": corrupted, "reconstructed": self.reconstruct(corrupted)}

    def corrupt(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        """Add noise and one black square to each image, (N, C, H, W)."""
        normals = stream.at("noise").normal(positions, images[0].numel())
        holes = squares(stream.at("erase").uniform(positions, 3), self.params.erase)
        return erase(noise(images, self.params.noise, normals), *holes)

    def reconstruct(self, images: Tensor) -> Tensor:
        """The output of the decoder, (N, C, H, W) in [0, 1]."""
        reconstructed: Tensor = self.decoder(self.encoder(images))
        return reconstructed
