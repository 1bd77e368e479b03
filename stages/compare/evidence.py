"""Everything that the report shows, in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.compare.baselines import SimpleBaselines
from stages.compare.figures import control_first, design
from stages.compare.inputs import DataSummary, MethodResults, read_method
from stages.compare.statistics import Design


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
        simple: the simple baselines.
    """

    summary: Mapping[str, Any]
    details: Mapping[str, Any]
    efficiency: pd.DataFrame
    labels: Mapping[str, int]
    design: Design
    data: DataSummary
    results: Sequence[MethodResults]
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
    summary: Mapping[str, Any], details: Mapping[str, Any], efficiency: pd.DataFrame,
    labels: Mapping[str, int], data: DataSummary, simple: SimpleBaselines,
) -> Evidence:  # fmt: skip
    """The evidence from these figures and from each method's results, which are read from the folder metrics.

    Raises:
        InputError: a file is damaged, or lacks a column.
    """
    ascending = dict(sorted(labels.items(), key=lambda item: item[1]))
    results = [read_method(method) for method in control_first(summary)]
    means = design(efficiency, data.counts)
    return Evidence(summary, details, efficiency, ascending, means, data, results, simple)
