"""Our figures against torchmetrics'."""

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as peer

from stages.tasks.scores import BINS, calibration_error, measure


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 10])
def test_figures_are_torchmetrics(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=1000)
    logits = 2 * random.normal(size=(1000, classes)) + 2 * np.eye(classes)[labels]
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    predicted, actual = torch.from_numpy(probabilities), torch.from_numpy(labels)
    ours = measure(probabilities, labels)
    error = peer.multiclass_calibration_error(predicted, actual, classes, n_bins=BINS, norm="l1")
    assert calibration_error(probabilities, labels) == pytest.approx(float(error), abs=1e-5)
    for name, function, average in (
        ("accuracy", peer.multiclass_accuracy, "micro"),
        ("recall_macro", peer.multiclass_recall, "macro"),
        ("precision_macro", peer.multiclass_precision, "macro"),
        ("f1_macro", peer.multiclass_f1_score, "macro"),
    ):
        expected = float(function(predicted, actual, classes, average=average))
        assert ours[name] == pytest.approx(expected, abs=6e-5), name
