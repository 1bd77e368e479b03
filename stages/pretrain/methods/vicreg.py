"""VICReg: invariance between two views, a minimal variance per dimension, and no covariance of dimensions.

A. Bardes, J. Ponce, Y. LeCun, "VICReg: Variance-Invariance-Covariance Regularization for
Self-Supervised Learning", ICLR 2022, arXiv:2105.04906.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from stages.networks.encoder import Encoder
from stages.pretrain.two_views import TwoViewLearner, TwoViewParams
from stages.settings.schema import Views
from stages.training.randomness import Stream

Weight = Annotated[float, Field(ge=0)]


class Params(TwoViewParams):
    """The weights of the three terms, in addition to the parameters of all methods with two views."""

    # A standard deviation over N images has a relative error of 1 / √(2N), an eighth at 32, and a
    # covariance an error of 1 / √N. In smaller batches both terms are mostly that error.
    smallest_batch = 32

    invariance: Weight
    variance: Weight
    covariance: Weight


class Method(TwoViewLearner):
    """The encoder with an expander, which is discarded after pretraining."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__(encoder, params, views, init)
        self.params = params
        # If all embeddings are equal, only the hinge is left, with a standard deviation of √EPSILON.
        self.uninformative = params.variance * (1 - math.sqrt(EPSILON))

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        first, second = self.projections(images, positions, stream)
        p = self.params
        return vicreg(first, second, p.invariance, p.variance, p.covariance)


EPSILON = 1e-4  # added to the variance


def vicreg(first: Tensor, second: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """The loss of eq. 6, with the conventions of the authors' code.

    Variances and covariances are unbiased. The hinge on the standard deviation is averaged over the two
    views; the squared covariances are divided by D and summed over the views.

    Args:
        first, second: (N, D) projections of the two views.
        invariance, variance, covariance: the weights of the terms; 25, 25 and 1 in the paper.
    """
    with torch.autocast(first.device.type, enabled=False):
        spread = [torch.sqrt(z.var(0) + EPSILON) for z in (first, second)]
        hinge = torch.stack([F.relu(1 - std).mean() for std in spread]).mean()
        redundancy = _squared_covariances(first) + _squared_covariances(second)
        return invariance * F.mse_loss(first, second) + variance * hinge + covariance * redundancy


def _squared_covariances(z: Tensor) -> Tensor:
    """The sum of the squared covariances of all pairs of different dimensions, divided by D."""
    centred = z - z.mean(0)
    matrix = centred.T @ centred / (len(z) - 1)  # (D, D)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]
