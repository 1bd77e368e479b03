"""Charts for two classes: what other thresholds would give than the larger probability."""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.compare.names import drawn
from stages.compare.svg import INK, SERIES, panel, svg
from stages.tasks.ranking import GRID, Ranking

STYLES = ("-", "--", ":", "-.")
Lines = Mapping[str, tuple[np.ndarray, np.ndarray]]


def ranking(
    method: str, of_budget: Mapping[str, Ranking], labels: Mapping[str, int], classes: Sequence[str]
) -> list[str]:
    """ROC curve, precision over recall, both classes' recall over the threshold; [] without rankings."""
    if not of_budget:
        return []
    names, last = drawn(classes), list(of_budget)[-1]
    looked_for = of_budget[last].positive
    positive, other = names.texts[looked_for], names.texts[1 - looked_for]
    title = {budget: f"{labels[budget]:,} labels" for budget in of_budget}
    roc: Lines = {f"{title[b]}: area {of.area:.3f}": (GRID, of.recall) for b, of in of_budget.items()}
    precision: Lines = {title[b]: (GRID, of.precision) for b, of in of_budget.items()}
    thresholds: Lines = {
        positive: (GRID, of_budget[last].sensitivity), other: (GRID, of_budget[last].specificity)
    }  # fmt: skip

    def chart(name: str, heading: str, x: str, y: str, lines: Lines, marked: bool = False) -> str:
        with panel(4.2, 3.4) as (figure, axis):
            for index, (across, up) in enumerate(lines.values()):
                axis.plot(
                    100 * across, 100 * up, color=SERIES[index % len(SERIES)],
                    linestyle=STYLES[index % len(STYLES)],
                )  # fmt: skip
            if marked:
                axis.axvline(50, color=INK, linewidth=0.8, linestyle=":")
            axis.set(title=heading, xlabel=x, ylabel=y, xlim=(0, 101), ylim=(0, 102))
            axis.legend(axis.lines[: len(lines)], list(lines))
            return svg(figure, f"{name}-{method}", f"{method}: {heading}", names.written)

    return [
        chart("roc", "ROC curve", f"{other}, taken for {positive}, %", f"{positive}, found, %", roc),
        chart("precision", "precision", f"{positive}, found, %", f"right among {positive}, %", precision),
        chart(
            "threshold", f"threshold, {title[last]}", f"probability of {positive} that is asked for, %",
            "images of each class recognised, %", thresholds, marked=True,
        ),
    ]  # fmt: skip
