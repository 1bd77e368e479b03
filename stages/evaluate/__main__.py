"""Stage evaluate@METHOD: the only reader of the test split.

Each model in the indexes that the stage depends on is measured under its own protocol (`finetuned`: all
weights were trained). Two further protocols use the frozen encoder, for each budget and draw of these models:
`linear` (a linear probe) and `knn` (nearest neighbours in feature space).

    python -m stages.evaluate METHOD
"""

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from stages.errors import InputError, reported
from stages.evaluate import diagnostics
from stages.evaluate.cost import latency, size
from stages.evaluate.frozen import FrozenEncoder
from stages.evaluate.results import Results
from stages.files import provenance
from stages.files.json_files import write_json
from stages.files.locks import require_writable
from stages.files.model_index import Model, read_index
from stages.files.packs import read_pack, write_array
from stages.files.paths import ENCODERS, MODELS, TEST
from stages.files.tables import read_table, write_table
from stages.files.whole import whole_folder
from stages.images import thumbnails
from stages.images.tensors import as_tensor
from stages.settings import load
from stages.tasks.classifier import Classifier, probabilities, read_classifier
from stages.tasks.labels import read_labels, read_pool_labels
from stages.tasks.scores import confusion, measure
from stages.training.machine import Machine, set_up
from stages.training.progress import Bar, progress

HEADLINE = "finetuned"  # the report shows confusion, calibration and mistakes of this protocol


@dataclass(frozen=True)
class TestSplit:
    """The test split: images, uint8 (N, C, H, W), labels, (N,) int64, and the ids of the images."""

    images: Tensor
    labels: np.ndarray
    ids: list[str]

    @staticmethod
    def read() -> "TestSplit":
        """Read it from disk.

        Raises:
            InputError: images and table do not fit, or a file is damaged.
        """
        labels = read_labels(TEST / "index.csv").numpy()
        images = read_pack(TEST / "images.npy", rows=len(labels))
        ids = read_table(TEST / "index.csv", "id", text=True)["id"]
        return TestSplit(as_tensor(images), labels, ids.tolist())


class Predictions:
    """Predicts the test split with each model, writes the probabilities and collects the figures.

    Attributes:
        figures: budget → protocol → the figures of each draw.
        tables: name → the parts of a table for the report, one for each budget.
        seconds: spent on predictions of the models in the indexes.
    """

    def __init__(
        self, frozen: FrozenEncoder, test: TestSplit, classes: list[str], machine: Machine, folder: Path
    ) -> None:
        self.frozen, self.test, self.classes = frozen, test, classes
        self.machine, self.folder = machine, folder
        self.figures: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        self.tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
        self.seconds = 0.0

    def of_budget(self, budget: str, models: Sequence[tuple[Path, Model]], bar: Bar) -> list[np.ndarray]:
        """Measure the models of one budget.

        Args:
            models: each with the path of its file.
            bar: advanced by each model.

        Returns:
            The probabilities of the headline protocol, (N, classes) for each draw.
        """
        headline = []
        for path, model in models:
            classifier = self.classifier(path)
            started = time.perf_counter()
            predicted = probabilities(classifier, self.test.images, self.machine).cpu().numpy()
            self.seconds += time.perf_counter() - started
            self._add(model.protocol, budget, model.draw, predicted)
            if model.protocol == HEADLINE:
                headline.append(predicted)
            bar.advance(1)
        for draw in sorted({model.draw for _, model in models}):
            for protocol, predicted in self.frozen.predict(budget, draw).items():
                self._add(protocol, budget, draw, predicted)
        counts = [confusion(p.argmax(1), self.test.labels, len(self.classes)) for p in headline]
        self.tables["confusion"].append(
            diagnostics.confusion_table(np.sum(counts, axis=0), self.classes, len(headline), budget)
        )
        self.tables["reliability"].append(diagnostics.reliability_table(headline, self.test.labels, budget))
        return headline

    def classifier(self, path: Path) -> Classifier:
        """A model of an index, on the machine's device.

        Raises:
            InputError: its classes are not those of the data.
        """
        classifier, names = read_classifier(path)
        if names != self.classes:
            raise InputError(
                f"{path}: its classes are {names}, but those of the data are {self.classes}; run `dvc repro`"
            )
        return classifier.to(self.machine.device)

    def _add(self, protocol: str, budget: str, draw: int, predicted: np.ndarray) -> None:
        write_array(self.folder / f"{budget}-draw{draw}-{protocol}.npy", predicted)
        self.figures[budget][protocol].append(measure(predicted, self.test.labels))


