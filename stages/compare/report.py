"""The report: one self-contained HTML file, made from nothing but what the stages have written.

It has no network in it, equal inputs give equal bytes, and every figure of `metrics/summary.json` on it is
marked with its key, so that a program can compare them.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from stages.compare import charts, inputs, verdict
from stages.compare.choices import choices
from stages.compare.figures import control_first
from stages.compare.inputs import Prepared, Sheet
from stages.files.whole import whole_file
from stages.settings.schema import CONTROL

LISTED = 50  # files that were left out, at most so many lines of them
SOURCES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


@dataclass(frozen=True)
class Evidence:
    """All figures behind the page.

    Attributes:
        summary, details: as the files of these names; efficiency: as label_efficiency.csv.
        labels: how many each budget's name stands for, in ascending order; draws: behind each mean.
        data: what prepare has written; sheets: each method's results, the control first.
    """

    summary: Mapping[str, Any]
    details: Mapping[str, Any]
    efficiency: pd.DataFrame
    labels: Mapping[str, int]
    draws: int
    data: Prepared
    sheets: Sequence[Sheet]

    @property
    def budgets(self) -> list[str]:
        """The budgets' names, the fewest labels first."""
        return list(self.labels)

    @property
    def classes(self) -> list[str]:
        """Their names."""
        return self.data.class_names


def render(evidence: Evidence) -> str:
    """The page as text."""
    folder = Path(__file__).parent
    # NOTE: what is not there is an error: a page must not have holes where figures should be.
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": percent, "count": count, "image": image}
    accuracies = knn(evidence)
    best = verdict.headline(accuracies)
    figures = {
        "evidence": evidence,
        "control": CONTROL,
        "best": best,
        "validated": len([k for m, k in accuracies.items() if m != CONTROL and k is not None]) > 1,
        "sentences": sentences(evidence, best),
        "others": others(evidence, best),
        "number": number,
        "charts": drawn(evidence),
        "needs": needs(evidence),
        "choices": choices(evidence.sheets, evidence.summary, evidence.budgets),
        "data": data_card(evidence.data),
        "provenance": [provenance(sheet) for sheet in evidence.sheets],
    }
    return environment.get_template("page.html.j2").render(figures)


def number(text: str, key: str, unit: str) -> Markup:
    """A figure of the summary, marked with its key."""
    return Markup('<data value="{}" data-key="{}">{}</data>{}').format(text, key, text, unit)


def knn(evidence: Evidence) -> dict[str, float | None]:
    """Every method's kNN accuracy on validation; None where validation has no labels."""
    return {sheet.method: sheet.pretrain["knn"] for sheet in evidence.sheets}


def sentences(evidence: Evidence, method: str) -> list[Markup]:
    """A sentence about a method for each budget; of the method that validation prefers: the verdict."""
    return [said(evidence, method, budget) for budget in evidence.budgets]


def others(evidence: Evidence, best: str) -> list[tuple[str, list[Markup]]]:
    """The same sentences about the other pretrained methods."""
    return [
        (sheet.method, sentences(evidence, sheet.method))
        for sheet in evidence.sheets
        if sheet.method not in (best, CONTROL)
    ]


def said(evidence: Evidence, method: str, budget: str) -> Markup:
    """One sentence; its words are ours and its numbers are marked, so it is no text from elsewhere."""
    sentence = verdict.sentence(
        evidence.summary, method, budget, evidence.labels, evidence.draws, number=number
    )
    return Markup(sentence)  # noqa: S704 (a method's name is that of a file in stages/pretrain/methods)


def needs(evidence: Evidence) -> dict[str, dict[str, str]]:
    """Labels saved, method → budget → how many scratch needs for the same, where the gain is measurable."""
    signs = {"": "about ", "more": "more than ", "fewer": "fewer than "}
    found: dict[str, dict[str, str]] = {}
    for sheet in evidence.sheets:
        for budget in evidence.budgets:
            need = verdict.saved(evidence.summary, sheet.method, budget, evidence.labels)
            if need is not None:
                found.setdefault(sheet.method, {})[budget] = f"{signs[need.bound]}{need.labels:,}"
    return found


