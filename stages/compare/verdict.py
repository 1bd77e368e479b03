"""The verdict in sentences. They are computed, and never claim more than the interval allows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stages.compare.figures import measurable
from stages.compare.labels_needed import labels_for_same, needed_clause
from stages.compare.statistics import Design
from stages.settings.values import CONTROL, IMPORTED

UNEQUAL = 1.5  # from so many times the mean size on, the largest class makes accuracy one-sided
Format = Callable[[str, str, str], str]  # from a number's text, its key in the summary, and its unit


def headline(knn: Mapping[str, float | None]) -> str:
    """The method that the verdict is about: the best pretrained one by kNN on validation.

    The test split chooses nothing. The control is taken only where there is no other method.

    knn: kNN accuracy on validation of every method; None where validation has no labels.
    """
    pretrained = [method for method in knn if method != CONTROL] or list(knn)
    return max(pretrained, key=lambda method: knn[method] or 0.0)


def unmarked(text: str, key: str, unit: str) -> str:
    """A number as plain text."""
    return f"{text}{unit}"


def sentence(
    summary: Mapping[str, Any], method: str, budget: str, labels: Mapping[str, int], design: Design,
    number: Format = unmarked,
) -> str:  # fmt: skip
    """What pretraining with a method gained at one budget.

    Args:
        summary: the content of `metrics/summary.json`.
        labels: how many labelled images each budget is.
        design: what each mean is over.
        number: formats each number of the summary.
    """
    row = summary[method][budget]
    start = f"With {labels[budget]:,} labels,"

    def figure(of: str, name: str, unit: str = "", sign: str = "") -> str:
        value = 100 * summary[of][budget][name]
        return number(f"{value:{sign}.2f}", f"{of}.{budget}.{name}", unit)

    draws = design.draws
    same = labels[budget] >= design.labelled
    over = f"over {draws} trainings on the same labels" if same else f"over {draws} draws"
    equal = "on one draw" if draws == 1 else f"in each of {draws} draws"
    no_interval = design.why_no_interval()
    after = figure(method, "accuracy", " %")
    if "gain" not in row:
        reason = "nothing was pretrained" if method == CONTROL else f"{CONTROL} was not run for comparison"
        if "accuracy_ci95" not in row:
            return f"{start} {method} reaches {after} {equal}; {no_interval}; {reason}."
        interval = f"{figure(method, 'accuracy_ci95')} points"
        return f"{start} {method} reaches {after} ± {interval}, {over}; {reason}."
    before = figure(CONTROL, "accuracy", " %")
    gain = figure(method, "gain", sign="+")
    # Weights from elsewhere were not pretrained here.
    cause, end = ("the imported weights", "") if method == IMPORTED else (f"{method} pretraining", "s")
    if "gain_ci95" not in row:
        return (
            f"{start} accuracy is {before} from scratch and {after} with {cause}, "
            f"{gain} points {equal}; {no_interval}, so the difference cannot be called measurable."
        )
    start = f"{start} {cause}"
    gain = f"{gain} ± {figure(method, 'gain_ci95')} points, {over}"
    if not measurable(row):
        return f"{start} bring{end} no measurable gain: {before} without it, {after} with it, {gain}."
    if row["gain"] < 0:
        return f"{start} lower{end} accuracy from {before} to {after}, {gain}."
    needed = labels_for_same(summary, method, budget, labels)
    clause = f"; {needed_clause(needed)}" if needed else ""
    return f"{start} raise{end} accuracy from {before} to {after}, {gain}{clause}."


def imported_sentence(
    summary: Mapping[str, Any], method: str, budget: str, design: Design, number: Format = unmarked
) -> str:
    """What a method gained over weights from elsewhere as they came; "" where they were not compared.

    Args:
        summary, method, budget, design, number: as for `sentence`.
    """
    row, name = summary[method][budget], "gain_over_imported"
    if name not in row:
        return ""
    before = number(
        f"{100 * summary[IMPORTED][budget]['accuracy']:.2f}", f"{IMPORTED}.{budget}.accuracy", " %"
    )
    gain = number(f"{100 * row[name]:+.2f}", f"{method}.{budget}.{name}", "")
    start = f"Over the imported weights as they came ({before}):"
    if f"{name}_ci95" not in row:
        return f"{start} {gain} points; {design.why_no_interval()}."
    half = number(f"{100 * row[f'{name}_ci95']:.2f}", f"{method}.{budget}.{name}_ci95", "")
    verb = "" if measurable(row, name) else ", which is not measurable"
    return f"{start} {gain} ± {half} points{verb}."


def is_one_sided(tested: Sequence[int]) -> bool:
    """Whether one class has so many of the test images that accuracy hardly depends on the others.

    tested: how many test images each class has.
    """
    counts = [count for count in tested if count]
    return bool(counts) and max(counts) * len(counts) >= UNEQUAL * sum(counts)


def recall_sentence(
    details: Mapping[str, Any], tested: Sequence[int], method: str, budget: str, design: Design
) -> str:
    """What pretraining gained in macro recall; "" where classes are about equal, or there is no control.

    Where one class has most of the test images, accuracy hardly depends on the others.

    Args:
        details: the content of `metrics/details.json`.
        tested: how many test images each class has.
        method, budget, design: as for `sentence`.
    """
    of = details[method][budget]["finetuned"]
    if "recall_macro_gain" not in of or not is_one_sided(tested):
        return ""
    before, after = (
        f"{100 * details[name][budget]['finetuned']['recall_macro']['mean']:.2f}"
        for name in (CONTROL, method)
    )
    gain, share = of["recall_macro_gain"], f"{100 * max(tested) / sum(tested):.0f} %"
    by_class = "By macro recall, which counts all classes alike,"
    start = f"The largest class has {share} of the test images. {by_class}"
    of_gain = f"{100 * gain['mean']:+.2f}"
    if "ci95" not in gain:
        return f"{start} it is {before} % and {after} %, {of_gain} points; {design.why_no_recall_interval()}."
    of_gain = f"{of_gain} ± {100 * gain['ci95']:.2f} points"
    if not measurable({"gain": gain["mean"], "gain_ci95": gain["ci95"]}):
        return f"{start} there is no measurable gain: {before} % without it, {after} % with it, {of_gain}."
    verb = "lowers" if gain["mean"] < 0 else "raises"
    return f"{start} it {verb} {before} % to {after} %, {of_gain}."


def pool_sentence(
    summary: Mapping[str, Any],
    method: str,
    budget: str,
    design: Design,
    not_spread: int,
    number: Format = unmarked,
) -> str:
    """What distilling bought beside pretraining; "" where it was not done.

    Args:
        summary, method, budget, design, number: as for `sentence`.
        not_spread: in how many draws the finetuned model stays, because spreading does not help.
    """
    row = summary[method][budget]
    if "distilled" not in row:
        return ""
    if not_spread == design.draws:
        return (
            "Distilling: the finetuned models stay in every draw: the check on a draw's own labels, or "
            "validation, speaks against spreading labels over the pool."
        )

    def figure(of: str, name: str, unit: str = "", sign: str = "") -> str:
        value = 100 * summary[of][budget][name]
        return number(f"{value:{sign}.2f}", f"{of}.{budget}.{name}", unit)

    after, gain = figure(method, "distilled", " %"), figure(method, "distilled_gain", sign="+")
    rest = f"; in {not_spread} of {design.draws} draws the finetuned model stays" if not_spread else ""
    if method != CONTROL and "distilled" in summary.get(CONTROL, {}).get(budget, {}):
        rest += f"; {CONTROL} reaches {figure(CONTROL, 'distilled', ' %')} in the same way"
    start = "Distilling (labels spread over the pool, and more steps)"
    if "distilled_gain_ci95" not in row:
        return f"{start}: {after}, {gain} points ({design.why_no_interval()}){rest}."
    gain = f"{gain} ± {figure(method, 'distilled_gain_ci95')} points"
    if not measurable(row, "distilled_gain"):
        return f"{start} brings no measurable gain: {after}, {gain}{rest}."
    verb = "lowers" if row["distilled_gain"] < 0 else "raises"
    return f"{start} {verb} it to {after}, {gain}{rest}."
