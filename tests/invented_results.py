"""Invented results of all stages, for tests of the report that train nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.compare import figures as figures_of
from stages.compare import inputs
from stages.compare.evidence import Evidence, collect
from stages.compare.measured import Measured
from stages.evaluate import diagnostics
from stages.evaluate.results import Results
from stages.files.json_files import write_json
from stages.files.packs import write_array
from stages.files.paths import DATA, DATA_CLASSES, METRICS, PREDICTED_IMAGES, PREDICTIONS, PREPARED
from stages.files.records import write_record
from stages.files.tables import write_table
from stages.images import thumbnails
from stages.tasks.model_index import INDEX, Model, read_index, write_index
from stages.tasks.scores import confusion

CALIBRATION = 3.0  # a factor of the logits: larger is more confident
MADE_FROM = {
    "parameters": {"seeds": {"draws": 1}, "data": {"source": "mnist"}},
    "code": "0" * 12,
    "inputs": {"a/file": "1" * 12},
}


def write(
    methods: Sequence[str], labels: dict[str, int], draws: int, classes: Sequence[str],
    never: int | None = None, test: int = 400, flawless: bool = False, equal: bool = False,
    predictions: bool = False,
) -> Evidence:  # fmt: skip
    """Write the files of all stages into the working directory, and return the evidence read from them.

    Args:
        methods: their names.
        labels: budget → number of labelled images; empty: nothing was finetuned.
        draws: how many draws each budget has.
        classes: names of the classes.
        never: a class that no model predicts.
        test: how many test images there are.
        flawless: whether every prediction is correct.
        equal: whether all draws of a budget are equal.
        predictions: whether to write also the predictions, which the evidence is not read from.
    """
    random, other = np.random.default_rng(0), np.random.default_rng(1)
    images = random.integers(0, 255, (test, 1, 28, 28), dtype=np.uint8)
    actual = np.arange(test) % max(len(classes), 1)
    evaluations: dict[str, dict[str, dict[str, Measured]]] = {}
    names = pd.DataFrame({"id": [f"test-{row}" for row in range(test)]})
    names["file"] = [f"data/raw/photo {row}.png" for row in range(test)]
    for number, method in enumerate(methods):
        results = Results.of(method)
        _pretraining(method, number, images)
        tables, gallery = diagnostics.empty_tables(), images[:0]
        figures: dict[str, dict[str, Measured]] = {}
        parts: dict[str, list[pd.DataFrame]] = {"confusion": [], "reliability": []}
        for step, budget in enumerate(labels):
            skill = 100.0 if flawless else 1.0 + number + step
            predicted = [_probabilities(random, actual, len(classes), skill, never) for _ in range(draws)]
            predicted = predicted[:1] * draws if equal else predicted
            measured = measured_of(predicted, actual)
            figures[budget] = dict.fromkeys(("finetuned", "linear", "knn"), measured)
            arrays = dict.fromkeys(figures[budget], predicted)
            if step == 0:  # distilled is the smallest budget only
                distilled = [_probabilities(other, actual, len(classes), skill, never) for _ in range(draws)]
                distilled = distilled[:1] * draws if equal else distilled
                figures[budget]["distilled"] = measured_of(distilled, actual)
                arrays["distilled"] = distilled
            if predictions:
                _predictions(PREDICTIONS / method, budget, arrays, actual)
            counts = np.sum([confusion(draw.argmax(1), actual, len(classes)) for draw in predicted], axis=0)
            parts["confusion"].append(diagnostics.confusion_table(counts, list(classes), draws, budget))
            parts["reliability"].append(diagnostics.reliability_table(predicted, actual, budget))
            mistakes, rows = diagnostics.mistakes_table(predicted, actual, list(classes), names, budget)
            points, explained = diagnostics.feature_map(random.normal(size=(test, 8)), actual, list(classes))
            tables = {name: pd.concat(tables) for name, tables in parts.items()}
            tables |= {"mistakes": mistakes, "map": points}
            gallery = images[rows]
        for name, table in tables.items():
            write_table(getattr(results, name), table)
        thumbnails.write(
            results.gallery, thumbnails.sheet(gallery, thumbnails.MISTAKES_ACROSS, thumbnails.MISTAKES_SIDE)
        )
        of_validation = {budget: {"finetuned": 0.5 + 0.1 * number} for budget in labels}
        model: dict[str, Any] = {"made_from": MADE_FROM, "validation": of_validation}
        if labels:
            model |= {
                "encoder": "residual", "image_size": 28, "parameters": 1000 + number, "multiply_adds": 5000,
                "file_bytes": 4000, "map_variance": explained,
            }  # fmt: skip
        write_json(results.figures, {})
        write_record(results.model, model, *results.recorded())
        seconds = {"hardware": "x86_64", "threads": 2, "seconds": 10.0 * number, "images_per_second": 100}
        for stage in ("pretrain", "choose", "finetune", "distil"):
            write_record(METRICS / "timings" / stage / f"{method}.json", seconds)
        speed = {"latency_ms_p50": 1.5 + number, "latency_ms_p95": 2.5, "inference_images_per_second": 999}
        write_record(results.timings, seconds | speed)
        confirmation = {budget: {"holds": number > 0} for budget in list(labels)[:1]}
        content: dict[str, Any] = {"made_from": MADE_FROM, "confirmation": confirmation}
        write_record(METRICS / "finetune" / f"{method}.json", content)
        rate = {"encoder_learning_rate": 0.003 * number, "head_learning_rate": 0.01, "weight_decay": 0.5}
        recipes = {budget: {"by": "cross-validation", "recipe": rate} for budget in labels}
        write_record(METRICS / "choose" / f"{method}.json", {"made_from": MADE_FROM, "budgets": recipes})
        distil = [
            {"budget": budget, "draw": draw, "spread": draw > 0}
            for budget in list(labels)[:1] for draw in range(draws)
        ]  # fmt: skip
        write_record(METRICS / "distil" / f"{method}.json", content | {"draws": distil})
        evaluations[method] = figures
    _data(classes, images, test if labels else 0)
    table = figures_of.label_efficiency(evaluations, labels)
    return collect(evaluations, table, labels, inputs.read_data())


def _predictions(folder: Path, budget: str, arrays: dict[str, list[np.ndarray]], actual: np.ndarray) -> None:
    """Add the predictions of a budget's models, by protocol and draw, to those in a folder."""
    models = read_index(folder) if (folder / INDEX).exists() else []
    for protocol, of_draws in arrays.items():
        for draw, content in enumerate(of_draws):
            models.append(Model(f"{budget}-draw{draw}-{protocol}.npy", protocol, budget, draw, 0, "a file"))
            write_array(folder / models[-1].file, content)
    write_index(folder, models)
    rows = range(len(actual))
    images = pd.DataFrame({"id": [f"test-{row}" for row in rows], "label": actual, "unit": rows})
    write_table(folder / PREDICTED_IMAGES, images)


