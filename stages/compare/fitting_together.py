"""Whether what several stages have written fits together: the same classes, budgets, draws, test images."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from stages.compare.inputs import DataSummary, MethodResults
from stages.compare.measured import Evaluations, Measured
from stages.errors import InputError
from stages.files.paths import DATA, METRICS, PREDICTIONS
from stages.tasks.power import ENOUGH_VALIDATION
from stages.tasks.scores import effective


def require_one_run(evaluations: Evaluations, data: DataSummary, results: Collection[MethodResults]) -> None:
    """Check the files of all stages against each other.

    Args:
        evaluations: method → budget → protocol.
        data: what prepare wrote.
        results: of each method.

    Raises:
        InputError: a file is of another run than the others. The message names it.
    """
    for result in results:
        if result.curve.empty:
            raise _misfit(METRICS / "pretrain" / f"{result.method}.csv", "has no rows of run 0")
        _require_classes(result, data.class_names)
        if unmeasured := sorted(set(result.mistakes["budget"]) - set(evaluations[result.method])):
            what = f"column budget has {unmeasured[0]!r}, which was not measured"
            raise _misfit(_of_evaluate(result, "mistakes.csv"), what)
        for budget, protocols in evaluations[result.method].items():
            _require_budget(result, budget, protocols, data)


def _require_classes(result: MethodResults, classes: Collection[str]) -> None:
    for name, columns in {
        "confusion": ("actual", "predicted"), "mistakes": ("actual", "predicted"), "map": ("class",)
    }.items():  # fmt: skip
        for column in columns:
            table = getattr(result, name)
            if unknown := sorted(set(table[column]) - set(classes)):
                what = f"column {column} has {unknown[0][:60]!r}, which is none of the classes"
                raise _misfit(_of_evaluate(result, f"{name}.csv"), what)


def _require_budget(
    result: MethodResults, budget: str, protocols: Mapping[str, Measured], data: DataSummary
) -> None:
    measured, folder = protocols["finetuned"], PREDICTIONS / result.method
    images, units = len(measured.labels), effective(measured.units)
    if (images, units) != (data.counts["test_labelled"], data.counts["test_units"]):
        counted = f"{data.counts['test_labelled']} ({data.counts['test_units']} units)"
        what = f"has {images} test images ({units} units), {DATA} {counted}"
        raise _misfit(folder, what)
    if "linear" not in protocols:
        raise _misfit(folder, f"has no linear probes of {budget}")
    if budget not in result.choose["budgets"]:
        raise _misfit(METRICS / "choose" / f"{result.method}.json", f"has no budget {budget}")
    distilled = len(protocols["distilled"].runs) if "distilled" in protocols else 0
    if distilled and Counter(draw["budget"] for draw in result.distil["draws"])[budget] != distilled:
        what = f"does not have the {distilled} draws of {budget} that were measured"
        raise _misfit(METRICS / "distil" / f"{result.method}.json", what)
    enough = data.counts["validation_labelled"] >= ENOUGH_VALIDATION
    if enough and "finetuned" not in result.model["validation"].get(budget, {}):
        raise _misfit(_of_evaluate(result, "model.json"), f"validation has no {budget}.finetuned")
    if not (result.reliability["budget"] == budget).any():
        raise _misfit(_of_evaluate(result, "reliability.csv"), f"has no rows of {budget}")
    pairs = result.confusion[result.confusion["budget"] == budget][["actual", "predicted"]]
    if len(pairs) != len(data.class_names) ** 2 or pairs.duplicated().any():
        what = f"does not have one row for each pair of classes at {budget}"
        raise _misfit(_of_evaluate(result, "confusion.csv"), what)


def _of_evaluate(result: MethodResults, end: str) -> Path:
    return METRICS / "evaluate" / f"{result.method}_{end}"


def _misfit(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}; run `dvc repro`")
