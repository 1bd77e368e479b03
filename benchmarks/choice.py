"""How well a rule chooses the finetuning recipe from few labels: simulated on measured accuracies.

    python -m benchmarks.choice

The accuracies of `benchmarks/results/tuning.csv` (MNIST and Fashion-MNIST; 10, 100 and 1,000 labels; 5,000
images of validation) stand for the truth. Each trial draws what a validation split of N labels would have
shown, and lets every rule choose. The loss is how much less accurate the choice is than the best candidate.
Writes `benchmarks/results/choice.csv`: the mean loss, and that of the worst case, in points.

Whether a candidate is right on an image is correlated between candidates, because some images are harder than
others (a Gaussian copula), and a draw of labels moves each candidate by itself.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from stages.choose import rule
from stages.files.tables import write_table
from stages.tools.tune import RESULT as MEASURED

RESULT = Path("benchmarks/results/choice.csv")
LABELS, TRIALS = (30, 100, 300, 2000), 150
BUDGETS = {"n10": 0.02, "n100": 0.006, "n1000": 0.003}  # standard deviation by the draw of labels
SHARED = 0.75  # of the variance: what all candidates have in common on an image
DEFAULT = 2  # the number of the candidate that the one-standard-error rule prefers
Rule = Callable[[list[np.ndarray]], list[int]]


def highest(correct: list[np.ndarray]) -> list[int]:
    """The candidate with the highest accuracy; of each budget by itself."""
    return [int(one.mean(1).argmax()) for one in correct]


def one_standard_error(correct: list[np.ndarray]) -> list[int]:
    """The candidate nearest to the default within one standard error of the best, by paired images."""
    choices = []
    for one in correct:
        lead = one[one.mean(1).argmax()].astype(float) - one
        near = lead.mean(1) <= lead.std(1) / np.sqrt(one.shape[1])
        choices.append(int(min(np.flatnonzero(near), key=lambda number: abs(number - DEFAULT))))
    return choices


def smoothed(correct: list[np.ndarray]) -> list[int]:
    """As the stage `choose`: the best rate that trains the encoder, or the frozen encoder."""
    accuracies = [one.mean(1) for one in correct]
    trained = [1 + (number or 0) for number in rule.chosen([one[1:] for one in accuracies])]
    ahead = rule.chosen([one[[0, number]] for one, number in zip(accuracies, trained, strict=True)])
    return [number if rank else 0 for rank, number in zip(ahead, trained, strict=True)]


def default(correct: list[np.ndarray]) -> list[int]:
    """No choice."""
    return [DEFAULT] * len(correct)


RULES: tuple[Rule, ...] = (default, highest, one_standard_error, smoothed)


def seen(accuracy: np.ndarray, labels: int, draw: float, rng: np.random.Generator) -> np.ndarray:
    """On which of so many images each candidate is right, (C, labels) bool; `accuracy` is (C,)."""
    moved = np.clip(accuracy + rng.normal(0, draw, len(accuracy)), 0.02, 0.995)
    common, own = rng.normal(size=(1, labels)), rng.normal(size=(len(accuracy), labels))
    return np.asarray(
        np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own < norm.ppf(moved)[:, None], dtype=bool
    )


def main() -> None:
    """Simulate all rules on the same images, and write the table."""
    measured = pd.read_csv(MEASURED)
    measured = measured[(measured["weight_decay"] == 0.5) & (measured["method"] != "imported")]
    rng, rows = np.random.default_rng(0), []
    for names, rows_of_case in measured.groupby(["dataset", "method"]):
        by_rate = rows_of_case.pivot(
            index="encoder_learning_rate", columns="budget", values="validation_accuracy"
        )
        # The grid's lowest rate hardly moves the encoder: it stands for the frozen one.
        truth = [by_rate[budget].to_numpy() for budget in BUDGETS]
        for labels in LABELS:
            for _ in range(TRIALS):
                correct = [
                    seen(true, labels, deviation, rng)
                    for true, deviation in zip(truth, BUDGETS.values(), strict=True)
                ]
                for one in RULES:
                    for budget, true, number in zip(BUDGETS, truth, one(correct), strict=True):
                        loss = 100 * (true.max() - true[number])
                        rows.append(("/".join(map(str, names)), budget, labels, one.__name__, loss))
    losses = pd.DataFrame(rows, columns=["case", "budget", "labels", "rule", "loss"])
    cases = losses.groupby(["labels", "rule", "case", "budget"])["loss"].mean()
    table = cases.groupby(["labels", "rule"]).agg(mean_loss="mean", worst_loss="max").round(2).reset_index()
    write_table(RESULT, table)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
