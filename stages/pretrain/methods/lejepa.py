"""LeJEPA: views of an image agree, and the embeddings follow an isotropic Gaussian distribution.

R. Balestriero, Y. LeCun, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the
Heuristics", 2025, arXiv:2511.08544. There is no teacher and no stop-gradient.

The conventions are those of lightly 1.6.0 (compared in tests/peers): λ is the weight of SIGReg, 1 − λ that
of the prediction term; the prediction term is a mean over dimensions too; the factor of the integral is N.
In lightly the views predict the mean of the global views; here all views are global.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.networks.encoder import Encoder
from stages.pretrain.two_views import TwoViewLearner, TwoViewParams
from stages.settings.schema import Views
from stages.settings.values import Fraction
from stages.training.randomness import Stream

KNOTS, LAST_KNOT = 17, 3.0  # of the trapezoidal rule on [0, 3]


class Params(TwoViewParams):
    """λ and the number of slices, in addition to the parameters of all methods with two views."""

    # The empirical characteristic function of N images has an error of about 1 / √N. In smaller batches the
    # statistic is mostly that error.
    smallest_batch = 32

    gaussian: Fraction
    slices: Annotated[int, Field(ge=1)]


class Method(TwoViewLearner):
    """The encoder with a projector, which is discarded after pretraining."""

    def __init__(self, encoder: Encoder, params: Params, views: Views, init: Stream) -> None:
        super().__init__(encoder, params, views, init)
        self.params = params
        # SIGReg moves collapsed embeddings to the origin. There all directions give the same statistic, so
        # one dimension and one slice are enough.
        origin = torch.zeros(2, params.batch_size, 1)
        self.uninformative = lejepa(origin, torch.ones(1, 1), params.gaussian).item()

    def forward(self, images: Tensor, positions: Tensor, stream: Stream) -> Tensor:
        embeddings = torch.stack(self.projections(images, positions, stream))  # (2, N, D)
        directions = slices(embeddings.shape[2], self.params.slices, stream.at("slices"))
        return lejepa(embeddings, directions.to(embeddings.device), self.params.gaussian)


def lejepa(embeddings: Tensor, directions: Tensor, gaussian: float) -> Tensor:
    """(1 − λ) · prediction + λ · SIGReg.

    The prediction term is the mean squared difference between a view's embedding and the mean of its
    image's views.

    Args:
        embeddings: (V, N, D) of V views.
        directions: (D, M) unit vectors.
        gaussian: λ; 0.02 to 0.05 in the paper.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        prediction = (embeddings - embeddings.mean(0)).square().mean()
        return (1 - gaussian) * prediction + gaussian * sigreg(embeddings, directions)


def sigreg(embeddings: Tensor, directions: Tensor) -> Tensor:
    """SIGReg: the distance of the embeddings from an isotropic Gaussian, by the Epps–Pulley statistic.

    For each direction, the squared difference between the empirical characteristic function and that of
    N(0, 1) is weighted by exp(−t²/2), integrated over t in [−3, 3] by the trapezoidal rule (twice [0, 3],
    because the integrand is even) and multiplied by N, as in the authors' code.

    Args:
        embeddings: (V, N, D). The statistic is computed for each view and averaged.
        directions: (D, M) unit vectors.
    """
    t = torch.linspace(0, LAST_KNOT, KNOTS, device=embeddings.device)
    expected = torch.exp(-t.square() / 2)
    angles = (embeddings @ directions)[..., None] * t  # (V, N, M, T)
    difference = (angles.cos().mean(1) - expected).square() + angles.sin().mean(1).square()  # (V, M, T)
    statistic = 2 * torch.trapezoid(difference * expected, t) * embeddings.shape[1]
    return statistic.mean()


def slices(size: int, count: int, stream: Stream) -> Tensor:
    """Random unit vectors as columns, (size, count)."""
    directions = torch.randn(size, count, generator=stream.generator())
    unit: Tensor = directions / directions.norm(dim=0)
    return unit
