"""MAE: most patches are hidden; what the encoder makes of the others must let a decoder paint them.

K. He, X. Chen, S. Xie, Y. Li, P. Dollár, R. Girshick, "Masked Autoencoders Are Scalable Vision
Learners", CVPR 2022, arXiv:2111.06377. Beside the paper: the encoder has no class token, its features are the
mean of its tokens, and images of 7 × 7 patches bear less masking than the paper's 75 %.
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
    """The mask, the decoder and the target, beside the knobs of every training."""

    encoders: ClassVar[tuple[str, ...]] = ("vit",)  # the others have no tokens to hide

    masked: Annotated[float, Field(gt=0, lt=1)]
    decoder_width: Annotated[int, Field(ge=1)]
    decoder_depth: Annotated[int, Field(ge=1)]
    normalise_patches: bool


class Method(Learner):
    """The transformer with a smaller one as its decoder, which is thrown away afterwards."""

    betas = (0.9, 0.95)  # the authors'
    encoder: VisionTransformer
    positions: Tensor

    def __init__(self, encoder: VisionTransformer, params: Params, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params = encoder, params
        size, heads = 4 * params.decoder_width, 4
        pixels = encoder.declaration.channels * encoder.patch**2
        self.embed = nn.Linear(encoder.features, size)
        self.blank = nn.Parameter(torch.zeros(size))  # stands where a patch is hidden
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
        """The mean squared error of the masked patches' pixels (section 3)."""
        targets = patches(self.encoder.padded(images), self.encoder.patch)
        if self.params.normalise_patches:
            targets = standardised(targets)
        visible, masked = self.split(positions, stream)
        predictions = self.reconstruct(self.encoder.tokens(images), visible, masked)
        return F.mse_loss(predictions, pick(targets, masked))

    def shown(self, images: Tensor, positions: Tensor, stream: Stream) -> dict[str, Tensor]:
        patch = self.encoder.patch
        padded = self.encoder.padded(images)
        visible, masked = self.split(positions, stream)
        predictions = self.reconstruct(self.encoder.tokens(images), visible, masked)
        if self.params.normalise_patches:  # what it paints has lost each patch's own light: it is given back
            variance, mean = torch.var_mean(pick(patches(padded, patch), masked), 2, keepdim=True)
            predictions = predictions * (variance + EPSILON).sqrt() + mean
        hidden = patches(padded, patch).scatter(1, _places(masked, predictions), 0.0)
        painted = patches(padded, patch).scatter(1, _places(masked, predictions), predictions)
        return {
            "masked": self._as_images(hidden, images),
            "masked patches painted": self._as_images(painted, images),
        }

    def _as_images(self, targets: Tensor, images: Tensor) -> Tensor:
        """Patches in the encoder's normalisation put together, (N, C, H, W) in [0, 1]."""
        size, side = images.shape[-1], self.encoder.side * self.encoder.patch
        whole = F.fold(targets.transpose(1, 2), side, self.encoder.patch, stride=self.encoder.patch)
        std, mean = self.encoder.std[:, None, None], self.encoder.mean[:, None, None]
        return (whole[:, :, :size, :size] * std + mean).clamp(0, 1)

    def split(self, positions: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        """The numbers of each image's visible patches and of its masked ones, (N, V) and (N, M)."""
        count = self.encoder.side**2
        order = stream.at("mask").uniform(positions, count).argsort(dim=1, stable=True)
        visible = min(max(1, round(count * (1 - self.params.masked))), count - 1)
        return order[:, :visible], order[:, visible:]

    def reconstruct(self, tokens: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """The masked patches, (N, M, pixels) float32, from the visible tokens alone."""
        seen = self.embed(self.encoder.attend(pick(tokens, visible)))  # (N, V, size)
        blank = self.blank.to(seen.dtype).expand(len(seen), masked.shape[1], -1)
        places = self.positions[torch.cat([visible, masked], 1)]
        decoded: Tensor = self.decoder(torch.cat([seen, blank], 1) + places)
        return decoded[:, visible.shape[1] :].float()


def pick(tokens: Tensor, numbers: Tensor) -> Tensor:
    """The numbered tokens of each image: (N, T, D) and (N, K) to (N, K, D)."""
    return tokens.gather(1, numbers[:, :, None].expand(-1, -1, tokens.shape[2]))


def _places(numbers: Tensor, values: Tensor) -> Tensor:
    """Where the values of the numbered tokens stand, for `scatter`: (N, K) to (N, K, D)."""
    return numbers[:, :, None].expand(-1, -1, values.shape[2])


def patches(images: Tensor, patch: int) -> Tensor:
    """Images cut into squares, row by row: (N, C, H, W) to (N, H/patch · W/patch, C · patch²)."""
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


EPSILON = 1e-6  # under the root, as in the authors' code


def standardised(targets: Tensor) -> Tensor:
    """Each patch with a mean of 0 and a variance of 1, (N, T, pixels): the paper's better target."""
    variance, mean = torch.var_mean(targets, 2, keepdim=True)
    return (targets - mean) / (variance + EPSILON).sqrt()
