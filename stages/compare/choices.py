"""Which model to take: each method's accuracy beside its cost, with the Pareto-optimal methods marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.compare.inputs import MethodResults


@dataclass(frozen=True)
class Choice:
    """A row of the table of models.

    Attributes:
        result: the method's results.
        accuracy: budget → mean accuracy on test, a fraction.
        optimal: the budgets at which the method is Pareto-optimal: no other method is at least as good in
            accuracy on validation, training time and multiply-adds, and better in one of them. None is where
            validation has too few labels to choose by.
    """

    result: MethodResults
    accuracy: Mapping[str, float]
    optimal: frozenset[str]

    @property
    def training_seconds(self) -> float:
        """Seconds of pretraining all runs, of choosing recipes, and of finetuning all draws."""
        stages = ("pretrain", "choose", "finetune")
        return float(sum(self.result.timings[stage]["seconds"] for stage in stages))


def choices(
    results: Sequence[MethodResults], summary: Mapping[str, Any], budgets: Sequence[str]
) -> list[Choice]:
    """One row for each method; no rows where there is no budget."""
    if not budgets:
        return []
    rows = [
        Choice(result, {b: summary[result.method][b]["accuracy"] for b in budgets}, frozenset())
        for result in results
    ]
    return [
        Choice(row.result, row.accuracy, frozenset(b for b in budgets if is_optimal(row, rows, b)))
        for row in rows
    ]


def on_validation(row: Choice, budget: str) -> float | None:
    """The mean accuracy of a budget's finetuned models on validation; None: it has too few labels."""
    accuracy = row.result.model["validation"].get(budget, {}).get("finetuned")
    return None if accuracy is None else float(accuracy)


def is_optimal(row: Choice, rows: Sequence[Choice], budget: str) -> bool:
    """Whether no other row is at least as good in every criterion and better in one.

    The test split decides nothing, because a method chosen by its test accuracy looks better than it is.
    """
    if any(on_validation(other, budget) is None for other in rows):
        return False

    def criteria(choice: Choice) -> tuple[float, ...]:
        accuracy = on_validation(choice, budget) or 0.0
        return (accuracy, -choice.training_seconds, -choice.result.model["multiply_adds"])

    values = criteria(row)
    return not any(
        all(a >= b for a, b in zip(criteria(other), values, strict=True)) and criteria(other) != values
        for other in rows
        if other is not row
    )
