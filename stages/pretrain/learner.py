"""What pretraining methods are made of: the learner, the projector, the teacher that follows it."""

import copy
import importlib
import math
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from stages.encoder import Encoder, initialise
from stages.randomness import Stream
from stages.sections import Training, Views
from stages.views import two_views


class Learner(nn.Module):
    """A pretraining method: an encoder with what it lacks, and a loss for a batch.

    A method's file holds one subclass called `Method` and its parameters' model `Params`. It is made
    from the encoder, its parameters, the strengths of the views (unused where it takes the images as
    they are) and a stream for its initial weights.

    Attributes:
        betas: how long AdamW remembers gradients and their squares.
        uninformative: the loss of a method that knows nothing or has collapsed, where that is a
            constant: a loss that stays there says that nothing is learnt. None: there is no such one.
    """

    encoder: Encoder
    views: Views  # of the methods that see views
    betas: tuple[float, float] = (0.9, 0.999)
    uninformative: float | None = None

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        """The loss of a batch: images (N, C, H, W) in [0, 1], their positions (N,) int64.

        stream: the randomness of this step, addressed by position.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """What follows an optimiser step, such as moving a teacher; progress goes up to 1."""

    def shown(self, images: Tensor, positions: Tensor, stream: Stream) -> dict[str, Tensor]:
        """Rows of pictures for the report, each (N, C, H, W) in [0, 1]: what it sees and makes.

        Most methods see two views; one that sees or makes something else says so.
        """
        first, second = two_views(images, positions, self.views, stream).chunk(2)
        return {"one view of each": first, "another view": second}


def build(name: str, encoder: Encoder, params: Training, views: Views, stream: Stream) -> Learner:
    """The learner of the method called `name`, on the encoder's device.

    It is imported by its name: a method is a file, and adding one touches no other file.
    """
    module = importlib.import_module(f"stages.pretrain.methods.{name}")
    learner: Learner = module.Method(encoder, params, views, stream.at(name, "init"))
    return learner.to(encoder.mean.device).to(memory_format=torch.channels_last)


def perceptron(*sizes: int) -> nn.Sequential:
    """A multilayer perceptron from `sizes[0]` inputs: BatchNorm and ReLU between its linear layers.

    No layer has a bias: before a BatchNorm it would change nothing.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=False))


class TwoViewParams(Training):
    """What the methods that compare two views of an image have in common."""

    projector_hidden: Annotated[int, Field(ge=1)]
    projector_output: Annotated[int, Field(ge=2)]


class TwoViewLearner(Learner):
    """The encoder with a projector of three layers, which is thrown away afterwards."""

    def __init__(self, encoder: Encoder, params: TwoViewParams, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.views = encoder, views
        hidden = params.projector_hidden
        self.projector = perceptron(encoder.features, hidden, hidden, params.projector_output)
        initialise(self.projector, init.generator())

    def projections(self, images: Tensor, positions: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        """Two views of each image through encoder and projector, (N, D) float32 each."""
        both = two_views(images, positions, self.views, stream)  # (2N, C, H, W)
        first, second = self.projector(self.encoder(both)).float().chunk(2)
        return first, second


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
