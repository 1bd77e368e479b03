"""SimCLR: embeddings of two views of an image attract each other and repel those of other images.

T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive Learning of
Visual Representations", ICML 2020, arXiv:2002.05709.
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


class Params(TwoViewParams):
    """The temperature, in addition to the parameters of all methods with two views."""

    # 30 negatives per view; with fewer, almost any embedding separates them from the positive.
    smallest_batch = 16

    temperature: Annotated[float, Field(gt=0)]


class Method(TwoViewLearner):
    """The encoder with a projector, which is discarded after pretraining."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__(encoder, params, views, init)
        self.params = params
        # If all embeddings are equal, all 2N − 1 other views are equally likely to be the positive.
        self.uninformative = math.log(2 * params.batch_size - 1)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        first, second = self.projections(images, positions, stream)
        return nt_xent(first, second, self.params.temperature)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The normalised-temperature cross-entropy of eq. 1, averaged over all 2N views.

    The positive of a view is the other view of its image; its negatives are the 2N − 2 views of other
    images. As in the paper and in lightly, the denominator contains the positive.

    Args:
        first, second: (N, D) projections of the two views.
    """
    z = F.normalize(torch.cat([first, second]), dim=1)
    # NOTE: not in bf16: its 8 bits of precision are too few for similar embeddings.
    with torch.autocast(z.device.type, enabled=False):
        similarity = z @ z.T / temperature  # (2N, 2N)
    similarity.fill_diagonal_(-torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(first))
    return F.cross_entropy(similarity, positive)