def measured_of(predicted: Sequence[np.ndarray], actual: np.ndarray) -> Measured:
    """The figures of some draws, whose images have no groups."""
    return Measured.of(predicted, actual, np.arange(len(actual)), [0] * len(predicted), overlap=0.0)


def _probabilities(
    random: np.random.Generator, actual: np.ndarray, classes: int, skill: float, never: int | None
) -> np.ndarray:
    logits = random.normal(size=(len(actual), classes)) + skill * np.eye(classes)[actual]
    if never is not None:
        logits[:, never] = -50
    odds = np.exp(CALIBRATION * (logits - logits.max(1, keepdims=True)))
    return np.asarray(odds / odds.sum(1, keepdims=True), dtype=np.float32)


def _pretraining(method: str, number: int, images: np.ndarray) -> None:
    folder = METRICS / "pretrain"
    steps = [0] if method == "scratch" else [0, 10, 20]
    curve = pd.DataFrame({
        "run": 0, "step": steps, "epoch": [step / 20 for step in steps],
        "loss": [None if step == 0 else 5 - step / 10 for step in steps],
        "learning_rate": 0.001, "feature_std": 0.3, "rankme": 20.5 + number,
        "knn": [0.5 + 0.01 * step + 0.001 * number for step in steps],
    })  # fmt: skip
    write_table(folder / f"{method}.csv", curve)
    shown = folder / f"{method}_shown.png"
    thumbnails.write(shown, thumbnails.sheet(images[:20], 10))
    figures = {
        "knn": float(curve["knn"].iloc[-1]), "knn_untrained": 0.5, "feature_std": 0.3, "rankme": 20.5,
        "runs": [{}], "collapse": None, "loss": None, "steps": steps[-1], "parameters": 900, "device": "cpu",
        "precision": "bf16", "torch": "2", "python": "3.11", "made_from": MADE_FROM,
        "shown": ["images of the pool", "one view of each"],
    }  # fmt: skip
    write_record(folder / f"{method}.json", figures, folder / f"{method}.csv", shown)


def _data(classes: Sequence[str], images: np.ndarray, test: int) -> None:
    counts = {
        "classes": len(classes), "pool": 100, "pool_labelled": 90, "validation_labelled": 200,
        "test_labelled": test, "test_units": test, "smallest_gain": {},
    }  # fmt: skip
    write_json(DATA, counts)
    left_out = [[f"images/{i}.png", "duplicate" if i else "<b>bad</b> & file", ""] for i in range(60)]
    columns = ["file", "reason", "other"]
    of_files, samples = METRICS / "data_left_out.csv", METRICS / "data_samples.png"
    write_table(of_files, pd.DataFrame(left_out, columns=columns))
    table = pd.DataFrame({"class": list(classes), "pool": 9, "validation": 0, "test": 7})
    write_table(DATA_CLASSES, table)
    thumbnails.write(samples, thumbnails.sheet(images[:30], 10))
    write_record(PREPARED, {"made_from": MADE_FROM}, DATA, DATA_CLASSES, of_files, samples)
