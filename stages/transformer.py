"""The parts of a vision transformer: its block, its positions, its initial weights.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale", ICLR 2021, arXiv:2010.11929.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Attention among tokens, then a perceptron on each, both on normalised input: (N, T, D) to the same."""

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
    """Fixed embeddings of the places on a square grid, (side², size); size: a multiple of 4.

    Half of the dimensions tell the row, half the column: sines and cosines of falling frequency
    (Vaswani et al. 2017, arXiv:1706.03762), as in MAE (He et al. 2022, arXiv:2111.06377).
    """
    frequencies = 10_000 ** (-torch.arange(size // 4) / (size // 4))
    angles = torch.arange(side)[:, None] * frequencies  # (side, size / 4)
    line = torch.cat([angles.sin(), angles.cos()], 1)  # (side, size / 2)
    return torch.cat([line.repeat_interleave(side, 0), line.repeat(side, 1)], 1)


def initialise_transformer(module: nn.Module, generator: torch.Generator) -> None:
    """Glorot's uniform initialisation of every linear layer and patch embedding, as in MAE, in order.

    A block adds to its input, so He's larger weights would let the sum grow from block to block.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight.flatten(1), generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
