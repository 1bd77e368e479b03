"""Health of the encoder during pretraining: kNN accuracy, spread and rank of features, alarm on collapse."""

import math
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

SAMPLE = 1000  # validation images of most looks: enough for spread and rank, in a tenth of the time
# Alarm below these fractions of the untrained encoder's spread and rank. Measured on MNIST: in healthy runs
# of methods that compare views both stayed above 0.7; the autoencoder's rank falls to 0.2 early on and
# recovers; runs that had diverged to a few directions were at 0.1 in one of them and 0.4 in the other,
# collapsed runs at 0.
SMALLEST_SPREAD, SMALLEST_RANK = 0.1, 0.2
STUCK = 0.01  # alarm if the loss is this close to its uninformative value, relative to that value
# Checks in a row with a fault before the alarm: a loss may pass its uninformative value while it falls, and
# an autoencoder's rank falls early on for one or two checks. On all validation images one check of the
# features is enough.
PATIENCE = 3
# Features stored with a checkpoint, to measure the kNN accuracy again with other labels: 25 looks at
# 5,000 images with 256 features. If there are more, the first and the last ones are stored.
FEATURES_LIMIT = 64 * 2**20  # bytes
LABELS, GROUPS = "labels", "groups"  # keys among the stored features


class Monitor:
    """Measures an encoder while it is trained. The training curve calls it; it returns columns of a row.

    Args:
        title: names the training in messages: the method, and its run if there are several.
        encoder: on the machine's device.
        images: (N, C, H, W) uint8 validation images.
        labels: (N,) int64 on the machine's device, -1 for images without a label.
        groups: (N,) int64 on the machine's device: images of one group do not vote for each other.
        neighbours: the settings of the kNN accuracy.
        health: whether a collapse stops the training or only prints a warning.

    Attributes:
        uninformative: see `Learner.uninformative`.
        collapse: the first alarm as text; None: no alarm so far.
        seconds: time spent in this class.
        untrained: spread and rank of the features at step 0.
        stored: the normalised features, (N, D) float16, of each look at all images, by step; the labels
            and groups.
    """

    def __init__(
        self, title: str, encoder: Encoder, images: Tensor, labels: Tensor, groups: Tensor,
        neighbours: Neighbours, health: Health, machine: Machine,
    ) -> None:  # fmt: skip
        self.title, self.encoder, self.machine = title, encoder, machine
        self.images, self.labels, self.groups = images, labels, groups
        self.neighbours = neighbours
        self.on_collapse = health.on_collapse
        self.uninformative: float | None = None
        self.collapse: str | None = None
        self.seconds = 0.0
        self.untrained = (0.0, 0.0)
        self.stored: dict[str, Tensor] = self._references()
        self._faults_in_a_row = {"features": 0, "loss": 0}

    def __call__(self, step: int, loss: float | None, full: bool) -> dict[str, Any]:
        """Spread and rank of the features after `step`; with `full` the kNN accuracy too.

        Args:
            step: number of steps done.
            loss: its mean since the last row of the curve; None before the first step.
            full: whether to use all validation images, not only a sample.

        Raises:
            InputError: the features have collapsed, and `on_collapse` is "stop".
        """
        started = time.perf_counter()
        images = self.images if full else self.images[:SAMPLE]
        features = encode(self.encoder, images, self.machine)
        # NaN and infinity count as 0 and so as collapse; the training loop reports the step of a NaN loss.
        sample = features[:SAMPLE].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        spread, rank = round(feature_std(sample), 4), round(rankme(sample), 2)
        columns: dict[str, Any] = {"feature_std": spread, "rankme": rank}
        if full:
            self._store(step, F.normalize(features, dim=1).half().cpu())
            columns["knn"] = self._knn(step)
        if alarm := self._check(step, spread, rank, loss, full):
            columns["alarm"] = alarm
        self.seconds += time.perf_counter() - started
        return columns

    def _references(self) -> dict[str, Tensor]:
        """What the kNN accuracies refer to."""
        return {LABELS: self.labels.cpu(), GROUPS: self.groups.cpu()}

    def _store(self, step: int, directions: Tensor) -> None:
        """Store normalised features. Beyond the limit, drop the oldest ones after the first."""
        self.stored[str(step)] = directions
        _, *later = self._stored_steps()
        while later[1:] and directions.nbytes * (len(later) + 1) > FEATURES_LIMIT:
            del self.stored[str(later.pop(0))]

    def _stored_steps(self) -> list[int]:
        return sorted(int(step) for step in self.stored if step not in (LABELS, GROUPS))

    def _knn(self, step: int) -> float | None:
        """The kNN accuracy on the validation images that have a label; None if too few have one."""
        labelled = self.labels >= 0
        if int(labelled.sum()) < 2:
            return None
        features = self.stored[str(step)].to(self.labels.device)[labelled].float()
        accuracy = probe.knn_accuracy(features, self.labels[labelled], self.neighbours, self.groups[labelled])
        return None if math.isnan(accuracy) else round(accuracy, 4)

    def replay(self, curve: list[dict[str, Any]], stored: dict[str, Tensor]) -> None:
        """Restore the state at an interruption.

        If the validation labels or groups have changed since then, the kNN accuracies of the curve are
        measured again, so that all refer to the same labels; those of features that are no longer stored
        become None.

        Args:
            curve: its rows so far; changed in place.
            stored: the attribute `stored` at the interruption.
        """
        references = self._references()
        same_labels = all(torch.equal(stored[key], references[key]) for key in references)
        self.stored = stored | references
        rows_with_knn = [row for row in curve if "knn" in row]
        lost = [row for row in rows_with_knn if not same_labels and str(row["step"]) not in stored]
        if lost:
            print(
                f"pretrain {self.title}: the validation labels have changed; the training curve has no kNN "
                f"accuracy in {len(lost)} of {len(rows_with_knn)} rows, because their features are no longer "
                "stored",
                flush=True,
            )
        for row in curve:
            if row.get("rankme") is not None:
                full = "knn" in row
                if full and not same_labels:
                    row["knn"] = None if row in lost else self._knn(row["step"])
                self._check(row["step"], row["feature_std"], row["rankme"], row["loss"], full)

    def _check(self, step: int, spread: float, rank: float, loss: float | None, full: bool) -> str | None:
        """The alarm at this step as text, if there is one. Only the first one is printed."""
        if step == 0:
            self.untrained = spread, rank
        faults = {"features": self._features_fault(spread, rank), "loss": self._loss_fault(loss)}
        in_a_row = {part: self._faults_in_a_row[part] + 1 if fault else 0 for part, fault in faults.items()}
        self._faults_in_a_row = in_a_row
        patience = {"features": 1 if full else PATIENCE, "loss": PATIENCE}
        reason = next((faults[part] for part in faults if in_a_row[part] >= patience[part]), None)
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
        """What is wrong with the features, compared with those of the untrained encoder; None: nothing."""
        first_spread, first_rank = self.untrained
        if first_spread == spread == 0:
            return "all validation images have the same features; check whether the images are blank"
        if spread < SMALLEST_SPREAD * first_spread:
            return f"the features' standard deviation is {spread:.3g} (untrained: {first_spread:.3g})"
        if rank < SMALLEST_RANK * first_rank:
            return f"the features' effective rank (RankMe) is {rank:.1f} (untrained: {first_rank:.1f})"
        return None

    def _loss_fault(self, loss: float | None) -> str | None:
        """What is wrong with the loss: it is near the uninformative value. None: nothing."""
        value = self.uninformative
        if value is None or loss is None or abs(loss - value) > STUCK * abs(value):
            return None
        return f"the loss stays at {loss:.4g}; an encoder that has learnt nothing has {value:.4g}"


def feature_std(features: Tensor) -> float:
    """The spread of features (N, D) on the unit sphere: 0 if all are equal, 1 if they are uniform on it.

    The standard deviation of the normalised features, averaged over dimensions and multiplied by √D, as in
    X. Chen, K. He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566.
    """
    unit = F.normalize(features, dim=1)
    return float(unit.std(0).mean() * features.shape[1] ** 0.5)


def rankme(features: Tensor) -> float:
    """The effective rank of features (N, D), 1 to D: the exponential of the entropy of the singular values.

    Q. Garrido, R. Balestriero, L. Najman, Y. LeCun, "RankMe: Assessing the Downstream Performance of
    Pretrained Self-Supervised Representations by Their Rank", ICML 2023, arXiv:2210.02885.
    """
    values = torch.linalg.svdvals(features.float())
    share = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(share * torch.log(share + 1e-7)).sum()))
