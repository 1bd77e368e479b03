"""Is the encoder healthy while it trains? The online kNN, and an alarm when the features collapse."""

import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages import probe
from stages.encoders import Encoder
from stages.errors import InputError
from stages.runtime import Machine
from stages.sections import Health, Neighbours

SAMPLE = 1000  # validation images between epochs: enough for a spread and a rank, at a tenth of the time
# Measured on MNIST: no healthy run of any method fell below 0.8 of the untrained encoder's rank or spread,
# runs that had diverged to a few directions were at 0.1 and 0.4, collapsed ones at 0.
SPREAD_LEFT, RANK_LEFT = 0.1, 0.2  # alarm below these parts of the untrained encoder's
STUCK = 0.01  # alarm where the loss stays so near to its uninformative value, as a fraction of it
# Looks in a row that must find it ill: a loss may pass its uninformative value on its way down, and an
# autoencoder's rank dips for a look or two early on. Features that are ill at an epoch's end are enough.
PATIENCE = 3


class Monitor:
    """Looks at an encoder while it is trained: called by the training loop, it returns columns of the curve.

    Args:
        title: names the run in warnings.
        encoder: on the machine's device.
        images: (N, C, H, W) uint8 validation images; labels: (N,) int64 on the machine's device.
        neighbours: the settings of the online kNN.
        health: whether a collapse stops the run or is only said.
    """

    def __init__(
        self, title: str, encoder: Encoder, images: Tensor, labels: Tensor,
        neighbours: Neighbours, health: Health, machine: Machine,
    ) -> None:  # fmt: skip
        self.title, self.encoder, self.machine = title, encoder, machine
        self.images, self.labels, self.neighbours = images, labels, neighbours
        self.on_collapse = health.on_collapse
        self.uninformative: float | None = None  # what the loss of a collapsed encoder stays at, if known
        self.collapse: str | None = None  # the first alarm, in words
        self.seconds = 0.0  # spent here
        self.untrained = (0.0, 0.0)  # spread and rank at step 0
        self.ill = 0  # looks in a row that found something wrong

    def __call__(self, step: int, loss: float | None, at_epoch: bool) -> dict[str, Any]:
        """Spread and rank of the features after `step`; with the kNN accuracy at an epoch's end.

        Args:
            step: how many steps are done.
            loss: its mean since the last row of the curve; None before the first step.
            at_epoch: look at all validation images, not at a sample.

        Raises:
            InputError: the features have collapsed, and `on_collapse` is "stop".
        """
        started = time.perf_counter()
        images = self.images if at_epoch else self.images[:SAMPLE]
        features = probe.encode(self.encoder, images, self.machine)
        # What is no number counts as 0, and so as collapse: the loop says at which step the loss broke.
        sample = features[:SAMPLE].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        spread, rank = feature_std(sample), rankme(sample)
        columns: dict[str, Any] = {"feature_std": round(spread, 4), "rankme": round(rank, 2)}
        if at_epoch:
            columns["knn"] = round(probe.knn_accuracy(features, self.labels, self.neighbours), 4)
        if step == 0:
            self.untrained = spread, rank
        self._judge(step, spread, rank, loss, at_epoch)
        self.seconds += time.perf_counter() - started
        return columns

    def _judge(self, step: int, spread: float, rank: float, loss: float | None, at_epoch: bool) -> None:
        """Raise the alarm, once: what is wrong is said while it can still be stopped."""
        reason = self._features_fault(spread, rank)
        enough = 1 if reason and at_epoch else PATIENCE
        reason = reason or self._loss_fault(loss)
        self.ill = self.ill + 1 if reason else 0
        if reason is None or self.ill < enough:
            return
        if self.on_collapse == "stop":
            raise InputError(f"pretrain {self.title}: collapse at step {step}: {reason}; nothing was written")
        if self.collapse is None:
            self.collapse = f"step {step}: {reason}"
            print(f"warning: pretrain {self.title}: collapse at {self.collapse}", file=sys.stderr, flush=True)

    def _features_fault(self, spread: float, rank: float) -> str | None:
        """What is wrong with the features beside the untrained encoder's, if anything is."""
        first_spread, first_rank = self.untrained
        if spread < SPREAD_LEFT * first_spread:
            return f"the features' standard deviation is {spread:.3g}, {first_spread:.3g} untrained"
        if rank < RANK_LEFT * first_rank:
            return f"the features' effective rank (RankMe) is {rank:.1f}, {first_rank:.1f} untrained"
        return None

    def _loss_fault(self, loss: float | None) -> str | None:
        """What is wrong with the loss, if it is where that of an encoder that knows nothing is."""
        value = self.uninformative
        if value is None or loss is None or abs(loss - value) > STUCK * abs(value):
            return None
        return f"the loss stays at {loss:.4g}; of an encoder that knows nothing it is {value:.4g}"


def feature_std(features: Tensor) -> float:
    """The spread of features (N, D) on the unit sphere: 0 if all are alike, 1 if they point everywhere.

    The mean over dimensions of the standard deviation of the normalised features, times √D, as in
    X. Chen, K. He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566.
    """
    unit = F.normalize(features, dim=1)
    return float(unit.std(0).mean() * features.shape[1] ** 0.5)


def rankme(features: Tensor) -> float:
    """The effective rank of features (N, D), 1 to D: the exponential of the singular values' entropy.

    Q. Garrido, R. Balestriero, L. Najman, Y. LeCun, "RankMe: Assessing the Downstream Performance of
    Pretrained Self-Supervised Representations by Their Rank", ICML 2023, arXiv:2210.02885.
    """
    values = torch.linalg.svdvals(features.float())
    share = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(share * torch.log(share + 1e-7)).sum()))
