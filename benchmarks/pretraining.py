"""What a pretraining setting is worth on validation, never on test: kNN, and linear probes over 20 draws.

    python -m benchmarks.pretraining METHOD [KEY=VALUE …]

such as `python -m benchmarks.pretraining simclr pretrain.simclr.temperature=0.5`. Needs the stage
`prepare`. It pretrains with params.yaml and the changes named, on draws that no evaluation uses,
and adds a row to `benchmarks/results/pretraining.csv`. SimCLR's temperature, rate and decay were
chosen from it; the encoder itself is thrown away.
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
DRAWS = range(200, 220)  # far from the numbers that `finetune.draws` and the tuning count


def main(method: str, changes: list[str]) -> None:
    """Pretrain once with the changes and add its row to the table."""
    values = {}
    for change in changes:
        key, _, value = change.partition("=")
        values[key] = YAML(typ="safe", pure=True).load(value)
    settings = load.validated(applied(load.read(load.PARAMS), values))
    here, stream = set_up(settings.runtime), Stream.of(settings.seed, "pretrain")
    pool = read_pack(IMAGES / "pool.npy")
    encoder = fresh_encoder(settings, pool, stream.at("encoder")).to(here.device)
    section = settings.pretrain[method]
    strengths = settings.views.presets[settings.views.pretrain]
    learner = build(method, encoder, section, strengths, stream)
    _, seconds = train(method, learner, pool, section, here, stream.at(method), lambda *_look: {})
    row = {"method": method, "changes": " ".join(changes), "seconds": round(seconds)}
    row |= measured(encoder, settings, here)
    print(row)
    old = [pd.read_csv(RESULT)] if RESULT.exists() else []
    write_table(RESULT, pd.concat([*old, pd.DataFrame([row])]))


def measured(encoder: Encoder, settings: Params, here: Machine) -> dict[str, float]:
    """kNN accuracy, and the linear probe's mean accuracy with its interval at each budget."""
    images = as_tensor(read_pack(IMAGES / "validation.npy"))
    expected = read_labels(IMAGES / "validation.csv").to(here.device)
    features = encode(encoder, images, here)
    figures = {"knn": round(probe.knn_accuracy(features, expected, settings.knn), 4)}
    pool = read_pack(IMAGES / "pool.npy")
    labels, classes = read_pool_labels()
    for budget in BUDGETS:
        accuracies = []
        for draw in DRAWS:
            rows = draw_labelled(labels, len(classes), budget, draw, settings.seed)
            bank = encode(encoder, as_tensor(pool[rows.numpy()]), here)
            head = probe.fit_linear(bank, labels[rows].to(here.device), len(classes), settings.probe.l2)
            accuracies.append(float((head(features).argmax(1) == expected).float().mean()))
        value = estimate(accuracies)
        figures |= {f"n{budget}": round(value.mean, 4), f"n{budget}_ci95": round(value.ci95, 4)}
    return figures


if __name__ == "__main__":
    with reported():
        if len(sys.argv) < 2:
            raise InputError("usage: python -m benchmarks.pretraining METHOD [KEY=VALUE …]")
        main(sys.argv[1], sys.argv[2:])
