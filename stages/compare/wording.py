"""What the report says in words: the verdict, the error bars, the labels saved, the smallest gains."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from stages.compare import charts, figures, labels_needed, verdict
from stages.compare.evidence import Evidence
from stages.compare.formats import marked
from stages.compare.inputs import MethodResults
from stages.compare.statistics import Design
from stages.tasks import power


def sentences(evidence: Evidence, method: str) -> list[Markup]:
    """The verdict on a method, a paragraph for each budget: what pretraining and distilling bought."""
    summary, labels, design = evidence.summary, evidence.labels, evidence.design
    not_spread = {result.method: not_distilled(result) for result in evidence.results}
    tested = evidence.data.classes["test"].tolist()
    paragraphs = [
        (
            verdict.sentence(summary, method, budget, labels, design, number=marked),
            verdict.recall_sentence(evidence.details, tested, method, budget, design),
            verdict.imported_sentence(summary, method, budget, design, number=marked),
            evidence.simple.sentence(summary[method][budget], method, budget, design, number=marked),
            evidence.simple.public_sentence(summary[method][budget], method, budget, design, number=marked),
            evidence.simple.recall_sentence(evidence.details[method][budget]["finetuned"], tested),
            verdict.pool_sentence(
                summary, method, budget, design, not_spread[method].get(budget, 0), number=marked
            ),
        )
        for budget in evidence.budgets
    ]
    # The only name in it is the method's, the name of a file in stages/pretrain/methods.
    return [Markup(" ".join(filter(None, paragraph))) for paragraph in paragraphs]  # noqa: S704


def doubts(result: MethodResults) -> list[str]:
    """What is doubtful about a method's pretraining: a collapse, and what the stage itself said."""
    collapse = result.pretrain["collapse"]
    first = [f"the features collapsed at {collapse}"] if collapse else []
    return first + list(result.pretrain.get("doubts", []))


def caution(evidence: Evidence, result: MethodResults) -> str:
    """Why a missing gain may come from the setting and not from the data; "" where nothing hints at it."""
    rows = evidence.summary[result.method].values()
    gained = all(figures.measurable(row) and row["gain"] > 0 for row in rows if "gain" in row)
    reasons = "; ".join(doubts(result))
    if gained or not reasons:
        return ""
    return f"A missing gain may come from the setting, not from the data. Pretraining is doubtful: {reasons}."


def smallest_gains(evidence: Evidence) -> dict[str, float]:
    """Budget → the smallest gain that this test split was expected to show, a fraction."""
    units, classes = evidence.design.units, max(1, len(evidence.classes))
    return {
        budget: power.smallest_gain(units, labels / classes) for budget, labels in evidence.labels.items()
    }


def labels_for_same(evidence: Evidence) -> dict[str, dict[str, str]]:
    """Method → budget → labels that the control needs for the same accuracy, where the gain is measurable."""
    bounds = {"": "about ", "more": "more than ", "fewer": "fewer than "}
    table: dict[str, dict[str, str]] = {}
    for result in evidence.results:
        for budget in evidence.budgets:
            needed = labels_needed.labels_for_same(evidence.summary, result.method, budget, evidence.labels)
            if needed is not None:
                text = f"{bounds[needed.bound]}{needed.labels:,}"
                table.setdefault(result.method, {})[budget] = text
    return table


def not_distilled(result: MethodResults) -> dict[str, int]:
    """Budget → how many of its draws distilling left as they were, because the pool does not help."""
    rejected = {name for name, found in result.distil["confirmation"].items() if not found["holds"]}
    draws = result.distil["draws"]
    return dict(Counter(row["budget"] for row in draws if not row["spread"] or row["budget"] in rejected))


def error_bars(evidence: Evidence) -> dict[str, Any]:
    """The error bars in words: of `efficiency` by protocol, of `gains`, and of `recall` by method."""
    if not evidence.labels:
        return {}
    table = evidence.efficiency
    of_protocol = {name: table[table["protocol"] == name]["accuracy_ci95"] for name in charts.shown(table)}
    rows = [row for budgets in evidence.summary.values() for row in budgets.values() if "gain" in row]

    def of_recall(method: str) -> str:
        recalls = [
            recall for budget in evidence.budgets
            for recall in evidence.details[method][budget]["finetuned"]["recall"] if recall is not None
        ]  # fmt: skip
        halves = [recall.get("ci95", math.nan) for recall in recalls]
        few = f"a class that counts as fewer than {power.FEWEST_UNITS} test images has none"
        rare = (evidence.data.classes["test"] < power.FEWEST_UNITS).any()
        grouped = evidence.design.units < evidence.design.images  # so that a class may count as fewer
        return describe(halves, evidence.design, few if rare or grouped else "")

    return {
        "efficiency": {name: describe(halves, evidence.design) for name, halves in of_protocol.items()},
        "gains": describe((row.get("gain_ci95", math.nan) for row in rows), evidence.design),
        "recall": {result.method: of_recall(result.method) for result in evidence.results},
    }


def describe(half_widths: Iterable[float], over: Design, other: str = "") -> str:
    """What the error bars of these half-widths are (NaN: none), and why some are missing.

    other: a reason beside that of the design.
    """
    missing = [math.isnan(half) for half in half_widths]
    if all(missing):
        return f"No error bars: {over.why_no_interval()}."
    reason = "".join(f"; {why}" for why in (over.why_no_interval(), other) if why and any(missing))
    return f"Error bars: 95 % intervals over {over.draws} draws and the test images{reason}."
