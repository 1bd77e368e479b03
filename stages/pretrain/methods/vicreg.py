"""VICReg: two views of an image attract, while each dimension keeps its variance and its own meaning.

A. Bardes, J. Ponce, Y. LeCun, "VICReg: Variance-Invariance-Covariance Regularization for
Self-Supervised Learning", ICLR 2022, arXiv:2105.04906.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from stages import views
from stages.encoders import Encoder, initialise
from stages.pretrain.learner import Learner, perceptron
from stages.randomness import Stream
from stages.sections import Training, Views

Weight = Annotated[float, Field(ge=0)]


class Params(Training):
    """The weights of the three terms, beside the knobs of every training."""

    invariance: Weight
    variance: Weight
    covariance: Weight
    projector_hidden: Annotated[int, Field(ge=1)]
    projector_output: Annotated[int, Field(ge=2)]
    views: Views


class Method(Learner):
    """The encoder with an expander that is thrown away afterwards."""

    def __init__(self, encoder: Encoder, params: Params, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params = encoder, params
        hidden = params.projector_hidden
        self.projector = perceptron(encoder.features, hidden, hidden, params.projector_output)
        initialise(self.projector, init.generator())
        # Collapsed: no invariance to gain, no covariance, a standard deviation of √ε against 1.
        self.uninformative = params.variance * (1 - EPSILON**0.5)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        both = views.two_views(images, positions, self.params.views, stream)  # (2N, C, H, W)
        first, second = self.projector(self.encoder(both)).float().chunk(2)
        p = self.params
        return vicreg(first, second, p.invariance, p.variance, p.covariance)


EPSILON = 1e-4  # under the root of the variance


def vicreg(first: Tensor, second: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """The loss of eq. 6, by the conventions of the authors' code.

    Unbiased variances and covariances; the hinge on the standard deviation is the mean of the two
    views'; the squared covariances are divided by D and summed over the views.

    Args:
        first, second: (N, D) projections of the two views.
        invariance, variance, covariance: the weights of the terms, 25, 25 and 1 in the paper.
    """
    with torch.autocast(first.device.type, enabled=False):
        spread = [torch.sqrt(z.var(0) + EPSILON) for z in (first, second)]
        hinge = torch.stack([F.relu(1 - std).mean() for std in spread]).mean()
        redundancy = _squared_covariances(first) + _squared_covariances(second)
        return invariance * F.mse_loss(first, second) + variance * hinge + covariance * redundancy


def _squared_covariances(z: Tensor) -> Tensor:
    """The mean over dimensions of the squared covariances with all others."""
    centred = z - z.mean(0)
    matrix = centred.T @ centred / (len(z) - 1)  # (D, D)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]
