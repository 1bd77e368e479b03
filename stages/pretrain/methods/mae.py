"""MAE: most patches of an image are masked, and a decoder reconstructs them from the encoded visible ones.

K. He, X. Chen, S. Xie, Y. Li, P. Dollár, R. Girshick, "Masked Autoencoders Are Scalable Vision
Learners", CVPR 2022, arXiv:2111.06377.

Differences from the paper: the encoder has no class token, and its features are the mean of its tokens. The
paper masks 75 % of the patches; for images of only 7 × 7 patches that is too much.
"""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stages.networks.vit import Block, VisionTransformer, initialise_transformer, sinusoids
from stages.pretrain.learner import Learner
from stages.settings.schema import Training, Views
from stages.training.randomness import Stream


class Params(Training):
    """The mask, the decoder and the target, in addition to the parameters of every training."""

    encoders: ClassVar[tuple[str, ...]] = ("vit",)  # the others have no tokens to mask

    masked: Annotated[float, Field(gt=0, lt=1)]
    decoder_width: Annotated[int, Field(ge=1)]
    decoder_depth: Annotated[int, Field(ge=1)]
    normalise_patches: bool


class Method(Learner):
    """The transformer with a smaller one as its decoder, which is discarded after pretraining."""

    betas = (0.9, 0.95)  # as in the paper
    encoder: VisionTransformer
    positions: Tensor

    def __init__(self, encoder: VisionTransformer, params: Params, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params = encoder, params
        size, heads = 4 * params.decoder_width, 4
        pixels = encoder.declaration.channels * encoder.patch**2
        self.embed = nn.Linear(encoder.features, size)
        self.blank = nn.Parameter(torch.zeros(size))  # the mask token
        self.register_buffer("positions", sinusoids(encoder.side, size))
        self.decoder = nn.Sequential(
            *(Block(size, heads) for _ in range(params.decoder_depth)),
            nn.LayerNorm(size),
            nn.Linear(size, pixels),
        )
        for name, part in (("embed", self.embed), ("decoder", self.decoder)):
            initialise_transformer(part, init.at(name).generator())
        nn.init.normal_(self.blank, std=0.02, generator=init.at("blank").generator())

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        """The mean squared error over the pixels of the masked patches (section 3)."""
        targets = patches(self.encoder.padded(images), self.encoder.patch)
        if self.params.normalise_patches:
            targets = standardised(targets)
        visible, masked = self.split(positions, stream)
        predictions = self.reconstruct(self.encoder.tokens(images), visible, masked)
        return F.mse_loss(predictions, gather_tokens(targets, masked))

    def illustrate(self, images: Tensor, positions: Tensor, stream: Stream) -> dict[str, Tensor]:
        patch = self.encoder.patch
        padded = self.encoder.padded(images)
        visible, masked = self.split(positions, stream)
        predictions = self.reconstruct(self.encoder.tokens(images), visible, masked)
        if self.params.normalise_patches:  # give each patch the mean and variance that its target lacks
            variance, mean = torch.var_mean(gather_tokens(patches(padded, patch), masked), 2, keepdim=True)
            predictions = predictions * (variance + EPSILON).sqrt() + mean
        index = _expanded(masked, predictions.shape[2])
        without = patches(padded, patch).scatter(1, index, 0.0)
        reconstructed = patches(padded, patch).scatter(1, index, predictions)
        return {
            "masked": self._as_images(without, images),
            "masked patches painted": self._as_images(reconstructed, images),
        }

    def _as_images(self, targets: Tensor, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] from normalised patches; `images` gives their size."""
        size, side = images.shape[-1], self.encoder.side * self.encoder.patch
        folded = F.fold(targets.transpose(1, 2), side, self.encoder.patch, stride=self.encoder.patch)
        std, mean = self.encoder.std[:, None, None], self.encoder.mean[:, None, None]
        return (folded[:, :, :size, :size] * std + mean).clamp(0, 1)

    def split(self, positions: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        """The indices of each image's visible patches, (N, V), and of its masked ones, (N, M)."""
        count = self.encoder.side**2
        order = stream.at("mask").uniform(positions, count).argsort(dim=1, stable=True)
        visible = min(max(1, round(count * (1 - self.params.masked))), count - 1)
        return order[:, :visible], order[:, visible:]

    def reconstruct(self, tokens: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """Predictions of the masked patches, (N, M, pixels) float32, from the visible tokens only."""
        encoded = self.embed(self.encoder.attend(gather_tokens(tokens, visible)))  # (N, V, size)
        blank = self.blank.to(encoded.dtype).expand(len(encoded), masked.shape[1], -1)
        positions = self.positions[torch.cat([visible, masked], 1)]
        decoded: Tensor = self.decoder(torch.cat([encoded, blank], 1) + positions)
        return decoded[:, visible.shape[1] :].float()


def gather_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """The tokens of each image at `indices`: (N, T, D) and (N, K) to (N, K, D)."""
    return tokens.gather(1, _expanded(indices, tokens.shape[2]))


def _expanded(indices: Tensor, size: int) -> Tensor:
    """Indices of tokens, for `gather` and `scatter` along dimension 1: (N, K) to (N, K, size)."""
    return indices[:, :, None].expand(-1, -1, size)


def patches(images: Tensor, patch: int) -> Tensor:
    """Images cut into square patches, row by row: (N, C, H, W) to (N, H/patch · W/patch, C · patch²)."""
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


EPSILON = 1e-6  # added to the variance, as in the authors' code


def standardised(targets: Tensor) -> Tensor:
    """Normalise each patch to a mean of 0 and a variance of 1, (N, T, pixels), as the paper recommends."""
    variance, mean = torch.var_mean(targets, 2, keepdim=True)
    return (targets - mean) / (variance + EPSILON).sqrt()
