"""The report: one HTML file that is made only from what the stages wrote.

It loads nothing from the network, and equal inputs give equal bytes. Every figure of `metrics/summary.json`
is marked with its key, so that a program can compare the two.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.compare import charts, verdict
from stages.compare.choices import choices
from stages.compare.figures import control_first, design
from stages.compare.formats import count, image, marked, percent
from stages.compare.inputs import DataSummary, MethodResults, read_method
from stages.compare.statistics import Design
from stages.files.whole import whole_file
from stages.settings.values import CONTROL
from stages.tasks import power

LISTED = 50  # of the files that were left out, this many are listed
SOURCES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


@dataclass(frozen=True)
class Evidence:
    """Everything that the report shows.

    Attributes:
        summary, details: the content of the files of these names.
        efficiency: the table of label_efficiency.csv.
        labels: budget → number of labelled images, ascending.
        design: what each mean is over.
        data: what prepare wrote.
        results: each method's results, the control first.
    """

    summary: Mapping[str, Any]
    details: Mapping[str, Any]
    efficiency: pd.DataFrame
    labels: Mapping[str, int]
    design: Design
    data: DataSummary
    results: Sequence[MethodResults]

    @property
    def budgets(self) -> list[str]:
        """Names of the budgets, the one with the fewest labels first."""
        return list(self.labels)

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.data.class_names


def collect(
    summary: Mapping[str, Any], details: Mapping[str, Any], efficiency: pd.DataFrame,
    labels: Mapping[str, int], data: DataSummary,
) -> Evidence:  # fmt: skip
    """The evidence from these figures and from each method's results, which are read from the folder metrics.

    Raises:
        InputError: a file is damaged, or lacks a column.
    """
    ascending = dict(sorted(labels.items(), key=lambda item: item[1]))
    results = [read_method(method) for method in control_first(summary)]
    return Evidence(summary, details, efficiency, ascending, design(efficiency, data.counts), data, results)


def write(path: Path, evidence: Evidence) -> None:
    """Write the report."""
    text = render(evidence)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(evidence: Evidence) -> str:
    """The report as HTML."""
    # NOTE: StrictUndefined raises for a missing value, which would otherwise leave a gap in the page.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": percent, "count": count, "image": image}
    enough = evidence.data.counts["validation_labelled"] >= power.ENOUGH_VALIDATION
    accuracies = {r.method: r.pretrain["knn"] if enough else None for r in evidence.results}
    best = verdict.headline(accuracies)
    pretrained = [accuracy for method, accuracy in accuracies.items() if method != CONTROL]
    others = [method for method in accuracies if method not in (best, CONTROL)]
    return environment.get_template("report.html.j2").render(
        evidence=evidence,
        control=CONTROL,
        best=best,
        chosen_on_validation=sum(accuracy is not None for accuracy in pretrained) > 1,
        sentences=sentences(evidence, best),
        other_sentences={method: sentences(evidence, method) for method in others},
        marked=marked,
        charts=all_charts(evidence),
        error_bars=error_bars(evidence),
        distilled=any("distilled" in row for of in evidence.summary.values() for row in of.values()),
        kept={result.method: kept(result) for result in evidence.results},
        no_interval=evidence.design.why_no_interval() if evidence.design.draws else "",
        labels_for_same=labels_for_same(evidence),
        choices=choices(evidence.results, evidence.summary, evidence.budgets),
        data=data_card(evidence.data),
        smallest_gains=smallest_gains(evidence),
        enough_test=power.ENOUGH_TEST,
        provenance=[provenance(result) for result in evidence.results],
    )


def sentences(evidence: Evidence, method: str) -> list[Markup]:
    """The verdict on a method, a paragraph for each budget: what pretraining bought, and the pool beside."""
    summary, labels, design = evidence.summary, evidence.labels, evidence.design
    not_spread = {result.method: kept(result) for result in evidence.results}
    paragraphs = [
        (
            verdict.sentence(summary, method, budget, labels, design, number=marked),
            verdict.imported_sentence(summary, method, budget, design, number=marked),
            verdict.pool_sentence(
                summary, method, budget, design, not_spread[method].get(budget, 0), number=marked
            ),
        )
        for budget in evidence.budgets
    ]
    # The only name in it is the method's, the name of a file in stages/pretrain/methods.
    return [Markup(" ".join(filter(None, paragraph))) for paragraph in paragraphs]  # noqa: S704


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
            needed = verdict.labels_for_same(evidence.summary, result.method, budget, evidence.labels)
            if needed is not None:
                text = f"{bounds[needed.bound]}{needed.labels:,}"
                table.setdefault(result.method, {})[budget] = text
    return table


def kept(result: MethodResults) -> dict[str, int]:
    """Budget → how many of its draws distilling left as they were, because it found no help in the pool."""
    draws = Counter(draw["budget"] for draw in result.distil["draws"] if not draw["spread"])
    return dict(draws)


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
        return describe((recall.get("ci95", math.nan) for recall in recalls), evidence.design)

    return {
        "efficiency": {name: describe(halves, evidence.design) for name, halves in of_protocol.items()},
        "gains": describe((row.get("gain_ci95", math.nan) for row in rows), evidence.design),
        "recall": {result.method: of_recall(result.method) for result in evidence.results},
    }


def describe(half_widths: Iterable[float], over: Design) -> str:
    """What the error bars of these half-widths are (NaN: none), and why some are missing."""
    missing = [math.isnan(half) for half in half_widths]
    if all(missing):
        return f"No error bars: {over.why_no_interval()}."
    reason = f"; {over.why_no_interval()}" if any(missing) else ""
    return f"Error bars: 95 % intervals over {over.draws} draws and the test images{reason}."


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
    drawn["methods"] = {result.method: method_charts(evidence, result) for result in evidence.results}
    return drawn


def method_charts(evidence: Evidence, result: MethodResults) -> dict[str, Any]:
    """The charts of one method's strengths and weaknesses."""
    name, labels, classes = result.method, evidence.labels, evidence.classes
    recall = {budget: evidence.details[name][budget]["finetuned"]["recall"] for budget in labels}
    confusions = [
        charts.confusion(
            name, b, f"{labels[b]:,} labels", result.confusion[result.confusion["budget"] == b], classes
        )
        for b in labels
    ]
    reliability = result.reliability[result.reliability["budget"].isin(list(labels))]
    feature_map = charts.feature_map(name, result.map, result.model["map_variance"], classes)
    return {
        "recall": Markup(charts.recalls(name, recall, labels, classes)),  # noqa: S704
        "confusion": [Markup(chart) for chart in confusions],  # noqa: S704
        "reliability": Markup(charts.reliability(name, reliability, labels)),  # noqa: S704
        "map": Markup(feature_map),  # noqa: S704
    }


