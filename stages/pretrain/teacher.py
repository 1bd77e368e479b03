"""A teacher: a copy of a network that follows it as an exponential moving average."""

import copy
import math

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """A network that is not trained: its parameters are an exponential moving average of another's.

    As in Mean Teacher (A. Tarvainen, H. Valpola, NeurIPS 2017, arXiv:1703.01780). Running statistics of
    BatchNorm are not averaged: the teacher computes its own.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The output of the network, without a gradient."""
        output: Tensor = self.network(images)
        return output

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """teacher ← momentum · teacher + (1 − momentum) · student."""
        teacher_parameters: list[Tensor] = list(self.network.parameters())
        student_parameters: list[Tensor] = list(student.parameters())
        torch._foreach_lerp_(teacher_parameters, student_parameters, 1 - momentum)


def rising_momentum(start: float, progress: float) -> float:
    """The momentum at `progress` in [0, 1]: it rises from `start` to 1 along half a cosine.

    J.-B. Grill et al., NeurIPS 2020, arXiv:2006.07733, section 3.3.
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
