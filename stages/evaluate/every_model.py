"""What evaluate@METHOD does: it measures every model, and writes figures, tables and pictures.

Each model in the indexes that the stage depends on is measured under its own protocol (`finetuned`: all
weights were trained). Two further protocols use the frozen encoder, for each budget and draw of these models:
`linear` (a linear probe) and `knn` (nearest neighbours in feature space).
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.evaluate import diagnostics
from stages.evaluate.accuracies import Figures, print_accuracies
from stages.evaluate.cost import latency, size
from stages.evaluate.measuring import (
    Evaluator,
    Job,
    Measured,
    OfEncoder,
    OfModel,
)
from stages.evaluate.results import Results, predictions_file
from stages.files import provenance
from stages.files.digests import write_digests
from stages.files.json_files import write_json
from stages.files.locks import require_writable
from stages.files.paths import ENCODERS, MODELS, PREDICTED_IMAGES, encoder_file
from stages.files.records import write_record
from stages.files.tables import write_table
from stages.files.whole import whole_folder
from stages.images import thumbnails
from stages.images.tensors import as_tensor
from stages.settings import load
from stages.tasks.draws import parse_budget
from stages.tasks.model_index import INDEX, Model, read_index, write_index
from stages.tasks.scores import confusion
from stages.training.machine import set_up
from stages.training.progress import progress
from stages.training.workers import Workers, fitting

HEADLINE = "finetuned"  # the report shows confusion, calibration and mistakes of this protocol


def main(method: str) -> None:
    """Measure every model of a method, side by side, and write the results."""
    raw, started = load.read(load.PARAMS), time.perf_counter()
    settings = load.parameters("evaluate", method, raw)
    threads = settings.runtime.threads.evaluate
    machine = set_up(settings.runtime, threads)
    results = Results.of(method)
    require_writable(*results.paths())
    before = provenance.state("evaluate", method, raw)
    made_from = provenance.made_from("evaluate", method)  # before anything is read: it refuses altered files
    models = indexed_models(method)
    require_headline(models)
    if not models:
        write_empty(results, made_from, machine.timings(time.perf_counter() - started, 0))
        return

    tasks: list[OfModel | OfEncoder] = [*models, *frozen_tasks(models)]
    count, title = min(fitting(threads), len(tasks)), f"evaluate {method}"
    with whole_folder(results.predictions) as folder:
        job = Job(method, raw, folder)
        evaluator = Evaluator.open(job, 0)  # data that cannot be used is refused before workers start
        opener = partial(Evaluator.open, job)
        with progress(title, len(tasks), "models") as bar, Workers(title, opener, count) as workers:
            measured = dict(workers.run(Evaluator.measure, tasks, bar))
            ((_, (points, explained)),) = workers.run(Evaluator.feature_map, [f"map of {method}"], bar)
        write_index(folder, predicted_by(tasks, measured, method))
        write_table(folder / PREDICTED_IMAGES, evaluator.test.table())
        write_digests(folder, results.predictions)
        tables, mistaken = tables_of(models, folder, evaluator)
        provenance.require_unchanged("evaluate", method, before)
    figures = collect(tasks, measured)
    write_tables(results, {**tables, "map": points}, np.asarray(evaluator.test.images[mistaken]))

    last = models[-1].path
    classifier = evaluator.classifier(last)
    of_model = size(classifier, last) | {"map_variance": explained, "made_from": made_from}
    write_json(results.figures, figures)
    of_model["validation"] = validation_accuracies(tasks, measured)
    write_record(results.model, of_model, *results.recorded())
    tested = len(evaluator.test.labels)
    seconds = sum(measured[number].seconds for number in range(len(models))) / count
    speed = latency(classifier, as_tensor(evaluator.test.images[:1]), machine) | {
        "inference_images_per_second": round(len(models) * tested / seconds)
    }
    protocols = sum(len(draws) for of in figures.values() for draws in of.values())
    timings = machine.timings(time.perf_counter() - started, protocols * tested)
    memory = max(result.memory_mb for result in measured.values())
    write_record(results.timings, timings | speed | {"workers": count, "worker_memory_mb": memory})
    print_accuracies(title, figures)


def indexed_models(method: str) -> list[OfModel]:
    """The models in all indexes that the stage depends on, sorted by budget.

    The order of the budgets is that of the indexes.

    Raises:
        InputError: an index is damaged.
        FileNotFoundError: a folder of models has no index.
    """
    dependencies = [Path(dependency) for dependency in load.declared_files("evaluate", method)]
    folders = [path for path in dependencies if MODELS in path.parents and ENCODERS not in path.parents]
    models = [OfModel(folder / model.file, model) for folder in folders for model in read_index(folder)]
    budgets = list(dict.fromkeys(task.model.budget for task in models))
    return sorted(models, key=lambda task: budgets.index(task.model.budget))


def require_headline(models: Sequence[OfModel]) -> None:
    """An InputError where a budget has no model of the protocol that the tables are of."""
    with_headline = {task.model.budget for task in models if task.model.protocol == HEADLINE}
    for task in models:
        if task.model.budget not in with_headline:
            raise InputError(
                f"{task.path.parent / INDEX}: has models of {task.model.budget}, "
                f"which has no {HEADLINE} ones; run `dvc repro`"
            )


def frozen_tasks(models: Sequence[OfModel]) -> list[OfEncoder]:
    """The frozen encoder of each draw's run, with the labels of the draw.

    The draws of the budget `all` have the same labels: those of one run are one task.
    """
    draws: dict[tuple[str, int, int | None], list[int]] = {}
    for model in (task.model for task in models):
        labels = None if parse_budget(model.budget) == "all" else model.draw
        equal = draws.setdefault((model.budget, model.run, labels), [])
        if model.draw not in equal:
            equal.append(model.draw)
    return [OfEncoder(budget, run, tuple(equal)) for (budget, run, _), equal in draws.items()]


def predicted_by(
    tasks: Sequence[OfModel | OfEncoder], measured: dict[int, Measured], method: str
) -> list[Model]:
    """The index of the predictions, in the order of the tasks; the parent is the file of the model."""
    return [
        Model(
            predictions_file(task.budget, draw, protocol), protocol, task.budget, draw, task.run,
            str(task.path if isinstance(task, OfModel) else encoder_file(method, task.run)),
        )
        for number, task in enumerate(tasks)
        for protocol in measured[number].protocols
        for draw in task.draws
    ]  # fmt: skip


def collect(tasks: Sequence[OfModel | OfEncoder], measured: dict[int, Measured]) -> Figures:
    """The figures of each draw, by budget and protocol, in the order of the draws."""
    by_draw: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for number, task in enumerate(tasks):
        for protocol, of_draw in measured[number].protocols.items():
            of_protocol = by_draw.setdefault(task.budget, {}).setdefault(protocol, {})
            of_protocol |= dict.fromkeys(task.draws, of_draw)
    return {
        budget: {protocol: [draws[number] for number in sorted(draws)] for protocol, draws in of.items()}
        for budget, of in by_draw.items()
    }


def validation_accuracies(
    tasks: Sequence[OfModel | OfEncoder], measured: dict[int, Measured]
) -> dict[str, dict[str, float]]:
    """Budget → protocol → mean accuracy of the models on validation, by which `predict` chooses one."""
    accuracies: dict[str, dict[str, list[float]]] = {}
    for number, task in enumerate(tasks):
        accuracy = measured[number].validation
        if isinstance(task, OfModel) and accuracy is not None:
            accuracies.setdefault(task.budget, {}).setdefault(task.model.protocol, []).append(accuracy)
    return {
        budget: {protocol: round(float(np.mean(values)), 4) for protocol, values in protocols.items()}
        for budget, protocols in accuracies.items()
    }


def tables_of(
    models: Sequence[OfModel], folder: Path, evaluator: Evaluator
) -> tuple[dict[str, pd.DataFrame], np.ndarray]:
    """The tables of the headline protocol for the report, and the rows of the misclassified images in them.

    Args:
        folder: with the probabilities of each model.
    """
    labels, classes = evaluator.test.labels, evaluator.classes
    confusions, reliabilities = [], []
    for budget in dict.fromkeys(task.budget for task in models):
        files = [
            predictions_file(budget, task.model.draw, HEADLINE)
            for task in models
            if task.budget == budget and task.model.protocol == HEADLINE
        ]
        headline = [np.load(folder / file) for file in files]
        counts = np.sum([confusion(p.argmax(1), labels, len(classes)) for p in headline], axis=0)
        confusions.append(diagnostics.confusion_table(counts, classes, len(headline), budget))
        reliabilities.append(diagnostics.reliability_table(headline, labels, budget))
    # Mistakes are those of the last budget in params.yaml.
    mistakes, rows = diagnostics.mistakes_table(headline, labels, classes, evaluator.test.names(), budget)
    tables = {
        "confusion": pd.concat(confusions),
        "reliability": pd.concat(reliabilities),
        "mistakes": mistakes,
    }
    return tables, rows


def write_empty(results: Results, made_from: dict[str, Any], timings: dict[str, Any]) -> None:
    """Write empty results if there are no models. The test split is not read."""
    with whole_folder(results.predictions) as folder:
        write_index(folder, [])
        write_digests(folder, results.predictions)
        write_tables(results, diagnostics.empty_tables(), np.zeros((0, 1, 1, 1), dtype=np.uint8))
        write_json(results.figures, {})
        write_record(results.model, {"made_from": made_from, "validation": {}}, *results.recorded())
        write_record(results.timings, timings)


def write_tables(results: Results, tables: dict[str, pd.DataFrame], mistaken: np.ndarray) -> None:
    """Write the tables, and the pictures of misclassified images, uint8 (n, C, H, W)."""
    for name, table in tables.items():
        write_table(getattr(results, name), table)
    sheet = thumbnails.sheet(mistaken, thumbnails.MISTAKES_ACROSS, thumbnails.MISTAKES_SIDE)
    thumbnails.write(results.gallery, sheet)
