"""Measure a setting of the pretraining by the linear probe on validation, never on test.

    python -m benchmarks.pretraining [--project FOLDER] [--name NAME] [--run N] METHOD [KEY=VALUE …]

For example `python -m benchmarks.pretraining simclr pretrain.simclr.images=660000`. It pretrains once, with
the params.yaml of a project, in which `prepare` has run, and the given changes. `scratch` is an untrained
encoder. The project is the working directory or another clone, such as one with the settings of an
experiment; NAME stands for its data and settings in the table. The encoder is not saved. Rows of the same
name, method, changes and run are replaced in `benchmarks/results/pretraining.csv`, one for each of:

- the budgets of `finetune.budgets`: balanced accuracy on validation, the mean of 20 draws with its interval
  (of the draws alone; all labels are one draw). The draws are none that an evaluation uses.
- `cross-validated`: that on up to 2,000 labelled images of pool and validation, each predicted from the
  others by groups. It hangs less on few images where validation has few.
"""

import argparse
import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from stages.compare.statistics import estimate
from stages.errors import InputError, reported
from stages.files.packs import read_pack, read_pack_if_any
from stages.files.paths import IMAGES, LARGE_POOL
from stages.files.tables import write_table
from stages.images.tensors import as_tensor
from stages.networks.encoder import Encoder
from stages.pretrain.learner import build
from stages.pretrain.start import fresh_encoder, given_encoder
from stages.pretrain.train import train
from stages.settings import load
from stages.settings.schema import Params
from stages.settings.values import CONTROL, FOLDER, available_methods
from stages.tasks import folds, probe
from stages.tasks.draws import Budget, draw_labelled
from stages.tasks.features import encode, encode_rows
from stages.tasks.labels import read_pool_labels
from stages.tasks.scores import balanced_accuracy
from stages.tasks.validation import Validation, validation_labelled
from stages.tools.experiment import applied
from stages.tools.preset_trial import FOLDS, SPLITS, LabelledImages
from stages.training.machine import Machine, set_up
from stages.training.randomness import Stream

RESULT = Path("benchmarks/results/pretraining.csv")
DRAWS = range(200, 220)  # other draws than those of `finetune.draws` and of the tuning
SCORE = "balanced accuracy"  # rows of earlier versions have another one
CROSS_VALIDATED = "cross-validated"


