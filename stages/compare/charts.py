"""The report's charts, each a panel of its own that is readable at a phone's width."""

import math
from collections.abc import Mapping, Sequence
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

PROTOCOLS = {"finetuned": "finetuned", "linear": "linear probe on the frozen encoder"}
CURVES = {  # columns of the training curves: what they are, and in which unit they are shown
    "knn": ("online kNN accuracy on validation, %", 0.01),
    "rankme": ("effective rank of the features (RankMe)", 1),
    "feature_std": ("spread of the features (standard deviation)", 1),
    "loss": ("loss, as a share of each method's first", 1),
}
FEW_CLASSES = 15  # of more no cell of a confusion matrix has room for its number
SMALLEST = 0.0005  # a share that would be no colour any more


def curve(axis: Axes, table: pd.DataFrame, protocol: str, colours: Sequence[str]) -> None:
    """Accuracy over labels with intervals, a line for each method."""
    for index, method in enumerate(control_first(table["method"].unique())):
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
    """Both label-efficiency curves as a PNG for the README; equal tables give equal bytes."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for axis, protocol in zip(axes, PROTOCOLS, strict=True):
        curve(axis, table, protocol, PRINTED)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_ylabel("")
    if len(table):
        axes[0].legend(frameon=False)
    with whole_file(path) as temporary:
        # NOTE: without the version in the metadata, equal figures give equal bytes.
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)


def efficiency(table: pd.DataFrame, protocol: str) -> str:
    """The label-efficiency curve of one protocol."""
    with panel() as (figure, axis):
        curve(axis, table, protocol, SERIES)
        axis.legend()
        alt = f"Test accuracy over the number of labels, {PROTOCOLS[protocol]}, a line for each method"
        return svg(figure, f"efficiency-{protocol}", alt)


def gains(summary: Mapping[str, Any], budgets: Sequence[str], labels: Mapping[str, int]) -> str:
    """The paired gains over scratch as a forest plot: a row for each budget and method."""
    methods = [m for m in control_first(summary) if "gain" in summary[m][budgets[0]]]
    order = control_first(summary)
    with panel(4.8, 0.9 + 0.28 * len(budgets) * len(methods)) as (figure, axis):
        names: list[str] = []
        for budget in budgets:
            for method in methods:
                row, found = len(names), summary[method][budget]
                names.append(f"{labels[budget]:,} · {method}")
                index = order.index(method)
                axis.errorbar(
                    100 * found["gain"], row, xerr=100 * found.get("gain_ci95", math.nan), capsize=3,
                    marker=MARKERS[index % len(MARKERS)], color=SERIES[index % len(SERIES)],
                )  # fmt: skip
        axis.axvline(0, color=INK, linewidth=1)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        known = any("gain_ci95" in summary[method][budgets[0]] for method in methods)
        axis.set_xlabel(f"gain over scratch, points ({'95 % interval' if known else 'one draw'})")
        return svg(
            figure, "gains", "Paired gain over scratch of each method at each budget, with its interval"
        )


def training(curves: Mapping[str, pd.DataFrame], column: str) -> str:
    """One column of the training curves over the steps, a line for each method that has it."""
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
        return svg(
            figure, f"training-{column}", f"{title} over the steps of pretraining, a line for each method"
        )


def confusion(method: str, budget: str, title: str, rows: pd.DataFrame, classes: Sequence[str]) -> str:
    """The share of each actual class that was predicted as what; small shares are made visible by a root."""
    number = {name: index for index, name in enumerate(classes)}
    shares = np.zeros((len(classes), len(classes)))
    shares[rows["actual"].map(number), rows["predicted"].map(number)] = rows["share"]
    side = 3.4 if len(classes) <= FEW_CLASSES else 4.6
    with panel(side + 0.5, side) as (figure, axis):
        few = len(classes) <= FEW_CLASSES
        if not few:  # as pixels, which are smaller than so many rectangles
            blue = np.broadcast_to(to_rgb(PRINTED[1]), (*shares.shape, 3))
            axis.imshow(np.dstack([blue, shares**0.5]), interpolation="nearest")
        for actual, predicted in zip(*np.nonzero(shares >= SMALLEST), strict=True) if few else ():
            share, corner = shares[actual, predicted], (predicted - 0.5, actual - 0.5)
            axis.add_patch(Rectangle(corner, 1, 1, color=SERIES[1], alpha=round(share**0.5, 3), linewidth=0))
            if round(100 * share) >= 1:
                shade = PAPER if share > 0.5 else INK
                said = f"{100 * share:.0f}"
                axis.text(predicted, actual, said, color=shade, size=7, ha="center", va="center")
        axis.set(title=title, xlabel="predicted class", ylabel="actual class", aspect="equal")
        axis.set_xlim(-0.5, len(classes) - 0.5)
        axis.set_ylim(len(classes) - 0.5, -0.5)
        size = 8 if few else 5
        axis.set_xticks(
            range(len(classes)), classes, rotation=90 if max(map(len, classes)) > 2 else 0, size=size
        )
        axis.set_yticks(range(len(classes)), classes, size=size)
        axis.grid(visible=False)
        if not few:  # so many marks would be a third of the report
            axis.tick_params(length=0)
        return svg(
            figure, f"confusion-{method}-{budget}", f"Confusion matrix of {method}, {title}, in percent"
        )


def recalls(
    method: str, of_budget: Mapping[str, list[Any]], labels: Mapping[str, int], classes: Sequence[str]
) -> str:
    """Each class's recall with its interval, at every budget; a class without test images has none."""
    with panel(4.8, 0.9 + 0.2 * len(classes)) as (figure, axis):
        for index, (budget, found) in enumerate(of_budget.items()):
            there = [(row, one) for row, one in enumerate(found) if one is not None]
            shift = 0.22 * (index - (len(of_budget) - 1) / 2)
            axis.errorbar(
                [100 * one["mean"] for _, one in there], [row + shift for row, _ in there],
                xerr=[100 * one.get("ci95", math.nan) for _, one in there], linestyle="none", capsize=2,
                markersize=4, marker=MARKERS[index % len(MARKERS)], color=SERIES[index % len(SERIES)],
                label=f"{labels[budget]:,} labels",
            )  # fmt: skip
        axis.set(xlabel="recall, %", title="recall of each class")
        axis.set_xlim(max(axis.get_xlim()[0], -2), 102)
        axis.set_yticks(range(len(classes)), classes)
        axis.set_ylim(len(classes) - 0.5, -0.5)
        axis.legend()
        return svg(
            figure, f"recall-{method}", f"Recall of each class by {method}, with intervals, at each budget"
        )


