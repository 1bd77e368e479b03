"""Which model to take: accuracy beside what a method costs, the Pareto-best marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.compare.inputs import Sheet


@dataclass(frozen=True)
class Choice:
    """A row of the table of models.

    Attributes:
        accuracy: by budget, a fraction; best: at which budgets no other method is at least as good in
            accuracy, training time and multiply-adds, and better in one.
    """

    sheet: Sheet
    accuracy: Mapping[str, float]
    best: frozenset[str]

    @property
    def training_seconds(self) -> float:
        """Of pretraining and of finetuning all draws."""
        return float(sum(self.sheet.timings[stage]["seconds"] for stage in ("pretrain", "finetune")))


def choices(sheets: Sequence[Sheet], summary: Mapping[str, Any], budgets: Sequence[str]) -> list[Choice]:
    """Every method beside what it costs, the Pareto-best marked at each budget; without any, none."""
    if not budgets:
        return []
    rows = [
        Choice(sheet, {b: summary[sheet.method][b]["accuracy"] for b in budgets}, frozenset())
        for sheet in sheets
    ]
    return [
        Choice(row.sheet, row.accuracy, frozenset(b for b in budgets if undominated(row, rows, b)))
        for row in rows
    ]


def undominated(row: Choice, rows: Sequence[Choice], budget: str) -> bool:
    """Whether no other row is at least as good in everything and better in something."""

    def goods(one: Choice) -> tuple[float, ...]:
        return (one.accuracy[budget], -one.training_seconds, -one.sheet.model["multiply_adds"])

    own = goods(row)
    return not any(
        all(a >= b for a, b in zip(goods(other), own, strict=True)) and goods(other) != own
        for other in rows
        if other is not row
    )