def data_card(data: DataSummary) -> dict[str, Any]:
    """What the report shows about the data."""
    source = data.made_from["parameters"]["data"]["source"]
    return {
        "source": SOURCES.get(source, source),
        "counts": {name.replace("_", " "): n for name, n in data.counts.items() if isinstance(n, int)},
        "classes": data.classes.to_dict("records"),
        "left_out": data.left_out.head(LISTED).to_dict("records"),
        "more_left_out": max(0, len(data.left_out) - LISTED),
        "samples": data.samples,
        "made_from": data.made_from,
    }


def provenance(result: MethodResults) -> dict[str, Any]:
    """What a method's results were made from, and on which machine, stage by stage."""
    stages = {
        "pretrain": result.pretrain, "finetune": result.finetune, "distil": result.distil,
        "evaluate": result.model,
    }  # fmt: skip
    return {
        "method": result.method,
        "machine": {name: result.pretrain[name] for name in ("device", "precision", "torch", "python")}
        | {
            f"hardware of {stage}": f"{timings['hardware']}, {timings['threads']} threads"
            for stage, timings in result.timings.items()
        },
        "stages": {
            stage: {
                "code": content["made_from"]["code"],
                "inputs": content["made_from"]["inputs"],
                "parameters": dict(flattened(content["made_from"]["parameters"])),
            }
            for stage, content in stages.items()
        },
    }


def flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A nested mapping as pairs of dotted key and value."""
    rows: list[tuple[str, Any]] = []
    for key, value in sorted(values.items()):
        name = f"{prefix}{key}"
        rows += flattened(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return rows
