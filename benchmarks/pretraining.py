"""Measure a setting of the pretraining on validation, never on test: kNN, and linear probes over 20 draws.

    python -m benchmarks.pretraining METHOD [KEY=VALUE …]

For example `python -m benchmarks.pretraining simclr pretrain.simclr.temperature=0.5`. Needs the outputs of
the stage `prepare`. It pretrains with params.yaml and the given changes, measures the encoder with draws that
no evaluation uses, and adds a row to `benchmarks/results/pretraining.csv`. SimCLR's temperature, learning
rate and weight decay were chosen from this table. The encoder is not saved.
"""

import sys
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from stages.compare.statistics import estimate
from stages.errors import InputError, reported
from stages.files.packs import read_pack
from stages.files.paths import IMAGES
from stages.files.tables import write_table
from stages.images.tensors import as_tensor
from stages.networks.encoder import Encoder
from stages.pretrain.learner import build
from stages.pretrain.start import fresh_encoder
from stages.pretrain.train import train
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks import probe
from stages.tasks.draws import draw_labelled
from stages.tasks.features import encode
from stages.tasks.labels import read_labels, read_pool_labels
from stages.tools.experiment import applied
from stages.training.machine import Machine, set_up
from stages.training.randomness import Stream

RESULT = Path("benchmarks/results/pretraining.csv")
BUDGETS = (10, 100, 1000)
DRAWS = range(200, 220)  # other draws than those of `finetune.draws` and of the tuning


def main(method: str, changes: list[str]) -> None:
    """Pretrain once with the changes and add a row to the table."""
    values = {}
    for change in changes:
        key, _, value = change.partition("=")
        values[key] = YAML(typ="safe", pure=True).load(value)
    settings = load.validated(applied(load.read(load.PARAMS), values))
    machine = set_up(settings.runtime, settings.runtime.threads.pretrain)
    stream = Stream.of(settings.seeds.training, "pretrain")
    pool = read_pack(IMAGES / "pool.npy")
    encoder = fresh_encoder(settings, pool, stream.at("encoder")).to(machine.device)
    section = settings.pretrain[method]
    views = settings.views.presets[settings.views.pretrain]
    learner = build(method, encoder, section, views, stream)
    _, seconds = train(method, learner, pool, section, machine, stream.at(method), lambda *_: {})
    row = {"method": method, "changes": " ".join(changes), "seconds": round(seconds)}
    row |= measured(encoder, settings, machine)
    print(row)
    old = [pd.read_csv(RESULT)] if RESULT.exists() else []
    write_table(RESULT, pd.concat([*old, pd.DataFrame([row])]))


def measured(encoder: Encoder, settings: Params, machine: Machine) -> dict[str, float]:
    """The kNN accuracy, and the mean accuracy of the linear probe with its interval for each budget."""
    images = as_tensor(read_pack(IMAGES / "validation.npy"))
    expected = read_labels(IMAGES / "validation.csv").to(machine.device)
    features = encode(encoder, images, machine)
    figures = {"knn": round(probe.knn_accuracy(features, expected, settings.knn), 4)}
    pool = read_pack(IMAGES / "pool.npy")
    labels, classes = read_pool_labels()
    for budget in BUDGETS:
        accuracies = []
        for draw in DRAWS:
            rows = draw_labelled(labels, len(classes), budget, draw, settings.seeds.draws)
            bank = encode(encoder, as_tensor(pool[rows.numpy()]), machine)
            head = probe.fit_linear(bank, labels[rows].to(machine.device), len(classes), settings.probe.l2)
            accuracies.append(float((head(features).argmax(1) == expected).float().mean()))
        value = estimate(accuracies)
        figures |= {f"n{budget}": round(value.mean, 4), f"n{budget}_ci95": round(value.ci95, 4)}
    return figures


if __name__ == "__main__":
    with reported():
        if len(sys.argv) < 2:
            raise InputError("usage: python -m benchmarks.pretraining METHOD [KEY=VALUE …]")
        main(sys.argv[1], sys.argv[2:])
