"""DINO: a student predicts its teacher's assignment of another view to prototypes.

M. Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021, arXiv:2104.14294.

Differences from the paper: two global views and no small crops, because the images may be small; the
projector of the other methods (BatchNorm, ReLU); no warm-up of the teacher's temperature; and prototypes
(the weight-normalised last layer, which the paper freezes during the first epoch) that are random and never
trained, because in few epochs on a small pool trained ones become equal. Loss and centre equal lightly's
(tests/peers).
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
from stages.settings.schema import Views
from stages.settings.values import Fraction
from stages.training.randomness import Stream
from stages.views.augment import two_views

Temperature = Annotated[float, Field(gt=0)]


class Params(TwoViewParams):
    """Prototypes, temperatures and momenta, in addition to the parameters of all methods with two views."""

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
    """Encoder and projector, their teacher, the prototypes, and the running mean of the teacher's outputs.

    `uninformative` is None: the loss of collapsed embeddings depends on the point to which they collapse.
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

    def similarities(self, embeddings: Tensor) -> Tensor:
        """The cosine similarity of each embedding, (2N, D), to each of the K prototypes: (2N, K)."""
        # NOTE: not in bf16: its 8 bits of precision are too few for a cosine that is divided by a small
        # temperature.
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.normalize(embeddings.float(), dim=1) @ self.prototypes.T

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        p = self.params
        both = two_views(images, positions, self.views, stream, self.side)  # (2N, C, H, W)
        student = self.similarities(self.projector(self.encoder(both)))
        teacher = self.similarities(self.teacher(both))
        targets = teacher.roll(len(images), 0)  # the target of a view is the other view of its image
        loss = dino(student, targets, self.centre, p.student_temperature, p.teacher_temperature)
        self.centre.lerp_(teacher.mean(0), 1 - p.centre_momentum)
        return loss

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.student(), rising_momentum(self.params.momentum, progress))


def dino(
    student: Tensor, teacher: Tensor, centre: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """The cross-entropy between the assignments of teacher and student (eq. 1 and algorithm 1), in nats.

    Two things prevent a collapse of the teacher's assignment: it is centred, so that no prototype gets all
    images, and sharpened, so that not all prototypes get the same share.

    Args:
        student, teacher: (N, K) outputs; row i of one belongs to row i of the other.
        centre: (K,) the running mean of the teacher's outputs.
        student_temperature, teacher_temperature: by which the outputs are divided.
    """
    targets = ((teacher - centre) / teacher_temperature).softmax(1)
    return F.cross_entropy(student / student_temperature, targets)
