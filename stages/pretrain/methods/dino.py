"""DINO: a student tells, as its teacher does of another view, which prototypes an image is near.

M. Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021,
arXiv:2104.14294. Beside the paper: two global views and no small crops, for the images here are small
already; the projector is the other methods' (BatchNorm, ReLU), the teacher's temperature has no warm-up;
and the prototypes (the weight-normalised last layer, which the paper freezes in the first epoch) stay what
they are drawn as: in the few epochs of a small pool, learnt ones fall together. The loss and its centre are
lightly's (tests/peers).
"""

from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from stages.networks.encoder import Encoder, initialise
from stages.pretrain.learner import Learner
from stages.pretrain.teacher import Teacher, rising_momentum
from stages.pretrain.two_views import TwoViewParams, perceptron
from stages.settings.schema import Fraction, Views
from stages.training.randomness import Stream
from stages.views.augment import two_views

Temperature = Annotated[float, Field(gt=0)]


class Params(TwoViewParams):
    """Prototypes, temperatures and momenta, beside the knobs of every training."""

    smallest_batch = 16  # the centre is a mean over the batch

    prototypes: Annotated[int, Field(ge=2)]
    student_temperature: Temperature
    teacher_temperature: Temperature
    momentum: Fraction
    centre_momentum: Fraction

    @model_validator(mode="after")
    def _sharper(self) -> Self:
        if self.teacher_temperature >= self.student_temperature:
            raise ValueError(
                f".teacher_temperature is {self.teacher_temperature}; "
                f"allowed: less than student_temperature, which is {self.student_temperature}"
            )
        return self


class Method(Learner):
    """Encoder and projector, their teacher, the prototypes of both, and the mean of the teacher's outputs.

    `uninformative` stays None: on fixed prototypes no embedding is equally near to all, and one collapsed
    onto a point costs what that point is worth.
    """

    prototypes: Tensor
    centre: Tensor

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params, self.views = encoder, params, views
        self.projector = perceptron(
            encoder.features, params.projector_hidden, params.projector_hidden, params.projector_output
        )
        initialise(self.projector, init.at("projector").generator())
        self.teacher = Teacher(self.student())
        generator = init.at("prototypes").generator()
        prototypes = torch.randn(params.prototypes, params.projector_output, generator=generator)
        self.register_buffer("prototypes", F.normalize(prototypes, dim=1))
        self.register_buffer("centre", torch.zeros(params.prototypes))

    def student(self) -> nn.Sequential:
        """The part that the teacher follows."""
        return nn.Sequential(self.encoder, self.projector)

    def nearness(self, embeddings: Tensor) -> Tensor:
        """The cosine of each embedding (2N, D) to each of the K prototypes, (2N, K)."""
        # NOTE: bf16 has 8 bits: divided by so small temperatures, a cosine needs more.
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.normalize(embeddings.float(), dim=1) @ self.prototypes.T

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        p = self.params
        both = two_views(images, positions, self.views, stream)  # (2N, C, H, W)
        student = self.nearness(self.projector(self.encoder(both)))
        teacher = self.nearness(self.teacher(both))
        other = teacher.roll(len(images), 0)  # each view's target is the other
        loss = dino(student, other, self.centre, p.student_temperature, p.teacher_temperature)
        self.centre.lerp_(teacher.mean(0), 1 - p.centre_momentum)
        return loss

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.student(), rising_momentum(self.params.momentum, progress))


def dino(
    student: Tensor, teacher: Tensor, centre: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """The cross-entropy of the teacher's assignment and the student's (eq. 1 and algorithm 1), in nats.

    The teacher's is centred, so that no prototype takes all, and sharper, so that not all take
    an equal part.

    Args:
        student, teacher: (N, K) outputs, row by row; centre: (K,) the mean of earlier outputs of the teacher.
    """
    targets = ((teacher - centre) / teacher_temperature).softmax(1)
    return F.cross_entropy(student / student_temperature, targets)