def main(arguments: Sequence[str] | None = None) -> None:
    """Pretrain once with the changes and replace the rows of the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pretraining", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("--project", type=Path, default=Path(), help="default: the working directory")
    parser.add_argument("--name", help="of its data and settings (default: of its data)")
    parser.add_argument("--run", type=int, default=0, help="another run has other random numbers")
    parser.add_argument("method", metavar="METHOD", choices=available_methods())
    parser.add_argument(
        "changes", metavar="KEY=VALUE", nargs="*", help="relative to the project's params.yaml"
    )
    options = parser.parse_args(arguments)
    result = RESULT.absolute()
    with contextlib.chdir(options.project):
        values = dict(parsed(change) for change in options.changes)
        settings = load.validated(applied(load.read(load.PARAMS), values))
        validation = labelled_validation()  # first: without it minutes of pretraining would be lost
        encoder, machine, seconds = pretrained(options.method, settings, options.run)
        scores = on_validation(encoder, validation, settings, machine)
        scores.append(cross_validated(encoder, settings, machine))
    data = settings.data
    head = {
        "data": options.name or (Path(data.path).name if data.source == FOLDER else data.source),
        "method": options.method,
        "changes": " ".join(options.changes),
        "run": options.run,
    }
    rows = pd.DataFrame([{**head, "seconds": seconds, "score": SCORE, **score} for score in scores])
    print(rows.to_string(index=False))
    record(result, rows, list(head))


def parsed(change: str) -> tuple[str, Any]:
    """The key and the value of KEY=VALUE; the value is YAML."""
    key, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"{change}: allowed: KEY=VALUE, such as pretrain.simclr.images=660000")
    if key.startswith(("data.", "seeds.split")):
        raise InputError(f"{change}: the images are prepared already; allowed: what comes after `prepare`")
    return key, YAML(typ="safe", pure=True).load(value)


def record(file: Path, rows: pd.DataFrame, keys: list[str]) -> None:
    """Replace the rows of a table that have the same keys as the first of `rows`."""
    if file.exists():
        old = pd.read_csv(file, keep_default_na=False, dtype=str)
        same = (old[keys] == rows[keys].iloc[0].astype(str)).all(axis=1)
        rows = pd.concat([old[~same], rows])
    write_table(file, rows)


def pretrained(method: str, settings: Params, run: int) -> tuple[Encoder, Machine, int]:
    """The encoder after one pretraining, the machine, and the seconds of its steps."""
    machine = set_up(settings.runtime, settings.runtime.threads.pretrain)
    stream = Stream.of(settings.seeds.training, "pretrain", "trial", run)
    pool = read_pack(IMAGES / "pool.npy")
    encoder = fresh_encoder(settings, pool, stream.at("encoder"))
    if method == CONTROL:
        return encoder.to(machine.device), machine, 0
    section = settings.pretrain[method]
    if section.start is not None:
        encoder = given_encoder(method, section.start, encoder)
    encoder = encoder.to(machine.device)
    views = settings.views.presets[settings.views.pretrain]
    learner = build(method, encoder, section, views, stream)
    pack = learner.pack(pool, read_pack_if_any(LARGE_POOL, rows=len(pool)))
    _, seconds = train(method, learner, pack, section, machine, stream.at(method), lambda *_: {})
    return encoder, machine, round(seconds)


def labelled_validation() -> Validation:
    """The labelled images of validation.

    Raises:
        InputError: they are too few.
    """
    validation = validation_labelled(len(read_pool_labels()[1]))
    if validation is None:
        raise InputError(f"{IMAGES / 'validation.csv'}: too few labels to measure on")
    return validation


def on_validation(
    encoder: Encoder, validation: Validation, settings: Params, machine: Machine
) -> list[dict[str, Any]]:
    """The score of each budget on the labelled images of validation."""
    pool = read_pack(IMAGES / "pool.npy")
    labels, classes = read_pool_labels()
    images, rows, expected = validation
    features = encode_rows(encoder, images, rows, machine)

    def score(budget: Budget, draw: int) -> float:
        drawn = draw_labelled(labels, len(classes), budget, draw, settings.seeds.draws)
        bank = encode_rows(encoder, pool, drawn.numpy(), machine)
        head = probe.fit_linear(bank, labels[drawn].to(machine.device), len(classes), settings.probe.l2)
        return balanced_accuracy(head(features).argmax(1).cpu().numpy() == expected, expected)

    scores = []
    for budget in settings.finetune.budgets:
        draws = DRAWS[:1] if budget == "all" else DRAWS
        value = estimate([score(budget, draw) for draw in draws])
        scores.append(entry(str(budget), value.mean, value.ci95))
    return scores


def cross_validated(encoder: Encoder, settings: Params, machine: Machine) -> dict[str, Any]:
    """The score of labelled images of pool and validation, each predicted from the others."""
    labelled = LabelledImages.read(Stream.of(settings.seeds.training, "labelled"))
    features = encode(encoder, as_tensor(labelled.images), machine)
    correct = folds.probe_correct(
        features, labelled.labels.to(features.device), labelled.units, settings.probe.l2, FOLDS, SPLITS,
        Stream.of(settings.seeds.training, "folds"),
    )  # fmt: skip
    return entry(CROSS_VALIDATED, float(np.mean(folds.balanced(correct, labelled.labels.numpy()))), math.nan)


def entry(labels: str, value: float, ci95: float) -> dict[str, Any]:
    """The columns of a score, as fractions; an interval that is NaN stays empty."""
    return {"labels": labels, "value": round(value, 4), "ci95": round(ci95, 4)}


if __name__ == "__main__":
    with reported():
        main()