def drawn(evidence: Evidence) -> dict[str, Any]:
    """Every chart, as SVG: some by name, and those of each method."""
    curves = {sheet.method: sheet.curve for sheet in evidence.sheets}
    one = [Markup(charts.training(curves, name)) for name in charts.CURVES]  # noqa: S704
    found: dict[str, Any] = {"training": one, "efficiency": [], "gains": None, "methods": {}}
    if not evidence.labels:
        return found
    found["efficiency"] = [Markup(charts.efficiency(evidence.efficiency, p)) for p in charts.PROTOCOLS]  # noqa: S704
    if any("gain" in budgets[evidence.budgets[0]] for budgets in evidence.summary.values()):
        found["gains"] = Markup(charts.gains(evidence.summary, evidence.budgets, evidence.labels))  # noqa: S704
    found["methods"] = {sheet.method: of_method(evidence, sheet) for sheet in evidence.sheets}
    return found


def of_method(evidence: Evidence, sheet: Sheet) -> dict[str, Any]:
    """One method's strengths and weaknesses as charts."""
    name, labels, classes = sheet.method, evidence.labels, evidence.classes
    recall = {budget: evidence.details[name][budget]["finetuned"]["recall"] for budget in labels}
    confusions = [
        charts.confusion(
            name, b, f"{labels[b]:,} labels", sheet.confusion[sheet.confusion["budget"] == b], classes
        )
        for b in labels
    ]
    reliability = sheet.reliability[sheet.reliability["budget"].isin(list(labels))]
    return {
        "recall": Markup(charts.recalls(name, recall, labels, classes)),  # noqa: S704
        "confusion": [Markup(chart) for chart in confusions],  # noqa: S704
        "reliability": Markup(charts.reliability(name, reliability, labels)),  # noqa: S704
        "map": Markup(charts.feature_map(name, sheet.map, sheet.model["map_variance"], classes)),  # noqa: S704
    }


def data_card(data: Prepared) -> dict[str, Any]:
    """What is known of the data, as the page shows it."""
    source = data.made_from["parameters"]["data"]["source"]
    return {
        "source": SOURCES.get(source, source),
        "counts": {name.replace("_", " "): value for name, value in data.counts.items()},
        "classes": data.classes.to_dict("records"),
        "left_out": data.left_out.head(LISTED).to_dict("records"),
        "more_left_out": max(0, len(data.left_out) - LISTED),
        "samples": data.samples,
        "made_from": data.made_from,
    }


def provenance(sheet: Sheet) -> dict[str, Any]:
    """What a method's results were made from and on, stage by stage."""
    results = {"pretrain": sheet.pretrain, "finetune": sheet.finetune, "evaluate": sheet.model}
    return {
        "method": sheet.method,
        "machine": {name: sheet.pretrain[name] for name in ("device", "precision", "torch", "python")}
        | {
            f"hardware of {stage}": f"{taken['hardware']}, {taken['threads']} threads"
            for stage, taken in sheet.timings.items()
        },
        "stages": {
            stage: {
                "code": result["made_from"]["code"],
                "inputs": result["made_from"]["inputs"],
                "parameters": dict(flattened(result["made_from"]["parameters"])),
            }
            for stage, result in results.items()
        },
    }


def flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A nested mapping as dotted keys and values."""
    rows: list[tuple[str, Any]] = []
    for key, value in sorted(values.items()):
        name = f"{prefix}{key}"
        rows += flattened(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return rows


def percent(value: float, digits: int = 2) -> str:
    """A fraction in percent, without its sign."""
    return f"{100 * value:.{digits}f}"


def count(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{round(value):,}"


def image(picture: Image.Image, alt: str, across: int | None = None) -> Markup:
    """A picture inside the page, its pixels kept apart where it is enlarged.

    across: its width on the page in pixels; None: its own.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    content = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}" width="{}">').format(
        content, escape(alt), across or picture.width
    )


def write(path: Path, evidence: Evidence) -> None:
    """Write the page."""
    text = render(evidence)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def evidence_of(
    summary: Mapping[str, Any], details: Mapping[str, Any], efficiency: pd.DataFrame,
    labels: Mapping[str, int], draws: int, data: Prepared,
) -> Evidence:  # fmt: skip
    """The evidence of these tables, with each method's results read beside them."""
    ascending = dict(sorted(labels.items(), key=lambda item: item[1]))
    read = [inputs.read(method) for method in control_first(summary)]
    return Evidence(summary, details, efficiency, ascending, draws, data, read)
