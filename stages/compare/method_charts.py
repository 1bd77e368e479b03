"""The charts of one method's strengths and weaknesses, each an SVG that can be read on a phone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from stages.compare.formats import counted
from stages.compare.names import drawn
from stages.compare.svg import INK, MARKERS, PAPER, PRINTED, SERIES, arrange, legend_below, panel, svg

FEW_CLASSES = 15  # with more classes a cell of a confusion matrix has no room for numbers
NAMED_CLASSES = 40  # with more classes there is no room for the names beside the matrix
WEAKEST = 40  # of more classes, those with the lowest recall are drawn
SMALLEST_SHARE = 0.0005  # smaller shares are too pale to see


def confusion(method: str, budget: str, title: str, rows: pd.DataFrame, classes: Sequence[str]) -> str:
    """A confusion matrix: the images of each pair of classes, and their share of the actual class.

    The colour is the square root of the share, so that small shares can be seen. Cells of
    many classes have only a colour.

    Args:
        rows: columns actual, predicted, images and share, of one budget.
    """
    number, names = {name: index for index, name in enumerate(classes)}, drawn(classes)
    shares, images = np.zeros((2, len(classes), len(classes)))
    cells = rows["actual"].map(number), rows["predicted"].map(number)
    shares[cells], images[cells] = rows["share"], rows["images"]
    few = len(classes) <= FEW_CLASSES
    named = max(map(len, names.texts)) if len(classes) <= NAMED_CLASSES else 4
    side = max(2.2, 0.36 * len(classes)) + 0.08 * named if few else 4 + 0.05 * named
    with panel(side + 1, side + 0.7) as (figure, axis):
        if few:
            for cell in zip(*np.nonzero(shares >= SMALLEST_SHARE), strict=True):
                share, (actual, predicted) = shares[cell], cell
                corner, shade = (predicted - 0.5, actual - 0.5), PAPER if share > 0.5 else INK
                alpha = round(share**0.5, 3)
                inside = Rectangle(corner, 1, 1, color=SERIES[1], alpha=alpha, linewidth=0, in_layout=False)
                axis.add_patch(inside)
                scale = 1.5 if len(classes) <= 5 else 1
                for text, up, size in ((counted(images[cell]), 2.5, 7), (f"{share:.0%}", -5, 5)):
                    axis.annotate(
                        text, (predicted, actual), (0, scale * up), textcoords="offset points",
                        color=shade, size=scale * size, ha="center", va="center", in_layout=False,
                    )  # fmt: skip
        else:  # one bitmap is smaller than thousands of rectangles
            blue = np.broadcast_to(to_rgb(PRINTED[1]), (*shares.shape, 3))
            axis.imshow(np.dstack([blue, shares**0.5]), interpolation="nearest")
        axis.set(title=title, xlabel="predicted class", ylabel="actual class", aspect="equal")
        axis.set_xlim(-0.5, len(classes) - 0.5)
        axis.set_ylim(len(classes) - 0.5, -0.5)
        if len(classes) <= NAMED_CLASSES:
            size = 8 if few else 5
            axis.set_xticks(range(len(classes)), names.texts, rotation=90 if named > 2 else 0, size=size)
            axis.set_yticks(range(len(classes)), names.texts, size=size)
        axis.grid(visible=False)
        if not few:  # the ticks would take a third of the report's size
            axis.tick_params(length=0)
        alt = f"Confusion matrix of {method}, {title}, in images and percent"
        return svg(figure, f"confusion-{method}-{budget}", alt, names.written)


def recalls(
    method: str, of_budget: Mapping[str, list[Any]], labels: Mapping[str, int], classes: Sequence[str]
) -> str:
    """Recall of each class with its interval at each budget; a class without test images has no point.

    Of many classes, the WEAKEST by the last budget are drawn.
    """
    last = [math.inf if recall is None else recall["mean"] for recall in list(of_budget.values())[-1]]
    chosen = sorted(sorted(range(len(classes)), key=lambda label: last[label])[:WEAKEST])
    names = drawn([classes[label] for label in chosen])
    with panel(4.8, 0.9 + 0.2 * len(chosen)) as (figure, axis):
        for index, (budget, of_class) in enumerate(of_budget.items()):
            of_chosen = [(row, of_class[label]) for row, label in enumerate(chosen)]
            points = [(row, recall) for row, recall in of_chosen if recall is not None]
            shift = 0.22 * (index - (len(of_budget) - 1) / 2)
            axis.errorbar(
                [100 * recall["mean"] for _, recall in points], [row + shift for row, _ in points],
                xerr=[100 * recall.get("ci95", math.nan) for _, recall in points],
                linestyle="none", capsize=2, markersize=4, marker=MARKERS[index % len(MARKERS)],
                color=SERIES[index % len(SERIES)], label=f"{labels[budget]:,} labels",
            )  # fmt: skip
        title = "recall of each class"
        if len(chosen) < len(classes):
            title = f"recall of the {WEAKEST} weakest of {len(classes):,} classes"
        axis.set(xlabel="recall, %", title=title)
        axis.set_xlim(max(axis.get_xlim()[0], -2), 102)
        axis.set_yticks(range(len(chosen)), names.texts)
        axis.set_ylim(len(chosen) - 0.5, -0.5)
        legend_below(axis)
        alt = f"Recall of each class by {method} at each budget"
        return svg(figure, f"recall-{method}", alt, names.written)


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
    """Test images by the first two principal components of their features, with the name of each class.

    The name of a class that would cover another one's is left out; of few classes the legend has all names.
    """
    names = drawn(classes)
    with panel(5.2, 4.2) as (figure, axis):
        centres: list[Text] = []
        counts = points["class"].value_counts()
        for index, name in enumerate(classes):
            rows = points[points["class"] == name]
            if not len(rows):
                continue
            axis.plot(
                rows["x"], rows["y"], linestyle="none", marker=MARKERS[index % len(MARKERS)], markersize=3,
                color=SERIES[index % len(SERIES)], alpha=0.6, markeredgewidth=0, label=names.texts[index],
            )  # fmt: skip
            centre, text = (rows["x"].median(), rows["y"].median()), names.texts[index]
            centres.append(axis.text(*centre, text, color=INK, ha="center", va="center", zorder=counts[name]))
        share = [f"{100 * value:.0f} %" for value in [*explained, 0, 0][:2]]
        axis.set(
            title="test images by their frozen features",
            xlabel=f"first principal component, {share[0]} of the variance",
            ylabel=f"second, {share[1]}",
        )
        if len(classes) <= FEW_CLASSES:
            # NOTE: without explicit names, matplotlib skips those that begin with an underscore.
            shown = [str(line.get_label()) for line in axis.lines]
            axis.legend(axis.lines, shown, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.6)
        hide_covered(figure, centres)
        alt = f"Principal components of {method}'s frozen features"
        return svg(figure, f"map-{method}", alt, names.written)


def hide_covered(figure: Figure, texts: Sequence[Text]) -> None:
    """Hide each text that overlaps another one with a higher `zorder`."""
    arrange(figure)
    shown: list[Any] = []
    for text in sorted(texts, key=lambda text: -text.get_zorder()):
        box = text.get_window_extent()
        text.set_visible(not any(box.overlaps(other) for other in shown))
        shown += [box] if text.get_visible() else []
