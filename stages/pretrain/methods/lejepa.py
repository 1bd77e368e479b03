"""LeJEPA: views agree, and the embeddings are an isotropic Gaussian. No teacher, no stop-gradient.

R. Balestriero, Y. LeCun, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the
Heuristics", 2025, arXiv:2511.08544. The conventions are those of lightly 1.6.0 (where they are compared:
tests/peers): λ weighs SIGReg and 1 − λ the agreement, which is a mean over dimensions too; N and
not √N stands before the integral. lightly's views agree with the mean of the global ones: here all are.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.networks.encoder import Encoder
from stages.pretrain.two_views import TwoViewLearner, TwoViewParams
from stages.settings.schema import Fraction, Views
from stages.training.randomness import Stream

KNOTS, LAST_KNOT = 17, 3.0  # of the integral over the characteristic function, on [0, 3]


class Params(TwoViewParams):
    """λ and the number of slices, beside the knobs of every training."""

    # The characteristic function of N images has an error of about 1 / √N: with fewer, the statistic
    # is mostly that, not a distance from the Gaussian.
    smallest_batch = 32

    gaussian: Fraction
    slices: Annotated[int, Field(ge=1)]


class Method(TwoViewLearner):
    """The encoder with a projector that is thrown away afterwards."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__(encoder, params, views, init)
        self.params = params
        # All embeddings are at the origin, where SIGReg draws them once they are alike: the same from
        # every direction, so that one dimension and one slice give the value.
        origin = torch.zeros(2, params.batch_size, 1)
        self.uninformative = lejepa(origin, torch.ones(1, 1), params.gaussian).item()

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        embeddings = torch.stack(self.projections(images, positions, stream))  # (2, N, D)
        directions = slices(embeddings.shape[2], self.params.slices, stream.at("slices"))
        return lejepa(embeddings, directions.to(embeddings.device), self.params.gaussian)


def lejepa(embeddings: Tensor, directions: Tensor, gaussian: float) -> Tensor:
    """(1 − λ) · prediction + λ · SIGReg.

    The prediction term is the mean squared distance of each view to the mean of its image's views.

    Args:
        embeddings: (V, N, D) of V views.
        directions: (D, M) unit vectors.
        gaussian: λ, 0.02 to 0.05 in the paper.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        prediction = (embeddings - embeddings.mean(0)).square().mean()
        return (1 - gaussian) * prediction + gaussian * sigreg(embeddings, directions)


def sigreg(embeddings: Tensor, directions: Tensor) -> Tensor:
    """How far the embeddings are from an isotropic Gaussian: SIGReg, by the Epps–Pulley test.

    On each direction the empirical characteristic function is compared with that of N(0, 1): the
    squared difference, weighted by exp(−t²/2), integrated over t by the trapezoidal rule on
    [−3, 3] (twice [0, 3], for it is even) and multiplied by N, as in the authors' code.

    Args:
        embeddings: (V, N, D): each view is tested by itself, and the statistics averaged.
        directions: (D, M) unit vectors.
    """
    t = torch.linspace(0, LAST_KNOT, KNOTS, device=embeddings.device)
    expected = torch.exp(-t.square() / 2)
    angles = (embeddings @ directions)[..., None] * t  # (V, N, M, T)
    difference = (angles.cos().mean(1) - expected).square() + angles.sin().mean(1).square()  # (V, M, T)
    statistic = 2 * torch.trapezoid(difference * expected, t) * embeddings.shape[1]
    return statistic.mean()


def slices(size: int, count: int, stream: Stream) -> Tensor:
    """Random unit vectors as columns, (size, count): new ones at every step."""
    directions = torch.randn(size, count, generator=stream.generator())
    unit: Tensor = directions / directions.norm(dim=0)
    return unit
