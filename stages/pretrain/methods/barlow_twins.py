"""Barlow Twins: each dimension agrees between two views of an image, and with no other dimension.

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
    """The weight of the redundancy term, beside the knobs of every training."""

    # Correlations over N images are off by 1 / √N each: in fewer, the squares that the redundancy term
    # sums over all D² pairs are mostly that error.
    smallest_batch = 32

    redundancy: Annotated[float, Field(ge=0)]


class Method(TwoViewLearner):
    """The encoder with a projector that is thrown away afterwards."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__(encoder, params, views, init)
        self.params = params
        # All embeddings are alike and nothing correlates: the diagonal misses its 1 in each dimension.
        self.uninformative = float(params.projector_output)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        first, second = self.projections(images, positions, stream)
        return barlow_twins(first, second, self.params.redundancy)


EPSILON = 1e-5  # of the normalisation, as BatchNorm's


def barlow_twins(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """The loss of eq. 1 by the conventions of the authors' code: biased variances, sums.

    Args:
        first, second: (N, D) projections of the two views.
        redundancy: λ, the weight of the off-diagonal, 0.005 in the paper.
    """
    with torch.autocast(first.device.type, enabled=False):
        correlation = _standardised(first).T @ _standardised(second) / len(first)  # (D, D)
        diagonal = correlation.diagonal()
        off_diagonal = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + redundancy * off_diagonal


def _standardised(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + EPSILON)
