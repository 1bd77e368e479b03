"""SimCLR: two views of an image attract, all other images of the batch repel.

T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive Learning of
Visual Representations", ICML 2020, arXiv:2002.05709.
"""

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor

from stages.encoder import Encoder
from stages.pretrain.contrast import nt_xent
from stages.pretrain.learner import TwoViewLearner, TwoViewParams
from stages.randomness import Stream
from stages.sections import Views


class Params(TwoViewParams):
    """SimCLR's knobs beside those of every training."""

    smallest_batch = 16  # 30 negatives a view: with fewer nearly any embedding tells the positive from them

    temperature: Annotated[float, Field(gt=0)]


class Method(TwoViewLearner):
    """The encoder with a projector that is thrown away afterwards."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__(encoder, params, views, init)
        self.params = params
        # All views are alike: the positive is a guess among the 2N − 1 others.
        self.uninformative = math.log(2 * params.batch_size - 1)

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        first, second = self.projections(images, positions, stream)
        return nt_xent(first, second, self.params.temperature)