def main(method: str) -> None:
    """Predict the test split with each model; write predictions, figures, tables and pictures."""
    settings = load.parameters("evaluate", method)
    machine, started = set_up(settings.runtime), time.perf_counter()
    labels, classes = read_pool_labels()
    models = indexed_models(method)
    results = Results.of(method)
    require_writable(*results.paths())
    made_from = provenance.made_from("evaluate", method)
    if not models:
        write_empty(results, made_from, machine.timings(time.perf_counter() - started, 0))
        return

    test = TestSplit.read()
    encoder_file = ENCODERS / f"{method}.safetensors"
    frozen = FrozenEncoder(encoder_file, test.images, labels, len(classes), settings, machine)
    with (
        whole_folder(results.predictions) as folder,
        progress(f"evaluate {method}", len(models), "models") as bar,
    ):
        predictions = Predictions(frozen, test, classes, machine, folder)
        for budget, group in groupby(models, key=lambda item: item[1].budget):
            headline = predictions.of_budget(budget, list(group), bar)

    # Mistakes and cost are those of the last budget in params.yaml.
    tables = {name: pd.concat(parts) for name, parts in predictions.tables.items()}
    tables["mistakes"], rows = diagnostics.mistakes_table(headline, test.labels, classes, test.ids, budget)
    tables["map"], explained = diagnostics.feature_map(frozen.test.cpu().numpy(), test.labels, classes)
    write_tables(results, tables, test.images.numpy()[rows])
    last = models[-1][0]
    classifier = predictions.classifier(last)
    write_json(results.model, size(classifier, last) | {"map_variance": explained, "made_from": made_from})
    write_json(results.figures, predictions.figures)
    count = len(models) * len(test.labels)
    speed = latency(classifier, test.images[:1], machine) | {
        "inference_images_per_second": round(count / predictions.seconds)
    }
    protocols = sum(len(draws) for of in predictions.figures.values() for draws in of.values())
    timings = machine.timings(time.perf_counter() - started, protocols * len(test.labels))
    write_json(results.timings, timings | speed)


def indexed_models(method: str) -> list[tuple[Path, Model]]:
    """The models in all indexes that the stage depends on, each with its path, sorted by budget.

    The order of the budgets is that of the indexes.

    Raises:
        InputError: an index is damaged.
        FileNotFoundError: a folder of models has no index.
    """
    dependencies = [Path(dependency) for dependency in load.declared_files("evaluate", method)]
    folders = [path for path in dependencies if MODELS in path.parents and not path.suffix]
    models = [(folder / model.file, model) for folder in folders for model in read_index(folder)]
    budgets = list(dict.fromkeys(model.budget for _, model in models))
    return sorted(models, key=lambda item: budgets.index(item[1].budget))


def write_empty(results: Results, made_from: dict[str, Any], timings: dict[str, Any]) -> None:
    """Write empty results if there are no models. The test split is not read."""
    with whole_folder(results.predictions):
        write_tables(results, diagnostics.empty_tables(), np.zeros((0, 1, 1, 1), dtype=np.uint8))
        write_json(results.model, {"made_from": made_from})
        write_json(results.figures, {})
        write_json(results.timings, timings)


def write_tables(results: Results, tables: dict[str, pd.DataFrame], mistaken: np.ndarray) -> None:
    """Write the tables, and the pictures of misclassified images, uint8 (n, C, H, W)."""
    for name, table in tables.items():
        write_table(getattr(results, name), table)
    thumbnails.write(results.gallery, thumbnails.sheet(mistaken, thumbnails.MISTAKES_ACROSS))


if __name__ == "__main__":
    with reported():
        main(load.named_method("evaluate", sys.argv[1:]))
