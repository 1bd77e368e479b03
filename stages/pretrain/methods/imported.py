"""Imported: an encoder that was trained elsewhere, as it came or trained further on these images.

Further training is SimCLR's (arXiv:2002.05709), with a new projector, for the imported one was thrown away.
"""

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor

from stages.encoder import Encoder
from stages.pretrain.contrast import nt_xent
from stages.pretrain.learner import TwoViewLearner, TwoViewParams
from stages.pretrain.start import Import
from stages.randomness import Stream
from stages.sections import Views


class Params(TwoViewParams, Import):
    """Where the encoder is, and how it is trained further; 0 epochs: not at all."""

    smallest_batch = 16  # as SimCLR

    epochs: Annotated[int, Field(ge=0)]
    temperature: Annotated[float, Field(gt=0)]


class Method(TwoViewLearner):
    """The encoder with a projector that is thrown away afterwards."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__(encoder, params, views, init)
        self.params = params
        self.uninformative = math.log(2 * params.batch_size - 1)  # as SimCLR

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        first, second = self.projections(images, positions, stream)
        return nt_xent(first, second, self.params.temperature)
