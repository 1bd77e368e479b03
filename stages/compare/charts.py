"""The charts that compare the methods, each an SVG that can be read on a phone."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from stages.compare.figures import control_first
from stages.compare.svg import INK, MARKERS, PRINTED, SERIES, legend_below, panel, svg
from stages.files.whole import whole_file
from stages.settings.values import BASELINE

PROTOCOLS = {
    "finetuned": "finetuned",
    "distilled": "distilled: the pool's images used too",
    "linear": "linear probe on the frozen encoder",
}
SHARE_OF_TICK = 0.15  # of an axis, which the text of a tick takes
CURVES = {  # column of the training curves: title and unit
    "knn": ("online kNN accuracy on validation, %", 0.01),
    "rankme": ("effective rank of the features (RankMe)", 1),
    "feature_std": ("spread of the features (standard deviation)", 1),
    "loss": ("loss relative to each method's first value", 1),
}
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))  # of the simple baselines, one for each


def shown(table: pd.DataFrame) -> list[str]:
    """The protocols that are drawn: those in the table; all if it is empty."""
    return [name for name in PROTOCOLS if name in set(table["protocol"])] or list(PROTOCOLS)


def curve(axis: Axes, table: pd.DataFrame, protocol: str, colours: Sequence[str]) -> None:
    """Draw accuracy over the number of labels with intervals, one line for each method.

    Beside finetuned models are the simple baselines, as thin grey lines without intervals.
    """
    simple = table[table["protocol"] == BASELINE].sort_values("labels")
    for style, (name, rows) in zip(cycle(STYLES), simple.groupby("method"), strict=False):
        if protocol == "finetuned":
            axis.plot(
                rows["labels"], 100 * rows["accuracy"], label=name,
                color=colours[0], linewidth=0.8, linestyle=style, marker="." if len(rows) == 1 else None,
            )  # fmt: skip
    methods = table[table["protocol"] != BASELINE]["method"].unique()
    for index, method in enumerate(control_first(methods)):
        rows = table[(table["protocol"] == protocol) & (table["method"] == method)].sort_values("labels")
        axis.errorbar(
            rows["labels"], 100 * rows["accuracy"], 100 * rows["accuracy_ci95"], label=method,
            marker=MARKERS[index % len(MARKERS)], markersize=4, capsize=3, linewidth=1.6,
            color=colours[index % len(colours)],
        )  # fmt: skip
    ticks = sorted(table["labels"].unique())
    axis.set(xscale="log", xlabel="labelled images", title=PROTOCOLS[protocol])
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=60 if crowded(ticks) else 0)
    axis.minorticks_off()
    axis.set_ylabel("test accuracy, %")


def crowded(ticks: Sequence[int]) -> bool:
    """Whether the texts of two ticks on a logarithmic axis would overlap, written side by side."""
    least = (ticks[-1] / ticks[0]) ** SHARE_OF_TICK if len(ticks) > 1 else 1
    return any(after / before < least for before, after in pairwise(ticks))


def write_efficiency(table: pd.DataFrame, path: Path) -> None:
    """Write the label-efficiency curves of all protocols as a PNG; equal tables give equal bytes."""
    protocols = shown(table)
    figure, axes = plt.subplots(
        1,
        len(protocols),
        figsize=(4.5 * len(protocols), 4.4),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, protocol in zip(axes[0], protocols, strict=True):
        curve(axis, table, protocol, PRINTED)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    # Only now, because a limit fixes the other end of the axis too, which all panels share.
    axes[0, 0].set_ylim(top=101)
    for axis in axes[0, 1:]:
        axis.set_ylabel("")
    legend_below(axes[0, 0])
    with whole_file(path) as temporary:
        # NOTE: matplotlib's version is left out of the metadata, so that equal tables give equal bytes.
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)


def efficiency(table: pd.DataFrame, protocol: str) -> str:
    """The label-efficiency curve of one protocol."""
    with panel(height=3.9) as (figure, axis):
        curve(axis, table, protocol, SERIES)
        axis.set_ylim(top=101)
        legend_below(axis)
        alt = f"Test accuracy over the number of labels, {PROTOCOLS[protocol]}, one line for each method"
        return svg(figure, f"efficiency-{protocol}", alt)


def gains(summary: Mapping[str, Any], budgets: Sequence[str], labels: Mapping[str, int]) -> str:
    """The paired gains over the control as a forest plot, one row for each budget and method."""
    methods = [m for m in control_first(summary) if "gain" in summary[m][budgets[0]]]
    order = control_first(summary)
    with panel(4.8, 0.9 + 0.28 * len(budgets) * len(methods)) as (figure, axis):
        names: list[str] = []
        for budget in budgets:
            for method in methods:
                row, figures = len(names), summary[method][budget]
                names.append(f"{labels[budget]:,} · {method}")
                index = order.index(method)
                axis.errorbar(
                    100 * figures["gain"], row, xerr=100 * figures.get("gain_ci95", math.nan), capsize=3,
                    marker=MARKERS[index % len(MARKERS)], color=SERIES[index % len(SERIES)],
                )  # fmt: skip
        axis.axvline(0, color=INK, linewidth=1)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("gain over scratch, points")
        return svg(figure, "gains", "Paired gain over scratch of each method at each budget")


def training(curves: Mapping[str, pd.DataFrame], column: str) -> str:
    """One column of the training curves over the steps, one line for each method that has values in it."""
    title, unit = CURVES[column]
    with panel(4.4, 2.7) as (figure, axis):
        order = control_first(curves)
        for index, method in enumerate(order):
            rows = curves[method].dropna(subset=[column])
            if len(rows):
                values = rows[column] / (rows[column].iloc[0] if column == "loss" else unit)
                axis.plot(
                    rows["step"], values, color=SERIES[index % len(SERIES)], label=method,
                    linestyle=("-", "--", ":")[index // len(SERIES) % 3],
                    marker=MARKERS[index % len(MARKERS)] if len(rows) == 1 else None,
                )  # fmt: skip
        axis.set(title=title, xlabel="step")
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
        alt = f"{title} over the steps of pretraining, one line for each method"
        return svg(figure, f"training-{column}", alt)
