"""What the stage compare does: it writes the summary, details, tables, picture and report of all methods."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from stages.compare import charts, evidence, figures, inputs, other_code, predictions, report
from stages.compare.baselines import SimpleBaselines
from stages.compare.leftovers import remove_leftovers
from stages.errors import InputError
from stages.files import provenance
from stages.files.digests import require_folder_as_written
from stages.files.json_files import write_json
from stages.files.locks import require_writable
from stages.files.paths import (
    BASELINES,
    COMPARED,
    DATA,
    DATA_CLASSES,
    DETAILS,
    LABEL_EFFICIENCY,
    METRICS,
    PREDICTIONS,
    REPORT,
    SUMMARY,
)
from stages.files.records import write_record
from stages.files.tables import write_table
from stages.settings import load
from stages.tasks.draws import budget_name, usable_budgets


def main() -> None:
    """Compare the methods of params.yaml at those of its budgets for which there are enough labels."""
    raw = load.read(load.PARAMS)
    settings = load.parameters("compare", raw=raw)
    require_writable(SUMMARY, REPORT)
    before, made_from = provenance.state("compare", raw=raw), provenance.made_from("compare", inputs=False)
    data = inputs.read_data()
    labelled = data.counts["pool_labelled"]
    budgets = usable_budgets(settings.finetune.budgets, labelled, len(data.class_names))
    names = [budget_name(budget) for budget in budgets]
    of_classes = data.classes["pool"].astype(int).tolist()
    if sum(of_classes) != labelled:
        raise InputError(
            f"{DATA_CLASSES}: column pool has {sum(of_classes)} labelled images, {DATA} {labelled}; "
            "run `dvc repro`"
        )
    if names:
        for folder in (
            *map(PREDICTIONS.joinpath, settings.methods),
            *map(BASELINES.joinpath, settings.baselines),
        ):
            require_folder_as_written(folder)
    evaluations = predictions.read(settings.methods, names, of_classes)
    simple = SimpleBaselines.read(settings.baselines, names, of_classes, settings.methods[0])
    labels = {budget_name(b): labelled if b == "all" else int(b) for b in budgets}
    efficiency = pd.concat([figures.label_efficiency(evaluations, labels), simple.efficiency(labels)])
    everything = evidence.collect(evaluations, efficiency, labels, data, simple)
    provenance.require_unchanged("compare", None, before)
    remove_leftovers(settings.methods)
    write_json(SUMMARY, everything.summary)
    write_json(DETAILS, {**everything.details, **simple.figures()})
    write_table(LABEL_EFFICIENCY, efficiency)
    write_table(METRICS / "recall.csv", figures.recall(everything.details, labels, data.class_names))
    gather(settings.methods, names)
    charts.write_efficiency(efficiency, METRICS / "label_efficiency.png")
    write_record(COMPARED, {"made_from": made_from}, SUMMARY, DETAILS, LABEL_EFFICIENCY)
    report.write(REPORT, everything, other_code.note(settings.methods))


def gather(methods: Sequence[str], budgets: Sequence[str]) -> None:
    """Write the methods' tables as one table of each kind, for `dvc plots`."""
    of_budgets: Mapping[str, Collection[str]] = {"budget": budgets}
    for name, of_method, only in (
        ("training_curves", "pretrain/{method}.csv", {"run": ["0"]}),
        ("confusion", "evaluate/{method}_confusion.csv", of_budgets),
        ("reliability", "evaluate/{method}_reliability.csv", of_budgets),
        ("feature_map", "evaluate/{method}_map.csv", {}),
    ):
        write_table(METRICS / f"{name}.csv", figures.gathered(methods, of_method, only))
