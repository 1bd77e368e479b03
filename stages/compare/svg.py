"""Charts as SVG that take their colours from the page's style sheet: light and dark, screen and print."""

import io
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.compare.names import FONT, HEXAGRAMS

# Placeholders: each of these colours becomes a variable of the page's style sheet. Nothing else has them.
INK, GRID, PAPER = "#010203", "#010204", "#010205"
SERIES = tuple(f"#0102{number:02x}" for number in range(0x10, 0x18))
VARIABLES = {INK: "--ink", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES)
}
# The colours of Okabe and Ito, which colour-blind people can tell apart; the control is grey.
PRINTED = ("#555555", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = "osD^vPX<>*"
STAND_IN = re.compile(f"[{HEXAGRAMS[0]}-{HEXAGRAMS[-1]}]+")
TAG = re.compile("<[^<>]*>")  # text between tags is left as it is, because a class may have any name
STYLE: Any = {  # Any, because matplotlib's type lists several hundred keys
    "svg.fonttype": "none", "text.parse_math": False,
    "font.family": FONT, "font.size": 9, "axes.titlesize": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8,
    "axes.axisbelow": True, "axes.edgecolor": INK, "axes.labelcolor": INK, "axes.titlecolor": INK,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.facecolor": "none",
    "figure.facecolor": "none", "legend.frameon": False, "savefig.facecolor": "none",
}  # fmt: skip


@contextmanager
def panel(width: float = 4.4, height: float = 3.2) -> Iterator[tuple[Figure, Axes]]:
    """One empty chart in the style of the page; it is closed afterwards. Width and height are in inches."""
    with matplotlib.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
        try:
            yield figure, axis
        finally:
            plt.close(figure)


def legend_below(axis: Axes) -> None:
    """Put the legend of a chart below it, where it covers nothing however many names it has."""
    lines, names = axis.get_legend_handles_labels()
    if lines:
        axis.figure.legend(lines, names, loc="outside lower center", ncols=3, frameon=False, columnspacing=1)


def svg(figure: Figure, name: str, alt: str, written: Mapping[str, str] | None = None) -> str:
    """The figure as an SVG element; equal figures with the same name give equal text.

    Args:
        figure: the figure.
        name: unique on the page; it becomes part of the identifiers in the SVG.
        alt: the description for screen readers.
        written: text in the figure → what the page shows in its place, as `names.drawn` gives it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        arrange(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r">\s+<", "><", text)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", "".join(TAG.findall(text))))
    text = TAG.sub(lambda tag: _cleaned(tag[0], name, used), text)
    names = written or {}
    text = STAND_IN.sub(lambda match: escape(names.get(match[0], match[0]), quote=False), text)
    head = f'<svg role="img" aria-label="{escape(alt)}" '
    return text.replace("<svg ", head, 1).strip()


def arrange(figure: Figure) -> None:
    """Compute the layout once; with a layout engine, `savefig` would draw twice and compute it both times."""
    if engine := figure.get_layout_engine():
        figure.set_dpi(72)  # in which savefig writes SVG
        engine.execute(figure)
        figure.set_layout_engine("none")


def _cleaned(tag: str, name: str, used: Collection[str]) -> str:
    """One tag with the fonts and colours of the page, and shorter coordinates.

    Args:
        tag: the text of the tag.
        name: of the chart, the prefix of its identifiers.
        used: the identifiers that are referred to; others are removed.
    """
    tag = re.sub(r"font: ([\d. ]*?)([\d.]+px) [^;\"]*", r"font: \1\2 system-ui, sans-serif", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)
    tag = re.sub(r"(\.\d\d)\d+", r"\1", tag)  # hundredths of a point are fine enough
    tag = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", tag)
    tag = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", tag)
    for colour, variable in VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag
