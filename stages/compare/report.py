"""The report: one HTML file that is made only from what the stages wrote.

It loads nothing from the network, and equal inputs give equal bytes. Every figure of `metrics/summary.json`
is marked with its key, so that a program can compare the two.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.compare import panels, verdict, wording
from stages.compare.choices import choices
from stages.compare.evidence import Evidence
from stages.compare.formats import count, counted, figure, image, marked, percent
from stages.compare.inputs import DataSummary, MethodResults
from stages.compare.method_charts import FEW_CLASSES, NAMED_CLASSES
from stages.compare.names import shortened
from stages.files.whole import whole_file
from stages.settings.values import BASELINES, CONTROL, FOLDER, PUBLIC
from stages.tasks import power

LISTED = 50  # of the files that were left out, this many are listed
CONFUSIONS = 20  # of many classes, this many pairs are listed
LONGEST = 60  # characters of a class's name in text and tables
SOURCES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


def write(path: Path, evidence: Evidence, other_code: str | None = None) -> None:
    """Write the report; arguments as for `render`."""
    text = render(evidence, other_code)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(evidence: Evidence, other_code: str | None = None) -> str:
    """The report as HTML.

    Args:
        other_code: says which figures another version of the code has made; None: there are none.
    """
    # NOTE: StrictUndefined raises for a missing value, which would otherwise leave a gap in the page.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": percent, "count": count, "counted": counted, "image": image}
    environment.filters["short"] = lambda text, longest=LONGEST: shortened(text, longest)
    enough = evidence.data.counts["validation_labelled"] >= power.ENOUGH_VALIDATION
    accuracies = {r.method: r.pretrain["knn"] if enough else None for r in evidence.results}
    best = verdict.headline(accuracies)
    pretrained = [accuracy for method, accuracy in accuracies.items() if method != CONTROL]
    others = [method for method in accuracies if method not in (best, CONTROL)]
    models = choices(evidence.results, evidence.summary, evidence.budgets)
    return environment.get_template("report.html.j2").render(
        evidence=evidence,
        control=CONTROL,
        best=best,
        chosen_on_validation=sum(accuracy is not None for accuracy in pretrained) > 1,
        sentences=wording.sentences(evidence, best),
        doubts={result.method: wording.doubts(result) for result in evidence.results},
        cautions={result.method: wording.caution(evidence, result) for result in evidence.results},
        recipes=[recipe for result in evidence.results for recipe in recipes(evidence, result)],
        other_sentences={method: wording.sentences(evidence, method) for method in others},
        marked=marked,
        figure=figure,
        few_classes=FEW_CLASSES,
        named_classes=NAMED_CLASSES,
        confusions={result.method: largest_confusions(evidence, result) for result in evidence.results},
        charts=panels.all_charts(evidence),
        error_bars=wording.error_bars(evidence),
        distilled=any("distilled" in row for of in evidence.summary.values() for row in of.values()),
        not_spread={result.method: wording.not_distilled(result) for result in evidence.results},
        no_interval=evidence.design.why_no_interval() if evidence.design.draws else "",
        labels_for_same=wording.labels_for_same(evidence),
        choices=models,
        starred=any(model.optimal for model in models),
        data=data_card(evidence.data),
        simple=evidence.simple.figures(),
        titles=BASELINES,
        public=PUBLIC in evidence.simple.measured,
        best_simple={budget: evidence.simple.best(budget) for budget in evidence.budgets},
        smallest_gains=wording.smallest_gains(evidence),
        enough_test=power.ENOUGH_TEST,
        provenance=[provenance(result) for result in evidence.results],
        other_code=other_code,
    )


def largest_confusions(evidence: Evidence, result: MethodResults) -> list[dict[str, Any]]:
    """Pairs of classes that are confused most often with the most labels, if the matrix has no numbers."""
    if not evidence.labels or len(evidence.classes) <= FEW_CLASSES:
        return []
    rows = result.confusion[result.confusion["budget"] == evidence.budgets[-1]]
    wrong = rows[(rows["actual"] != rows["predicted"]) & (rows["images"] > 0)]
    most = wrong.sort_values("images", ascending=False, kind="stable").head(CONFUSIONS)
    return [{str(name): value for name, value in row.items()} for row in most.to_dict("records")]


def recipes(evidence: Evidence, result: MethodResults) -> list[dict[str, Any]]:
    """The finetuning recipe of each budget of a method, and what it was chosen by."""
    rows = []
    for budget, labels in evidence.labels.items():
        chosen = result.choose["budgets"][budget]
        row = {"method": result.method, "labels": labels, "by": chosen["by"], **chosen["recipe"]}
        if not result.finetune["confirmation"].get(budget, {}).get("holds", True):
            row |= {"encoder_learning_rate": 0, "by": "labels of validation, over all draws"}
        rows.append(row)
    return rows


def folder_name(path: str) -> str:
    """What a person calls a folder of images: its last name; `data/raw` says nothing without its parent."""
    name = Path(path).name
    return path if name in ("", "raw") else name


def data_card(data: DataSummary) -> dict[str, Any]:
    """What the report shows about the data."""
    of_data = data.made_from["parameters"]["data"]
    source, folder = of_data["source"], of_data.get("path", "")
    name = folder_name(folder) if source == FOLDER else SOURCES.get(source, source.split("/")[-1])
    return {
        "name": name,
        "folder": f"{folder}/",
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
        "pretrain": result.pretrain, "choose": result.choose, "finetune": result.finetune,
        "distil": result.distil, "evaluate": result.model,
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
