"""Random numbers addressed by name, so that they depend on nothing that ran before.

A `Stream` is a key made of `(seed, purpose, step, …)`. The numbers that it gives to an image
depend on that key and on the image's position in the global batch, and on nothing else: step
1,000 draws the same views whether the run was interrupted or not, on one process or on eight.
Resuming therefore needs no generator state.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

NOISE_TABLE = 1 << 20  # normals
WINDOW = NOISE_TABLE // 64  # the most values that are taken from the table: two windows then rarely overlap


@dataclass(frozen=True)
class Stream:
    """A source of random numbers named by a 64-bit key."""

    key: int

    @staticmethod
    def of(seed: int, *names: str | int) -> "Stream":
        """The stream of a seed and a purpose, such as `Stream.of(1, "pretrain", "simclr")`."""
        return Stream(0).at("seed", seed, *names)

    def at(self, *names: str | int) -> "Stream":
        """A stream of its own for each name: `stream.at("step", 7)`."""
        text = "\0".join([str(self.key), *(f"{type(n).__name__}:{n}" for n in names)])
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return Stream(int.from_bytes(digest, "little"))

    def generator(self) -> torch.Generator:
        """A CPU generator for what is drawn once and as a whole, such as initial weights."""
        return torch.Generator().manual_seed(self.key & (2**63 - 1))

    def permutation(self, n: int) -> Tensor:
        """A random order of `range(n)`, int64."""
        return torch.randperm(n, generator=self.generator())

    def uniform(self, positions: Tensor, count: int) -> Tensor:
        """`count` numbers in [0, 1) for each position; the same bits on every device.

        Args:
            positions: (N,) int64, each image's place in the global batch.
            count: how many numbers an image gets.

        Returns:
            (N, count) float32.
        """
        column = torch.arange(count, device=positions.device)
        counter = positions[:, None] * count + column
        return (self._bits(counter) >> 8).to(torch.float32) * 2.0**-24

    def normal(self, positions: Tensor, count: int) -> Tensor:
        """Standard normals, (N, count) float32.

        For small images a random window of one fixed table, with a random sign: that costs one gather,
        where drawing every value would cost as much as the encoder's first layer. Two positions share
        entries with probability 2 · count / NOISE_TABLE. The values of larger images, of which too many
        would be shared, are drawn one by one.
        """
        if count > WINDOW:
            return self._drawn_normal(positions, count)
        table = _noise_table(positions.device)
        draw = self.uniform(positions, 2)
        start = (draw[:, :1] * (NOISE_TABLE - count)).long()
        sign = torch.where(draw[:, 1:] < 0.5, -1.0, 1.0)
        return table[start + torch.arange(count, device=positions.device)] * sign

    def _drawn_normal(self, positions: Tensor, count: int) -> Tensor:
        """Normals by Box and Muller (1958): two of 16 random bits each from every 32 (largest: 4.8)."""
        column = torch.arange(-(-count // 2), device=positions.device)
        counter = positions[:, None] * len(column) + column
        bits = self._bits(counter)
        radius = ((bits & 0xFFFF).float() + 0.5).mul_(2.0**-16).log_().mul_(-2).sqrt_()
        angle = (bits >> 16).float().mul_(2 * math.pi * 2.0**-16)
        both = torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
        return both.flatten(1)[:, :count]

    def _bits(self, counter: Tensor) -> Tensor:
        """32 random bits for each counter, held in int64."""
        low, high = self.key & 0xFFFFFFFF, self.key >> 32
        return _mix(_mix((counter ^ low) & 0xFFFFFFFF) ^ high)


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers, held in int64, whose output bits look independent.

    Multiply-xorshift rounds with C. Wellons' "lowbias32" constants (hash-prospector, 2018).
    """
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & 0xFFFFFFFF
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


@lru_cache(maxsize=2)
def _noise_table(device: torch.device) -> Tensor:
    return torch.randn(NOISE_TABLE, generator=Stream.of(0, "noise table").generator()).to(device)
