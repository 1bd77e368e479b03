"""Stage evaluate@METHOD: the test split, read here and nowhere else, once.

Three protocols: `finetuned` (all weights), `linear` (a linear probe on the frozen encoder) and
`knn` (nearest neighbours in feature space), each for every budget and draw.

    python -m stages.evaluate METHOD
"""

import sys
import time
from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages import artifacts, params, probe, weights
from stages.draws import budget_name, draw_labelled, fitting
from stages.encoders import Classifier
from stages.errors import InputError, reported
from stages.evaluate.metrics import confusion, measure
from stages.runtime import Machine, machine, progress
from stages.sections import Params


def main(method: str) -> None:
    """Predict the test split under every protocol, budget and draw; write predictions and figures."""
    settings = params.load("evaluate", method)
    here, started = machine(settings.runtime), time.perf_counter()
    labels, classes = artifacts.read_pool_labels()
    budgets = fitting(settings.finetune.budgets, labels, len(classes))
    metrics = artifacts.METRICS
    figures_file = metrics / "evaluate" / f"{method}.json"
    confusion_file = metrics / "evaluate" / f"{method}_confusion.csv"
    timings_file = metrics / "timings" / "evaluate" / f"{method}.json"
    artifacts.require_writable(artifacts.PREDICTIONS / method, figures_file, confusion_file, timings_file)

    if not budgets:  # nothing was finetuned, so the test split is not needed
        with artifacts.whole_folder(artifacts.PREDICTIONS / method):
            artifacts.write_json(figures_file, {})
            artifacts.write_table(confusion_file, confusion_table(np.zeros((0, 0)), [], 1, "none"))
            artifacts.write_json(timings_file, here.timings(time.perf_counter() - started, 0))
        return
    test, actual = test_split()
    figures: dict[str, dict[str, list[Any]]] = {}
    tables: list[pd.DataFrame] = []
    finetune = settings.finetune
    frozen = FrozenFeatures(method, test, labels, len(classes), settings, here)
    with (
        artifacts.whole_folder(artifacts.PREDICTIONS / method) as folder,
        progress(f"evaluate {method}", len(budgets) * finetune.draws, "models") as bar,
    ):
        for budget in budgets:
            of_budget, counts = defaultdict(list), np.zeros((len(classes),) * 2, dtype=int)
            for draw in range(finetune.draws):
                name = f"{budget_name(budget)}-draw{draw}"
                path = artifacts.CLASSIFIERS / method / f"{name}.safetensors"
                classifier, names = weights.read_classifier(path)
                if names != classes:
                    raise InputError(f"{path}: knows the classes {names}; the data has {classes}")
                finetuned = predict(classifier.to(here.device), test, here)
                linear, knn = frozen.predict(budget, draw)
                for protocol, predicted in (("finetuned", finetuned), ("linear", linear), ("knn", knn)):
                    probabilities = predicted.cpu().numpy()
                    artifacts.write_array(folder / f"{name}-{protocol}.npy", probabilities)
                    of_budget[protocol].append(measure(probabilities, actual))
                counts += confusion(finetuned.argmax(1).cpu().numpy(), actual, len(classes))
                bar.advance(1, name)
            figures[budget_name(budget)] = dict(of_budget)
            tables.append(confusion_table(counts, classes, finetune.draws, budget_name(budget)))

    predictions = 3 * len(budgets) * finetune.draws * len(test)
    artifacts.write_json(figures_file, figures)
    artifacts.write_table(confusion_file, pd.concat(tables))
    artifacts.write_json(timings_file, here.timings(time.perf_counter() - started, predictions))


def test_split() -> tuple[Tensor, np.ndarray]:
    """The test images, uint8 (N, C, H, W), and their labels, (N,)."""
    test = artifacts.as_tensor(artifacts.read_images(artifacts.TEST / "images.npy"))
    actual = artifacts.read_labels(artifacts.TEST / "index.csv").numpy()
    if len(test) != len(actual):
        raise InputError(f"{artifacts.TEST}: {len(test)} images, but {len(actual)} labels")
    return test, actual


class FrozenFeatures:
    """The pretrained encoder as it is: test features once, a probe for every draw."""

    def __init__(
        self, method: str, test: Tensor, labels: Tensor, classes: int, settings: Params, here: Machine
    ) -> None:
        self.settings, self.here, self.labels, self.classes = settings, here, labels, classes
        self.images = artifacts.read_images(artifacts.IMAGES / "pool.npy")
        path = artifacts.ENCODERS / f"{method}.safetensors"
        self.encoder = weights.read_encoder(path).to(here.device)
        self.test = probe.encode(self.encoder, test, here)

    def predict(self, budget: int | str, draw: int) -> tuple[Tensor, Tensor]:
        """Probabilities (N, K) of the linear probe and of the nearest neighbours for one draw."""
        settings = self.settings
        rows = draw_labelled(self.labels, self.classes, budget, draw, settings.seed)
        bank = probe.encode(self.encoder, artifacts.as_tensor(self.images[rows.numpy()]), self.here)
        labels = self.labels[rows].to(bank.device)
        head = probe.fit_linear(bank, labels, self.classes, settings.probe.l2)
        with torch.no_grad():
            linear = head(self.test).softmax(1)
        return linear, probe.knn_probabilities(self.test, bank, labels, self.classes, settings.knn)


@torch.no_grad()
def predict(classifier: Classifier, images: Tensor, here: Machine) -> Tensor:
    """Probabilities (N, K) float32 of uint8 images."""
    features = probe.encode(classifier.encoder, images, here)
    probabilities: Tensor = classifier.head(features).softmax(1)
    return probabilities


def confusion_table(counts: np.ndarray, classes: list[str], draws: int, budget: str) -> pd.DataFrame:
    """The confusion matrix in long form: the share of each actual class that was predicted as what."""
    actual, predicted = np.indices(counts.shape)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return pd.DataFrame(
        {
            "budget": budget,
            "actual": np.take(classes, actual.ravel()),
            "predicted": np.take(classes, predicted.ravel()),
            "images": (counts / draws).round(1).ravel(),
            "share": share.round(4).ravel(),
        }
    )


if __name__ == "__main__":
    with reported():
        main(params.named_method("evaluate", sys.argv[1:]))
