"""GAN: the encoder is a discriminator of real and generated images, trained together with a generator.

A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", ICLR 2016, arXiv:1511.06434.

Differences from the paper: the discriminator has the encoder's ReLU, and both networks are updated in the
same step, on one loss. Two additions make the discriminator's task harder, because otherwise it needs few
features: all images that it sees are noisy, so that small details do not reveal a fake (C. K. Sønderby et
al., ICLR 2017, arXiv:1610.04490), and it also predicts the code of a fake (X. Chen et al., InfoGAN, NeurIPS
2016, arXiv:1606.03657).
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
from stages.settings.schema import Training, Views
from stages.settings.values import Fraction
from stages.training.randomness import Stream


class Params(Training):
    """The noise, the latent code and the generator, in addition to the parameters of every training."""

    smallest_batch = 16  # of fewer images, BatchNorm's statistics would reveal which are real

    noise: Fraction
    latent: Annotated[int, Field(ge=1)]
    information: Annotated[float, Field(ge=0)]
    generator_width: Annotated[int, Field(ge=1)]


class Method(Learner):
    """The encoder with a linear layer and a generator, which are discarded after pretraining."""

    betas = (0.5, 0.999)  # as in DCGAN

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params = encoder, params
        self.output = nn.Linear(encoder.features, 1 + params.latent)
        initialise(self.output, init.at("output").generator())
        # All logits are zero, which costs ln 2 three times. So are the predicted codes, with a squared
        # error of 1, twice. Without the codes the loss of an ideal pair of networks is the same, so there
        # is no such value.
        self.uninformative = 3 * math.log(2) + 2 * params.information if params.information else None
        self.generator = Decoder(params.latent, encoder.declaration, params.generator_width, init)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        """The sum of the discriminator's loss, the generator's, and that of the codes, which trains both."""
        code = stream.at("code").normal(positions, self.params.latent)
        fakes: Tensor = self.generator(code)

        def noisy(batch: Tensor, number: int) -> Tensor:
            normals = stream.at("noise", number).normal(positions, batch[0].numel())
            return batch + self.params.noise * normals.view_as(batch)

        real = self.output(self.encoder(noisy(images, 0)))[:, 0].float()
        # Two passes over the fakes: gradients of the first reach the discriminator, of the second the
        # generator.
        fake, predicted_code = self.discriminate(noisy(fakes.detach(), 1))
        fake_for_generator, code_for_generator = self.discriminate(noisy(fakes, 2), trained=False)
        adversarial = discriminator_loss(real, fake) + generator_loss(fake_for_generator)
        information = F.mse_loss(predicted_code, code) + F.mse_loss(code_for_generator, code)
        return adversarial + self.params.information * information

    def illustrate(self, images: Tensor, positions: Tensor, stream: Stream) -> dict[str, Tensor]:
        fakes: Tensor = self.generator(stream.at("code").normal(positions, self.params.latent))
        return {"generated": fakes}

    def discriminate(self, fakes: Tensor, trained: bool = True) -> tuple[Tensor, Tensor]:
        """The logits that generated images are real, (N,), and the predictions of their codes, (N, latent).

        The encoder's running statistics do not change, because they are to describe real images.

        Args:
            trained: whether gradients reach the discriminator's parameters; if not, they reach only the
                fakes.
        """
        networks = nn.Sequential(self.encoder, self.output)
        weights = {name: p if trained else p.detach() for name, p in networks.named_parameters()}
        buffers = {name: b.clone() for name, b in networks.named_buffers()}
        output: Tensor = functional_call(networks, weights | buffers, (fakes,)).float()
        return output[:, 0], output[:, 1:]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The mean of −log D(real) − log(1 − D(fake)), from logits (N,); 2 ln 2 if all logits are zero."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """The mean of −log D(fake), from logits (N,): the non-saturating loss of Goodfellow et al. (2014)."""
    return F.softplus(-fake).mean()
