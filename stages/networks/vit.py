"""A small vision transformer, and its parts: block, position embeddings, initial weights.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale", ICLR 2021, arXiv:2010.11929.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.encoder import Declaration, Encoder


class Block(nn.Module):
    """A pre-norm transformer block: self-attention, then a perceptron; (N, T, D) → (N, T, D)."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(size)
        self.attention = nn.Linear(size, 3 * size)  # queries, keys and values
        self.output = nn.Linear(size, size)
        self.norm2 = nn.LayerNorm(size)
        self.perceptron = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.attention(self.norm1(x)).unflatten(2, (3, self.heads, -1))
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # (N, heads, T, D / heads) each
        attended = F.scaled_dot_product_attention(queries, keys, values)
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        result: Tensor = x + self.perceptron(self.norm2(x))
        return result


def sinusoids(side: int, size: int) -> Tensor:
    """Fixed embeddings of the positions on a square grid, (side², size); size: a multiple of 4.

    The first half of the dimensions encodes the row, the second the column, as sines and cosines of
    decreasing frequency (Vaswani et al. 2017, arXiv:1706.03762), as in MAE (He et al. 2022,
    arXiv:2111.06377).
    """
    frequencies = 10_000 ** (-torch.arange(size // 4) / (size // 4))
    angles = torch.arange(side)[:, None] * frequencies  # (side, size / 4)
    line = torch.cat([angles.sin(), angles.cos()], 1)  # (side, size / 2)
    return torch.cat([line.repeat_interleave(side, 0), line.repeat(side, 1)], 1)


def initialise_transformer(module: nn.Module, generator: torch.Generator) -> None:
    """Glorot's uniform initialisation of every linear layer and patch embedding, in order, as in MAE.

    Each block adds to its input, so with He's larger weights the sum would grow from block to block.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight.flatten(1), generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class VisionTransformer(Encoder):
    """A small vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) with mean pooling.

    Four blocks of four heads, each of `width` dimensions. The side of a patch is 1/14 of the side of the
    image, as in ViT-B/16 at 224 pixels, but at least 4 pixels: 28 × 28 pixels are 7 × 7 tokens. Where
    patches do not divide the image evenly, it is padded with the mean at the right and at the bottom.
    """

    DEPTH, HEADS = 4, 4
    positions: Tensor

    def __init__(self, declaration: Declaration) -> None:
        super().__init__(declaration, features=4 * declaration.width)
        self.patch = max(4, math.ceil(declaration.image_size / 14))  # pixels
        self.side = math.ceil(declaration.image_size / self.patch)  # tokens
        self.embed = nn.Conv2d(declaration.channels, self.features, self.patch, self.patch)
        self.register_buffer("positions", sinusoids(self.side, self.features))
        self.blocks = nn.Sequential(*(Block(self.features, self.HEADS) for _ in range(self.DEPTH)))
        self.norm = nn.LayerNorm(self.features)

    def initialise(self, generator: torch.Generator) -> None:
        initialise_transformer(self, generator)

    def padded(self, images: Tensor) -> Tensor:
        """Normalised images, padded to whole patches, (N, C, side · patch, side · patch)."""
        missing = self.side * self.patch - images.shape[-1]
        return F.pad(self.normalise(images), (0, missing, 0, missing))

    def tokens(self, images: Tensor) -> Tensor:
        """Patch embeddings plus position embeddings, (N, side², features)."""
        embedded: Tensor = self.embed(self.padded(images)).flatten(2).transpose(1, 2)
        return embedded + self.positions

    def attend(self, tokens: Tensor) -> Tensor:
        """Apply the blocks to all tokens of an image or some of them; (N, T, features) → (N, T, features)."""
        attended: Tensor = self.norm(self.blocks(tokens))
        return attended

    def forward(self, images: Tensor) -> Tensor:
        return self.attend(self.tokens(images)).float().mean(1)
