"""Is the encoder healthy while it trains? The online kNN, and an alarm when the features collapse."""

import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.errors import InputError
from stages.networks.encoder import Encoder
from stages.settings.schema import Health, Neighbours
from stages.tasks import probe
from stages.tasks.features import encode
from stages.training.machine import Machine

SAMPLE = 1000  # validation images between epochs: enough for a spread and a rank, at a tenth of the time
# Measured on MNIST, as parts of the untrained encoder's: healthy runs of methods that compare views stayed
# above 0.7 in rank and spread, the autoencoder's rank dips to 0.2 early on and recovers; runs that had
# diverged to a few directions were at 0.1 in one and 0.4 in the other, collapsed ones at 0.
SPREAD_LEFT, RANK_LEFT = 0.1, 0.2  # alarm below these parts of the untrained encoder's
STUCK = 0.01  # alarm where the loss stays so near to its uninformative value, as a fraction of it
# Looks in a row that must find it ill: a loss may pass its uninformative value on its way down, and an
# autoencoder's rank dips for a look or two early on. Features that are ill at an epoch's end are enough.
PATIENCE = 3
# Features that a checkpoint carries, to measure the kNN anew for other labels: 25 epochs of 5,000
# images with 256 features. With more epochs it keeps the first look and the last ones.
KEPT = 64 * 2**20  # bytes
LABELS = "labels"  # their name beside the features


class Monitor:
    """Looks at an encoder while it is trained: called by the training loop, it returns columns of the curve.

    Args:
        title: names the run in warnings.
        encoder: on the machine's device.
        images: (N, C, H, W) uint8 validation images; labels: (N,) int64 on the machine's device, -1 where
            an image has none.
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
        self.ill = {"features": 0, "loss": 0}  # looks in a row that found something wrong with them
        # By step, the directions of the features at epochs' ends, in half; and the labels of the kNN.
        self.seen: dict[str, Tensor] = {LABELS: labels.cpu()}

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
        features = encode(self.encoder, images, self.machine)
        # What is no number counts as 0, and so as collapse: the loop says at which step the loss broke.
        sample = features[:SAMPLE].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        spread, rank = round(feature_std(sample), 4), round(rankme(sample), 2)
        columns: dict[str, Any] = {"feature_std": spread, "rankme": rank}
        if at_epoch:
            self._keep(step, F.normalize(features, dim=1).half().cpu())
            columns["knn"] = self._knn(step)
        if alarm := self._judge(step, spread, rank, loss, at_epoch):
            columns["alarm"] = alarm
        self.seconds += time.perf_counter() - started
        return columns

    def _keep(self, step: int, directions: Tensor) -> None:
        """Remember a look; of many, the first and the last ones, so that neither memory nor file grow."""
        self.seen[str(step)] = directions
        _, *later = self._looks()
        while later[1:] and directions.nbytes * (len(later) + 1) > KEPT:
            del self.seen[str(later.pop(0))]

    def _looks(self) -> list[int]:
        return sorted(int(step) for step in self.seen if step != LABELS)

    def _knn(self, step: int) -> float | None:
        """Among the validation images that have a label; None where fewer than two have one."""
        known = self.labels >= 0
        if int(known.sum()) < 2:
            return None
        features = self.seen[str(step)].to(self.labels.device)[known].float()
        return round(probe.knn_accuracy(features, self.labels[known], self.neighbours), 4)

    def replay(self, curve: list[dict[str, Any]], seen: dict[str, Tensor]) -> None:
        """Know again what was seen before an interruption, from the curve's rows and the features.

        Where validation has other labels than then, the kNN is measured anew; a look whose features are no
        longer kept has none then: a curve of two sets of labels would say nothing.
        """
        same = torch.equal(seen[LABELS], self.labels.cpu())
        self.seen = seen | {LABELS: self.labels.cpu()}
        looks = [row for row in curve if "knn" in row]
        lost = [row for row in looks if not same and str(row["step"]) not in seen]
        if lost:
            print(
                f"pretrain {self.title}: validation has other labels than when it was trained; without a kNN "
                f"for them are {len(lost)} of the {len(looks)} looks, whose features are no longer kept",
                flush=True,
            )
        for row in curve:
            if row.get("rankme") is not None:
                at_epoch = "knn" in row
                if at_epoch and not same:
                    row["knn"] = None if row in lost else self._knn(row["step"])
                self._judge(row["step"], row["feature_std"], row["rankme"], row["loss"], at_epoch)

    def _judge(self, step: int, spread: float, rank: float, loss: float | None, at_epoch: bool) -> str | None:
        """What is wrong, if something is: it is said once, while the run can still be stopped."""
        if step == 0:
            self.untrained = spread, rank
        faults = {"features": self._features_fault(spread, rank), "loss": self._loss_fault(loss)}
        self.ill = {part: self.ill[part] + 1 if fault else 0 for part, fault in faults.items()}
        enough = {"features": 1 if at_epoch else PATIENCE, "loss": PATIENCE}
        reason = next((faults[part] for part in faults if self.ill[part] >= enough[part]), None)
        if reason is None:
            return None
        if self.on_collapse == "stop":
            raise InputError(
                f"pretrain {self.title}: collapse at step {step}: {reason}; no model was written"
            )
        if self.collapse is None:
            self.collapse = f"step {step}: {reason}"
            print(f"warning: pretrain {self.title}: collapse at {self.collapse}", file=sys.stderr, flush=True)
        return reason

    def _features_fault(self, spread: float, rank: float) -> str | None:
        """What is wrong with the features beside the untrained encoder's, if anything is."""
        first_spread, first_rank = self.untrained
        if first_spread == spread == 0:
            return "all validation images have the same features; are the images blank, or all the same?"
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
