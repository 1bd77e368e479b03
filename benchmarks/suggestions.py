"""Labels that `stages.suggest` asks for against labels of random images, on the dataset in force.

    python -m benchmarks.suggestions

Needs the encoders (`dvc repro`). With 10, 20 and 50 labels it fits the linear probe of the best encoder's
frozen features and measures it on the validation images; no test image is read. Ten draws: a draw
is as many random images, or the images chosen from other first centres of the clusters (`centre` has
nothing to draw and gives the same each time). Writes `benchmarks/results/suggestions.csv`: accuracy and the
gain over random draws, fractions with the half-width of their 95% intervals.
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
    """Measure every strategy and budget; replace the dataset's rows in the table."""
    settings = load.validated(load.read(load.PARAMS))
    method = suggest.best_method(settings)
    labels, classes = read_pool_labels()
    pool = read_pack(IMAGES / "pool.npy")
    held_out = read_pack(IMAGES / "validation.npy")
    expected = read_labels(IMAGES / "validation.csv")
    features = suggest.encoded(method, np.concatenate([pool, held_out]), settings)
    bank, queries = features[: len(pool)], torch.from_numpy(features[len(pool) :])

    def accuracy(rows: np.ndarray) -> float:
        chosen = torch.from_numpy(bank[rows])
        head = probe.fit_linear(chosen, labels[rows], len(classes), settings.probe.l2)
        return float((head(queries).argmax(1) == expected).float().mean())

    table = []
    for budget in BUDGETS:
        draws = [np.random.default_rng([settings.seed, draw]) for draw in range(DRAWS)]
        random = [accuracy(draw.choice(len(bank), budget, replace=False)) for draw in draws]
        found = {"random": random}
        for name, strategy in selection.STRATEGIES.items():
            found[name] = [accuracy(strategy(bank, NONE, budget, draw)) for draw in range(DRAWS)]
        for name, accuracies in found.items():
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
