"""SimCLR: two views of an image attract, all other images of the batch repel.

T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive Learning of
Visual Representations", ICML 2020, arXiv:2002.05709.
"""

import math
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


class Params(Training):
    """SimCLR's knobs beside those of every training."""

    temperature: Annotated[float, Field(gt=0)]
    projector_hidden: Annotated[int, Field(ge=1)]
    projector_output: Annotated[int, Field(ge=2)]
    views: Views


class Method(Learner):
    """The encoder with a projector that is thrown away afterwards."""

    def __init__(self, encoder: Encoder, params: Params, init: Stream) -> None:
        super().__init__()
        self.encoder, self.params = encoder, params
        hidden = params.projector_hidden
        self.projector = perceptron(encoder.features, hidden, hidden, params.projector_output)
        initialise(self.projector, init.generator())
        self.uninformative = math.log(2 * params.batch_size - 1)  # a guess among all other views

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        both = views.two_views(images, positions, self.params.views, stream)  # (2N, C, H, W)
        first, second = self.projector(self.encoder(both)).float().chunk(2)
        return nt_xent(first, second, self.params.temperature)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The normalised-temperature cross-entropy of eq. 1, averaged over all 2N views.

    A view's positive is the other view of its image; its negatives are the 2N − 2 views of the
    other images; it is never compared with itself.

    Args:
        first, second: (N, D) projections of the two views.
    """
    z = F.normalize(torch.cat([first, second]), dim=1)
    # NOTE: bf16 has 8 bits: too few to tell neighbours apart.
    with torch.autocast(z.device.type, enabled=False):
        similarity = z @ z.T / temperature  # (2N, 2N)
    similarity.fill_diagonal_(-torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(first))
    return F.cross_entropy(similarity, positive)
