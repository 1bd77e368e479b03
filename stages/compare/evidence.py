"""Everything that the report shows, in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.compare import figures
from stages.compare.baselines import NONE, SimpleBaselines
from stages.compare.fitting_together import require_one_run
from stages.compare.inputs import DataSummary, MethodResults, read_method
from stages.compare.measured import Evaluations
from stages.compare.statistics import Design
from stages.tasks.ranking import Ranking


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
        rankings: method → budget → how the finetuned models rank two classes; empty where there are more.
        simple: the simple baselines.
    """

    summary: Mapping[str, Any]
    details: Mapping[str, Any]
    efficiency: pd.DataFrame
    labels: Mapping[str, int]
    design: Design
    data: DataSummary
    results: Sequence[MethodResults]
    rankings: Mapping[str, Mapping[str, Ranking]]
    simple: SimpleBaselines

    @property
    def budgets(self) -> list[str]:
        """Names of the budgets, the one with the fewest labels first."""
        return list(self.labels)

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.data.class_names


def collect(
    evaluations: Evaluations, efficiency: pd.DataFrame, labels: Mapping[str, int], data: DataSummary,
    simple: SimpleBaselines = NONE,
) -> Evidence:  # fmt: skip
    """The evidence from what was measured and from each method's results, which are read from the metrics.

    Args:
        efficiency: as `figures.label_efficiency` returns it.
        labels: how many labelled images each budget is.

    Raises:
        InputError: a file is damaged, is not what its stage writes, or is of another run than the others.
    """
    results = [read_method(method, bool(labels)) for method in figures.control_first(evaluations)]
    require_one_run(evaluations, data, results)
    ascending = dict(sorted(labels.items(), key=lambda item: item[1]))
    return Evidence(
        figures.summary(evaluations, simple.gains(evaluations)),
        figures.details(evaluations, simple.recall_gains(evaluations)),
        efficiency, ascending,
        figures.design(efficiency, data.counts), data,
        results,
        {
            method: {
                budget: ranking for budget in ascending
                if budget in budgets and (ranking := budgets[budget]["finetuned"].ranking) is not None
            }
            for method, budgets in evaluations.items()
        },
        simple,
    )  # fmt: skip
