"""Judge the quality tables: four statements that should hold on any data, each true or false, with figures.

1. No method is measurably worse than scratch: no interval of a gain lies below zero.
2. Finetuned is not below its own linear probe by more than a point.
3. The best method is not below the best simple baseline. Left out are `majority`, which knows from all labels
   how common each class is, and `imagenet`, which is not simple.
4. The best pretrained method beats scratch beyond the interval.

Methods are finetuned on their own labels alone. `imported`, weights from elsewhere as they came, is not a
pretrained one. The statements describe what was measured: nothing is chosen by them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from stages.settings.values import CONTROL, IMPORTED, MAJORITY, PUBLIC

ARM, PROBE, BASELINE = "finetuned", "linear", "baseline"  # protocols
NOT_SIMPLE = (MAJORITY, PUBLIC)
ALLOWED = 0.01  # finetuned may be below its own probe by so much


@dataclass(frozen=True)
class Statement:
    """A statement about one dataset.

    Attributes:
        text: what is stated.
        holds: whether it is true; None where the tables have no figures for it.
        figures: one line for each budget or case that decides it.
    """

    text: str
    holds: bool | None
    figures: list[str]

    def __str__(self) -> str:
        """The statement and its figures, line by line."""
        verdict = {True: "true ", False: "FALSE", None: "open "}[self.holds]
        return "\n".join([f"{verdict} {self.text}", *(f"        {line}" for line in self.figures)])


def judged(accuracies: pd.DataFrame, gains: pd.DataFrame) -> list[Statement]:
    """The four statements about one dataset.

    Args:
        accuracies: its rows of quality.csv.
        gains: its rows of quality_gains.csv.
    """
    over_scratch = gains[(gains["protocol"] == ARM) & (gains["over"] == CONTROL)]
    arms = accuracies[accuracies["protocol"] == ARM]
    return [
        _never_worse(over_scratch),
        _not_below_the_probe(arms, accuracies[accuracies["protocol"] == PROBE]),
        _not_below_the_baselines(arms, accuracies[accuracies["protocol"] == BASELINE]),
        _beats_scratch(over_scratch),
    ]


def _never_worse(gains: pd.DataFrame) -> Statement:
    worse = [_gain(row) for _, row in gains.iterrows() if row["gain"] + row["ci95"] < 0]
    lowest = [_gain(row) for _, row in gains.sort_values("gain").head(1).iterrows()]
    text = "no method is measurably worse than scratch"
    return Statement(text, not worse if len(gains) else None, worse or [f"lowest: {line}" for line in lowest])


def _not_below_the_probe(arms: pd.DataFrame, probes: pd.DataFrame) -> Statement:
    pairs = arms.merge(probes, on=["labels", "method"], suffixes=("", "_probe"))
    difference = pairs["accuracy"] - pairs["accuracy_probe"]
    lines = [
        f"{row['labels']} labels, {row['method']}: {_percent(row['accuracy'])}, its probe "
        f"{_percent(row['accuracy_probe'])}"
        for _, row in pairs.assign(difference=difference).sort_values("difference").iterrows()
    ]
    below = int((difference < -ALLOWED).sum())
    text = "finetuned is not below its own linear probe by more than a point"
    return Statement(text, not below if len(pairs) else None, lines[: max(below, 1)])


def _not_below_the_baselines(arms: pd.DataFrame, baselines: pd.DataFrame) -> Statement:
    text = "the best method is not below the best simple baseline"
    lines, reached = [], []
    for labels, of_budget in _by_budget(arms):
        simple = baselines[(baselines["labels"] == labels) & ~baselines["method"].isin(NOT_SIMPLE)]
        simple = simple.nlargest(1, "accuracy")
        if simple.empty:
            continue
        best, simplest = of_budget.nlargest(1, "accuracy").iloc[0], simple.iloc[0]
        reached.append(best["accuracy"] >= simplest["accuracy"])
        lines.append(
            f"{labels} labels: {best['method']} {_percent(best['accuracy'])}, {simplest['method']} "
            f"{_percent(simplest['accuracy'])}"
        )
    return Statement(text, all(reached) if reached else None, lines or ["no simple baseline was measured"])


def _beats_scratch(gains: pd.DataFrame) -> Statement:
    """True where it holds with at least one budget; the figures name all."""
    pretrained = gains[gains["method"] != IMPORTED]
    lines, sure = [], []
    for _, of_budget in _by_budget(pretrained):
        best = of_budget.nlargest(1, "gain").iloc[0]
        sure.append(bool(best["gain"] > best["ci95"]))
        lines.append(f"{'sure    ' if sure[-1] else 'not sure'} {_gain(best)}")
    held = f"with {sum(sure)} of {len(sure)} budgets"
    text = f"the best pretrained method beats scratch beyond the interval ({held})"
    return Statement(text, any(sure) if sure else None, lines)


def _by_budget(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each budget, in the order of the table."""
    for labels in table["labels"].unique():
        yield labels, table[table["labels"] == labels]


def _gain(row: pd.Series) -> str:
    interval = "no interval" if pd.isna(row["ci95"]) else f"± {_percent(row['ci95'])}"
    return f"{row['labels']} labels, {row['method']}: {100 * row['gain'] + 0.0:+.2f} {interval}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
