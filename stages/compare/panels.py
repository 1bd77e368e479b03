"""The charts of the report: which ones there are for this evidence."""

from typing import Any

from markupsafe import Markup

from stages.compare import charts, method_charts, ranking_charts
from stages.compare.evidence import Evidence
from stages.compare.inputs import MethodResults


def all_charts(evidence: Evidence) -> dict[str, Any]:
    """Every chart as SVG: those that compare the methods by name, and those of each method."""
    curves = {result.method: result.curve for result in evidence.results}
    drawn: dict[str, Any] = {
        "training": [Markup(charts.training(curves, name)) for name in charts.CURVES],  # noqa: S704
        "efficiency": {},
        "gains": None,
        "methods": {},
    }
    if not evidence.labels:
        return drawn
    for protocol in charts.shown(evidence.efficiency):
        chart = charts.efficiency(evidence.efficiency, protocol)
        drawn["efficiency"][protocol] = Markup(chart)  # noqa: S704
    if any("gain" in budgets[evidence.budgets[0]] for budgets in evidence.summary.values()):
        gains = charts.gains(evidence.summary, evidence.budgets, evidence.labels)
        drawn["gains"] = Markup(gains)  # noqa: S704
    drawn["methods"] = {result.method: of_method(evidence, result) for result in evidence.results}
    return drawn


def of_method(evidence: Evidence, result: MethodResults) -> dict[str, Any]:
    """The charts of one method's strengths and weaknesses."""
    name, labels, classes = result.method, evidence.labels, evidence.classes
    recall = {budget: evidence.details[name][budget]["finetuned"]["recall"] for budget in labels}
    confusions = [
        method_charts.confusion(
            name, b, f"{labels[b]:,} labels", result.confusion[result.confusion["budget"] == b], classes
        )
        for b in labels
    ]
    reliability = result.reliability[result.reliability["budget"].isin(list(labels))]
    feature_map = method_charts.feature_map(name, result.map, result.model["map_variance"], classes)
    ranking = ranking_charts.ranking(name, evidence.rankings.get(name, {}), labels, classes)
    return {
        "ranking": [Markup(chart) for chart in ranking],  # noqa: S704
        "recall": Markup(method_charts.recalls(name, recall, labels, classes)),  # noqa: S704
        "confusion": [Markup(chart) for chart in confusions],  # noqa: S704
        "reliability": Markup(method_charts.reliability(name, reliability, labels)),  # noqa: S704
        "map": Markup(feature_map),  # noqa: S704
    }
