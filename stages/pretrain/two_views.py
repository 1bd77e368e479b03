"""What methods that compare two views of an image share: the projector and its parameters."""

from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from stages.networks.encoder import Encoder, initialise
from stages.pretrain.learner import Learner
from stages.settings.schema import Training, Views
from stages.training.randomness import Stream
from stages.views.augment import two_views


def perceptron(*sizes: int) -> nn.Sequential:
    """A multilayer perceptron with BatchNorm and ReLU between its linear layers.

    Its layers have no bias: before BatchNorm a bias has no effect.

    Args:
        sizes: number of inputs, then the number of outputs of each linear layer.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=False))


class TwoViewParams(Training):
    """The parameters that methods with two views have in common."""

    projector_hidden: Annotated[int, Field(ge=1)]
    projector_output: Annotated[int, Field(ge=2)]


class TwoViewLearner(Learner):
    """The encoder with a projector of three layers, which is discarded after pretraining."""

    def __init__(self, encoder: Encoder, params: TwoViewParams, views: Views, init: Stream) -> None:
        super().__init__()
        self.encoder, self.views = encoder, views
        hidden = params.projector_hidden
        self.projector = perceptron(encoder.features, hidden, hidden, params.projector_output)
        initialise(self.projector, init.generator())

    def projections(self, images: Tensor, positions: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        """The projections of two views of each image, (N, D) float32 each."""
        both = two_views(images, positions, self.views, stream, self.side)  # (2N, C, H, W)
        first, second = self.projector(self.encoder(both)).float().chunk(2)
        return first, second
