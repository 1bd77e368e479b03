"""GAN: the encoder tells real images from generated ones; the generator learns to deceive it.

A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", ICLR 2016, arXiv:1511.06434: the discriminator is the encoder.
Here it keeps that encoder's ReLU, and both networks step at once, on one loss. With two additions, for a
discriminator needs little knowledge to win: all images it sees are noisy, so that details do not give a fake
away (C. K. Sønderby et al., ICLR 2017, arXiv:1610.04490), and it also tells what a fake was made from
(X. Chen et al., InfoGAN, NeurIPS 2016, arXiv:1606.03657).
"""

import math
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from stages.networks.encoder import Encoder, initialise
from stages.pretrain.decoder import Decoder
from stages.pretrain.learner import Learner
from stages.settings.schema import Fraction, Training, Views
from stages.training.randomness import Stream


class Params(Training):
    """The noise, the latent code and the generator, beside the knobs of every training."""

    smallest_batch = 16  # BatchNorm's statistics of fewer images would give real and generated ones away

    noise: Fraction
    latent: Annotated[int, Field(ge=1)]
    information: Annotated[float, Field(ge=0)]
    generator_width: Annotated[int, Field(ge=1)]


class Method(Learner):
    """The encoder with a linear layer and a generator, which are thrown away afterwards."""

    betas = (0.5, 0.999)  # DCGAN's: the two losses change with each other

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params = encoder, params
        self.output = nn.Linear(encoder.features, 1 + params.latent)
        initialise(self.output, init.at("output").generator())
        # All logits are zero, and so are the codes that are read: a squared error of 1, twice.
        # Without a code to read, that is also where an ideal pair ends, so it tells nothing.
        self.uninformative = 3 * math.log(2) + 2 * params.information if params.information else None
        self.generator = Decoder(params.latent, encoder.declaration, params.generator_width, init)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        """The losses of both in one sum; each trains its own network alone, save for the code's."""
        code = stream.at("code").normal(positions, self.params.latent)
        fakes: Tensor = self.generator(code)

        def noisy(seen: Tensor, number: int) -> Tensor:
            normals = stream.at("noise", number).normal(positions, seen[0].numel())
            return seen + self.params.noise * normals.view_as(seen)

        real = self.output(self.encoder(noisy(images, 0)))[:, 0].float()
        fake, read = self.judge_fakes(noisy(fakes.detach(), 1))
        deceiving, written = self.judge_fakes(noisy(fakes, 2), trained=False)
        adversarial = discriminator_loss(real, fake) + generator_loss(deceiving)
        information = F.mse_loss(read, code) + F.mse_loss(written, code)
        return adversarial + self.params.information * information

    def shown(self, images: Tensor, positions: Tensor, stream: Stream) -> dict[str, Tensor]:
        fakes: Tensor = self.generator(stream.at("code").normal(positions, self.params.latent))
        return {"generated": fakes}

    def judge_fakes(self, fakes: Tensor, trained: bool = True) -> tuple[Tensor, Tensor]:
        """How real generated images look, logits (N,), and the codes read from them, (N, latent).

        trained: whether the gradient reaches the discriminator, or only the generator behind it.

        Their batch statistics stay out of the encoder's running ones: those describe real images.
        """
        networks = nn.Sequential(self.encoder, self.output)
        weights = {name: p if trained else p.detach() for name, p in networks.named_parameters()}
        buffers = {name: b.clone() for name, b in networks.named_buffers()}
        output: Tensor = functional_call(networks, weights | buffers, (fakes,)).float()
        return output[:, 0], output[:, 1:]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """−log D(real) − log(1 − D(fake)) of logits (N,), averaged; 2 ln 2 where it cannot tell."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """−log D(fake) of logits (N,), averaged: the non-saturating loss of Goodfellow et al. 2014."""
    return F.softplus(-fake).mean()
