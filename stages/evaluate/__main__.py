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

from stages import artifacts, params, probe, provenance, thumbnails, weights
from stages.draws import budget_name, draw_labelled, fitting
from stages.encoders import Classifier
from stages.errors import InputError, reported
from stages.evaluate import shown
from stages.evaluate.cost import latency, size
from stages.evaluate.metrics import confusion, measure
from stages.evaluate.results import Results
from stages.runtime import Machine, machine, progress
from stages.sections import Params


def main(method: str) -> None:
    """Predict the test split under every protocol, budget and draw; write predictions, figures, pictures."""
    settings = params.load("evaluate", method)
    here, started = machine(settings.runtime), time.perf_counter()
    labels, classes = artifacts.read_pool_labels()
    budgets = fitting(settings.finetune.budgets, int((labels >= 0).sum()), len(classes))
    results = Results.of(method)
    artifacts.require_writable(*results.paths())
    made_from = provenance.made_from("evaluate", method)

    if not budgets:  # nothing was finetuned, so the test split is not needed
        with artifacts.whole_folder(results.predictions):
            write_shown(results, shown.nothing(), np.zeros((0, 1, 1, 1), dtype=np.uint8))
            artifacts.write_json(results.model, {"made_from": made_from})
            artifacts.write_json(results.figures, {})
            artifacts.write_json(results.timings, here.timings(time.perf_counter() - started, 0))
        return
    test, actual, ids = test_split()
    figures: dict[str, dict[str, list[Any]]] = {}
    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    finetune, predicting = settings.finetune, 0.0
    frozen = FrozenFeatures(method, test, labels, len(classes), settings, here)
    with (
        artifacts.whole_folder(results.predictions) as folder,
        progress(f"evaluate {method}", len(budgets) * finetune.draws, "models") as bar,
    ):
        for budget in budgets:
            title, of_budget, finetuned = budget_name(budget), defaultdict(list), []
            for draw in range(finetune.draws):
                name = f"{title}-draw{draw}"
                path = artifacts.CLASSIFIERS / method / f"{name}.safetensors"
                classifier, names = weights.read_classifier(path)
                if names != classes:
                    raise InputError(f"{path}: knows the classes {names}; the data has {classes}")
                began = time.perf_counter()
                finetuned.append(predict(classifier.to(here.device), test, here).cpu().numpy())
                predicting += time.perf_counter() - began
                linear, knn = (predicted.cpu().numpy() for predicted in frozen.predict(budget, draw))
                protocols = (("finetuned", finetuned[-1]), ("linear", linear), ("knn", knn))
                for protocol, probabilities in protocols:
                    artifacts.write_array(folder / f"{name}-{protocol}.npy", probabilities)
                    of_budget[protocol].append(measure(probabilities, actual))
                bar.advance(1, name)
            figures[title] = dict(of_budget)
            counts = np.sum([confusion(p.argmax(1), actual, len(classes)) for p in finetuned], axis=0)
            tables["confusion"].append(shown.confusion_table(counts, classes, finetune.draws, title))
            tables["reliability"].append(shown.reliability_table(finetuned, actual, title))

    # What is below is of the last budget, the one that params.yaml names last.
    mistakes, rows = shown.mistakes_table(finetuned, actual, classes, ids, title)
    points, explained = shown.feature_map(frozen.test.cpu().numpy(), actual, classes)
    whole = {name: pd.concat(parts) for name, parts in tables.items()} | {"mistakes": mistakes, "map": points}
    write_shown(results, whole, test.numpy()[rows])
    artifacts.write_json(
        results.model, size(classifier, path) | {"map_variance": explained, "made_from": made_from}
    )
    artifacts.write_json(results.figures, figures)
    models = len(budgets) * finetune.draws
    speed = latency(classifier, test[:1], here) | {
        "inference_images_per_second": round(models * len(test) / predicting)
    }
    taken = here.timings(time.perf_counter() - started, 3 * models * len(test))
    artifacts.write_json(results.timings, taken | speed)


def write_shown(results: Results, tables: dict[str, pd.DataFrame], mistaken: np.ndarray) -> None:
    """Write the tables under their names, and the pictures of mistaken images, uint8 (n, C, H, W)."""
    for name, table in tables.items():
        artifacts.write_table(getattr(results, name), table)
    thumbnails.write(results.gallery, thumbnails.sheet(mistaken, shown.ACROSS))


def test_split() -> tuple[Tensor, np.ndarray, list[str]]:
    """The test images, uint8 (N, C, H, W), their labels, (N,), and their ids."""
    actual = artifacts.read_labels(artifacts.TEST / "index.csv").numpy()
    images = artifacts.read_images(artifacts.TEST / "images.npy", rows=len(actual))
    ids = artifacts.read_table(artifacts.TEST / "index.csv", "id", text=True)["id"]
    return artifacts.as_tensor(images), actual, ids.tolist()


class FrozenFeatures:
    """The pretrained encoder as it is: test features once, a probe for every draw."""

    def __init__(
        self, method: str, test: Tensor, labels: Tensor, classes: int, settings: Params, here: Machine
    ) -> None:
        self.settings, self.here, self.labels, self.classes = settings, here, labels, classes
        self.images = artifacts.read_images(artifacts.IMAGES / "pool.npy", rows=len(labels))
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


if __name__ == "__main__":
    with reported():
        main(params.named_method("evaluate", sys.argv[1:]))