def reliability(method: str, rows: pd.DataFrame, labels: Mapping[str, int]) -> str:
    """How often the models are right by how sure they are; a point is larger where more are so sure."""
    with panel(3.8, 3.4) as (figure, axis):
        axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle="--")
        for index, budget in enumerate(rows["budget"].unique()):
            bins = rows[rows["budget"] == budget]
            sure, right, colour = (
                100 * bins["confidence"],
                100 * bins["accuracy"],
                SERIES[index % len(SERIES)],
            )
            axis.plot(sure, right, color=colour, linewidth=1)
            axis.scatter(  # as large as the share of the predictions that are so sure
                sure, right, 4 + 120 * bins["share"], color=colour, marker=MARKERS[index % len(MARKERS)],
                label=f"{labels[budget]:,} labels",
            )  # fmt: skip
        axis.set(
            title="reliability", xlabel="confidence, %", ylabel="accuracy, %", xlim=(0, 101), ylim=(0, 101)
        )
        for handle in axis.legend().legend_handles:
            handle.set_sizes([24])  # type: ignore[union-attr]
        return svg(
            figure, f"reliability-{method}", f"Accuracy over confidence of {method}; the diagonal is honest"
        )


def feature_map(method: str, points: pd.DataFrame, explained: Sequence[float], classes: Sequence[str]) -> str:
    """Test images in the plane of the features' principal components; classes differ by colour and shape."""
    with panel(5.2, 4.2) as (figure, axis):
        for index, name in enumerate(classes):
            rows = points[points["class"] == name]
            if not len(rows):
                continue
            colour = SERIES[index % len(SERIES)]
            shape = MARKERS[index % len(MARKERS)]
            axis.plot(
                rows["x"], rows["y"], linestyle="none", marker=shape, markersize=3, color=colour, alpha=0.6,
                markeredgewidth=0, label=name,
            )  # fmt: skip
            axis.text(
                rows["x"].median(),
                rows["y"].median(),
                name,
                color=INK,
                weight="bold",
                ha="center",
                va="center",
            )
        share = [f"{100 * value:.0f} %" for value in [*explained, 0, 0][:2]]
        axis.set(
            title="test images by the frozen features",
            xlabel=f"first principal component, {share[0]} of the variance",
            ylabel=f"second, {share[1]}",
        )
        if len(classes) <= FEW_CLASSES:
            # NOTE: given by hand, for matplotlib passes over names that begin with an underscore.
            there = [name for name in classes if (points["class"] == name).any()]
            axis.legend(axis.lines, there, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.6)
        return svg(figure, f"map-{method}", f"Map of the test images by {method}'s frozen features, by class")
