"""Random numbers that are addressed by name, so that they do not depend on what was drawn before.

A `Stream` is a key made of a seed, a purpose, a step and so on. The numbers of an image depend on that key
and on the image's position in the global batch, and on nothing else. Step 1,000 draws the same views
whether or not the training was interrupted, in one process or in eight. Resuming needs no state of a
generator.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

TABLE_SIZE = 1 << 20  # normals in the table
LARGEST_WINDOW = TABLE_SIZE // 64  # values taken from the table at most, so that two windows rarely overlap


@dataclass(frozen=True)
class Stream:
    """A source of random numbers with a 64-bit key."""

    key: int

    @staticmethod
    def of(seed: int, *names: str | int) -> "Stream":
        """The stream of a seed and a purpose, such as `Stream.of(1, "pretrain", "simclr")`."""
        return Stream(0).at("seed", seed, *names)

    def at(self, *names: str | int) -> "Stream":
        """An independent stream for these names, such as `stream.at("step", 7)`."""
        text = "\0".join([str(self.key), *(f"{type(n).__name__}:{n}" for n in names)])
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return Stream(int.from_bytes(digest, "little"))

    def generator(self) -> torch.Generator:
        """A CPU generator, for values that are drawn once and all together, such as initial weights."""
        return torch.Generator().manual_seed(self.key & (2**63 - 1))

    def permutation(self, n: int) -> Tensor:
        """A random order of `range(n)`, int64."""
        return torch.randperm(n, generator=self.generator())

    def uniform(self, positions: Tensor, count: int) -> Tensor:
        """Uniform numbers in [0, 1), with the same bits on every device.

        Args:
            positions: (N,) int64, each image's position in the global batch.
            count: numbers per image.

        Returns:
            (N, count) float32.
        """
        column = torch.arange(count, device=positions.device)
        counter = positions[:, None] * count + column
        return (self._bits(counter) >> 8).to(torch.float32) * 2.0**-24

    def normal(self, positions: Tensor, count: int) -> Tensor:
        """Standard normals, (N, count) float32; arguments as for `uniform`.

        Up to `LARGEST_WINDOW` values are a random window of one fixed table, with a random sign. This costs
        one gather; drawing each value would cost as much as the encoder's first layer. Two positions share
        values with probability 2 · count / TABLE_SIZE. For larger counts that would be too often, so each
        value is drawn.
        """
        if count > LARGEST_WINDOW:
            return self._box_muller(positions, count)
        table = _normal_table(positions.device)
        draw = self.uniform(positions, 2)
        start = (draw[:, :1] * (TABLE_SIZE - count)).long()
        sign = torch.where(draw[:, 1:] < 0.5, -1.0, 1.0)
        return table[start + torch.arange(count, device=positions.device)] * sign

    def _box_muller(self, positions: Tensor, count: int) -> Tensor:
        """Standard normals by G. E. P. Box and M. E. Muller (1958).

        32 random bits give two values, 16 bits their radius and 16 their angle. The largest value is 4.9.
        """
        column = torch.arange(-(-count // 2), device=positions.device)
        counter = positions[:, None] * len(column) + column
        bits = self._bits(counter)
        radius = ((bits & 0xFFFF).float() + 0.5).mul_(2.0**-16).log_().mul_(-2).sqrt_()
        angle = (bits >> 16).float().mul_(2 * math.pi * 2.0**-16)
        both = torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
        return both.flatten(1)[:, :count]

    def _bits(self, counter: Tensor) -> Tensor:
        """32 random bits for each counter below 2³², held in int64."""
        low, high = self.key & 0xFFFFFFFF, self.key >> 32
        return _mix(_mix((counter ^ low) & 0xFFFFFFFF) ^ high)


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers, held in int64, whose output bits look independent.

    Multiply-xorshift rounds with the "lowbias32" constants of C. Wellons (hash-prospector, 2018).
    """
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & 0xFFFFFFFF
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


@lru_cache(maxsize=2)
def _normal_table(device: torch.device) -> Tensor:
    return torch.randn(TABLE_SIZE, generator=Stream.of(0, "noise table").generator()).to(device)
