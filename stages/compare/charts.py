"""The charts of the report, each an SVG that can be read on a phone."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from stages.compare.figures import control_first
from stages.compare.svg import INK, MARKERS, PAPER, PRINTED, SERIES, panel, svg
from stages.files.whole import whole_file
from stages.settings.values import BASELINE

PROTOCOLS = {
    "finetuned": "finetuned",
    "distilled": "distilled: the pool's images used too",
    "linear": "linear probe on the frozen encoder",
}
CURVES = {  # column of the training curves: title and unit
    "knn": ("online kNN accuracy on validation, %", 0.01),
    "rankme": ("effective rank of the features (RankMe)", 1),
    "feature_std": ("spread of the features (standard deviation)", 1),
    "loss": ("loss relative to each method's first value", 1),
}
STYLES = ("-", "--", ":", "-.")  # of the simple baselines
FEW_CLASSES = 15  # with more classes a cell of a confusion matrix has no room for a number
SMALLEST_SHARE = 0.0005  # smaller shares are too pale to see


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
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.set_ylim(top=101)
    axis.set_ylabel("test accuracy, %")


def write_efficiency(table: pd.DataFrame, path: Path) -> None:
    """Write the label-efficiency curves of all protocols as a PNG; equal tables give equal bytes."""
    protocols = shown(table)
    figure, axes = plt.subplots(
        1,
        len(protocols),
        figsize=(4.5 * len(protocols), 3.8),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, protocol in zip(axes[0], protocols, strict=True):
        curve(axis, table, protocol, PRINTED)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[0, 1:]:
        axis.set_ylabel("")
    if len(table):
        axes[0, 0].legend(frameon=False)
    with whole_file(path) as temporary:
        # NOTE: matplotlib's version is left out of the metadata, so that equal tables give equal bytes.
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)


def efficiency(table: pd.DataFrame, protocol: str) -> str:
    """The label-efficiency curve of one protocol."""
    with panel() as (figure, axis):
        curve(axis, table, protocol, SERIES)
        axis.legend()
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


def confusion(method: str, budget: str, title: str, rows: pd.DataFrame, classes: Sequence[str]) -> str:
    """A confusion matrix in shares of each actual class.

    The colour is the square root of the share, so that small shares can be seen.
    """
    number = {name: index for index, name in enumerate(classes)}
    shares = np.zeros((len(classes), len(classes)))
    shares[rows["actual"].map(number), rows["predicted"].map(number)] = rows["share"]
    side = 3.4 if len(classes) <= FEW_CLASSES else 4.6
    with panel(side + 0.5, side) as (figure, axis):
        few = len(classes) <= FEW_CLASSES
        if not few:  # one bitmap is smaller than thousands of rectangles
            blue = np.broadcast_to(to_rgb(PRINTED[1]), (*shares.shape, 3))
            axis.imshow(np.dstack([blue, shares**0.5]), interpolation="nearest")
        for actual, predicted in zip(*np.nonzero(shares >= SMALLEST_SHARE), strict=True) if few else ():
            share, corner = shares[actual, predicted], (predicted - 0.5, actual - 0.5)
            axis.add_patch(Rectangle(corner, 1, 1, color=SERIES[1], alpha=round(share**0.5, 3), linewidth=0))
            if round(100 * share) >= 1:
                shade = PAPER if share > 0.5 else INK
                text = f"{100 * share:.0f}"
                axis.text(predicted, actual, text, color=shade, size=7, ha="center", va="center")
        axis.set(title=title, xlabel="predicted class", ylabel="actual class", aspect="equal")
        axis.set_xlim(-0.5, len(classes) - 0.5)
        axis.set_ylim(len(classes) - 0.5, -0.5)
        size = 8 if few else 5
        axis.set_xticks(
            range(len(classes)), classes, rotation=90 if max(map(len, classes)) > 2 else 0, size=size
        )
        axis.set_yticks(range(len(classes)), classes, size=size)
        axis.grid(visible=False)
        if not few:  # the ticks would take a third of the report's size
            axis.tick_params(length=0)
        alt = f"Confusion matrix of {method}, {title}, in percent"
        return svg(figure, f"confusion-{method}-{budget}", alt)


def recalls(
    method: str, of_budget: Mapping[str, list[Any]], labels: Mapping[str, int], classes: Sequence[str]
) -> str:
    """Recall of each class with its interval at each budget; a class without test images has no point."""
    with panel(4.8, 0.9 + 0.2 * len(classes)) as (figure, axis):
        for index, (budget, of_class) in enumerate(of_budget.items()):
            points = [(row, recall) for row, recall in enumerate(of_class) if recall is not None]
            shift = 0.22 * (index - (len(of_budget) - 1) / 2)
            axis.errorbar(
                [100 * recall["mean"] for _, recall in points], [row + shift for row, _ in points],
                xerr=[100 * recall.get("ci95", math.nan) for _, recall in points],
                linestyle="none", capsize=2, markersize=4, marker=MARKERS[index % len(MARKERS)],
                color=SERIES[index % len(SERIES)], label=f"{labels[budget]:,} labels",
            )  # fmt: skip
        axis.set(xlabel="recall, %", title="recall of each class")
        axis.set_xlim(max(axis.get_xlim()[0], -2), 102)
        axis.set_yticks(range(len(classes)), classes)
        axis.set_ylim(len(classes) - 0.5, -0.5)
        axis.legend()
        return svg(figure, f"recall-{method}", f"Recall of each class by {method} at each budget")


def reliability(method: str, rows: pd.DataFrame, labels: Mapping[str, int]) -> str:
    """A reliability diagram: accuracy over confidence; a larger point stands for more predictions."""
    with panel(3.8, 3.4) as (figure, axis):
        axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle="--")
        for index, budget in enumerate(rows["budget"].unique()):
            bins = rows[rows["budget"] == budget]
            confidence, accuracy = 100 * bins["confidence"], 100 * bins["accuracy"]
            colour = SERIES[index % len(SERIES)]
            axis.plot(confidence, accuracy, color=colour, linewidth=1)
            axis.scatter(
                confidence, accuracy, 4 + 120 * bins["share"], color=colour,
                marker=MARKERS[index % len(MARKERS)], label=f"{labels[budget]:,} labels",
            )  # fmt: skip
        axis.set(
            title="reliability", xlabel="confidence, %", ylabel="accuracy, %", xlim=(0, 101), ylim=(0, 101)
        )
        for handle in axis.legend().legend_handles:
            handle.set_sizes([24])  # type: ignore[union-attr]
        alt = f"Accuracy of {method} over its confidence; on the diagonal they are equal"
        return svg(figure, f"reliability-{method}", alt)


def feature_map(method: str, points: pd.DataFrame, explained: Sequence[float], classes: Sequence[str]) -> str:
    """Test images by the first two principal components of their features, with the name of each class."""
    with panel(5.2, 4.2) as (figure, axis):
        for index, name in enumerate(classes):
            rows = points[points["class"] == name]
            if not len(rows):
                continue
            axis.plot(
                rows["x"], rows["y"], linestyle="none", marker=MARKERS[index % len(MARKERS)], markersize=3,
                color=SERIES[index % len(SERIES)], alpha=0.6, markeredgewidth=0, label=name,
            )  # fmt: skip
            x, y = rows["x"].median(), rows["y"].median()
            axis.text(x, y, name, color=INK, weight="bold", ha="center", va="center")
        share = [f"{100 * value:.0f} %" for value in [*explained, 0, 0][:2]]
        axis.set(
            title="test images by their frozen features",
            xlabel=f"first principal component, {share[0]} of the variance",
            ylabel=f"second, {share[1]}",
        )
        if len(classes) <= FEW_CLASSES:
            # NOTE: without explicit names, matplotlib skips those that begin with an underscore.
            names = [name for name in classes if (points["class"] == name).any()]
            axis.legend(axis.lines, names, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.6)
        return svg(figure, f"map-{method}", f"Principal components of {method}'s frozen features")
