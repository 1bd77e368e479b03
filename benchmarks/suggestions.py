"""Compare labels of the images that `stages.tools.suggest` chooses with labels of random images.

    python -m benchmarks.suggestions

Needs the encoders (`dvc repro`) and uses the dataset in params.yaml. With 10, 20 and 50 labels it fits the
linear probe on the frozen features of the best encoder and measures it on the validation images; no test
image is read. There are ten draws: random images, or images chosen with other initial centres of the clusters
(`centre` uses no random numbers: it always chooses the same images and has no interval). Writes
`benchmarks/results/suggestions.csv`: accuracy and gain over random images, as fractions with the half-width
of their 95% intervals.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.compare.statistics import estimate, paired_gain
from stages.errors import reported
from stages.files.packs import read_pack
from stages.files.paths import IMAGES
from stages.files.tables import write_table
from stages.settings import load
from stages.tasks import probe
from stages.tasks.labels import read_labels, read_pool_labels
from stages.tools import selection, suggest

RESULT = Path("benchmarks/results/suggestions.csv")
BUDGETS = (10, 20, 50)
DRAWS = 10
NONE = np.array([], dtype=int)


def main() -> None:
    """Measure every strategy and budget; replace the rows of the dataset in the table."""
    settings = load.validated(load.read(load.PARAMS))
    method = suggest.best_method(settings)
    labels, classes = read_pool_labels()
    pool = read_pack(IMAGES / "pool.npy")
    validation = read_pack(IMAGES / "validation.npy")
    expected = read_labels(IMAGES / "validation.csv")
    features = suggest.normalised_features(method, np.concatenate([pool, validation]), settings)
    bank, queries = features[: len(pool)], torch.from_numpy(features[len(pool) :])

    def accuracy(rows: np.ndarray) -> float:
        chosen = torch.from_numpy(bank[rows])
        head = probe.fit_linear(chosen, labels[rows], len(classes), settings.probe.l2)
        return float((head(queries).argmax(1) == expected).float().mean())

    table = []
    for budget in BUDGETS:
        draws = [np.random.default_rng([settings.seeds.draws, draw]) for draw in range(DRAWS)]
        random = [accuracy(draw.choice(len(bank), budget, replace=False)) for draw in draws]
        by_strategy = {"random": random}
        for name, strategy in selection.STRATEGIES.items():
            by_strategy[name] = [accuracy(strategy(bank, NONE, budget, draw)) for draw in range(DRAWS)]
        for name, accuracies in by_strategy.items():
            average, gain = estimate(accuracies), paired_gain(accuracies, random)
            row = {"dataset": settings.data.source, "labels": budget, "method": method, "strategy": name}
            row |= {"accuracy": round(average.mean, 4), "ci95": round(average.ci95, 4)}
            if name != "random":
                row |= {"gain": round(gain.mean, 4), "gain_ci95": round(gain.ci95, 4)}
            print(row, flush=True)
            table.append(row)
    rows = pd.DataFrame(table)
    if RESULT.exists():
        old = pd.read_csv(RESULT)
        rows = pd.concat([old[old["dataset"] != settings.data.source], rows])
    write_table(RESULT, rows)


if __name__ == "__main__":
    with reported():
        main()
