"""Barlow Twins: each dimension correlates between two views of an image, and with no other dimension.

J. Zbontar, L. Jing, I. Misra, Y. LeCun, S. Deny, "Barlow Twins: Self-Supervised Learning via
Redundancy Reduction", ICML 2021, arXiv:2103.03230.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.networks.encoder import Encoder
from stages.pretrain.two_views import TwoViewLearner, TwoViewParams
from stages.settings.schema import Views
from stages.training.randomness import Stream


class Params(TwoViewParams):
    """The weight of the redundancy term, in addition to the parameters of all methods with two views."""

    # A correlation over N images has an error of 1 / √N. In smaller batches the redundancy term, a sum of
    # squares over D² pairs of dimensions, is mostly that error.
    smallest_batch = 32

    redundancy: Annotated[float, Field(ge=0)]


class Method(TwoViewLearner):
    """The encoder with a projector, which is discarded after pretraining."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__(encoder, params, views, init)
        self.params = params
        # If all embeddings are equal, all correlations are 0, and each dimension adds (1 - 0)² to the loss.
        self.uninformative = float(params.projector_output)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        first, second = self.projections(images, positions, stream)
        return barlow_twins(first, second, self.params.redundancy)


EPSILON = 1e-5  # added to the variance, as in BatchNorm


def barlow_twins(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """The loss of eq. 1, with the conventions of the authors' code: biased variances, and sums, not means.

    Args:
        first, second: (N, D) projections of the two views.
        redundancy: λ, the weight of the off-diagonal terms; 0.005 in the paper.
    """
    with torch.autocast(first.device.type, enabled=False):
        correlation = _standardised(first).T @ _standardised(second) / len(first)  # (D, D)
        diagonal = correlation.diagonal()
        off_diagonal = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + redundancy * off_diagonal


def _standardised(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + EPSILON)
