"""BYOL: the online network predicts a teacher's projection of another view; the teacher follows slowly.

J.-B. Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
NeurIPS 2020, arXiv:2006.07733.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.encoder import Encoder, initialise
from stages.pretrain.learner import Learner
from stages.pretrain.teacher import Teacher, rising_momentum
from stages.pretrain.two_views import TwoViewParams, perceptron
from stages.settings.schema import Views
from stages.settings.values import Fraction
from stages.training.randomness import Stream
from stages.views.augment import two_views


class Params(TwoViewParams):
    """The teacher's momentum, in addition to the parameters of all methods with two views."""

    smallest_batch = 16  # BatchNorm prevents the collapse; its statistics need enough images

    momentum: Fraction


class Method(Learner):
    """Encoder, projector and predictor, and the teacher, which has no predictor.

    `uninformative` is None: the loss of collapsed embeddings is 0, the smallest possible.
    """

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params, self.views = encoder, params, views
        hidden, output = params.projector_hidden, params.projector_output
        self.projector = perceptron(encoder.features, hidden, output)
        self.predictor = perceptron(output, hidden, output)
        initialise(self.projector, init.at("projector").generator())
        initialise(self.predictor, init.at("predictor").generator())
        self.teacher = Teacher(self.online())

    def online(self) -> nn.Sequential:
        """The part that the teacher follows."""
        return nn.Sequential(self.encoder, self.projector)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        both = two_views(images, positions, self.views, stream, self.side)  # (2N, C, H, W)
        predictions = self.predictor(self.projector(self.encoder(both))).float()
        # The target of a view is the other view of its image.
        targets = self.teacher(both).float().roll(len(images), 0)
        return byol(predictions, targets)

    def after_step(self, progress: float) -> None:
        self.teacher.follow(self.online(), rising_momentum(self.params.momentum, progress))


def byol(predictions: Tensor, targets: Tensor) -> Tensor:
    """2 − 2 cos (eq. 2), averaged over all views: from 0 for equal directions to 4 for opposite ones.

    lightly 1.6.0 uses −cos. This loss is 2 + 2 times lightly's, averaged over both directions.

    Args:
        predictions, targets: (2N, D); row i of one belongs to row i of the other.
    """
    return 2 - 2 * F.cosine_similarity(predictions, targets, dim=1).mean()
