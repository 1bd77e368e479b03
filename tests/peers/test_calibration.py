"""The calibration error against torchmetrics; the other metrics are compared with scikit-learn."""

import numpy as np
import pytest
import torch

from stages.tasks.scores import BINS, calibration_error


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 10])
def test_calibration_error_is_torchmetrics(seed: int, classes: int) -> None:
    # Imported by the worker that runs this, because it takes seven seconds.
    from torchmetrics.functional.classification import multiclass_calibration_error

    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=1000)
    logits = 2 * random.normal(size=(1000, classes)) + 2 * np.eye(classes)[labels]
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), classes, n_bins=BINS, norm="l1"
    )
    assert calibration_error(probabilities, labels) == pytest.approx(float(expected), abs=1e-5)
