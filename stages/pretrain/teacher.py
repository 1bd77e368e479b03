"""A teacher: a copy of a network that follows it as an exponential moving average."""

import copy
import math

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """A copy of a network that follows it as an exponential moving average, and is never trained.

    The averaging is that of Mean Teacher (Tarvainen & Valpola 2017, arXiv:1703.01780). The running
    statistics of its norms are its own.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The network's output, without a gradient."""
        output: Tensor = self.network(images)
        return output

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """teacher ← momentum · teacher + (1 − momentum) · student."""
        mine: list[Tensor] = list(self.network.parameters())
        theirs: list[Tensor] = list(student.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - momentum)


def rising_momentum(start: float, progress: float) -> float:
    """From `start` to 1 along half a cosine: a teacher slows down as its student gets better.

    J.-B. Grill et al. 2020, arXiv:2006.07733, section 3.3.
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
