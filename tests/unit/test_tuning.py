"""The committed tuning tables: the same grid for every arm, and their choices are those in force."""

from typing import Any

import pandas as pd
import pytest

from benchmarks import experiment, tune
from stages import params
from stages.draws import budget_name
from stages.sections import Params
from tests.conftest import ROOT

FEW, MANY = pd.read_csv(ROOT / tune.RESULT), pd.read_csv(ROOT / tune.RESULT_MANY)
TABLES = {
    "few": (FEW, tune.GRID, [budget_name(budget) for budget in tune.BUDGETS], len(tune.DRAWS)),
    "many": (MANY, tune.MANY, ["nall"], 1),
}
tables = pytest.mark.parametrize(("table", "grid", "budgets", "draws"), TABLES.values(), ids=TABLES.keys())
Grid = dict[str, list[Any]]


def in_force() -> list[Params]:
    """The parameters of params.yaml and of every experiment."""
    raw = params.read(ROOT / params.PARAMS)
    changed = [
        experiment.applied(raw, params.read(file))
        for file in sorted((ROOT / experiment.FOLDER).glob("*.yaml"))
    ]
    return [params.validated(content) for content in (raw, *changed)]


@tables
def test_every_arm_was_tuned_on_the_same_grid(
    table: pd.DataFrame, grid: Grid, budgets: list[str], draws: int
) -> None:
    expected = pd.MultiIndex.from_product([budgets, *grid.values()])
    tuned = table.groupby(["dataset", "method"])
    for arm, rows in tuned:
        points = pd.MultiIndex.from_frame(rows[["budget", *grid]])
        assert sorted(points) == sorted(expected), arm
        assert set(rows["draws"]) == {draws}
    for settings in in_force():
        if table is FEW:  # for many labels the passes through them count
            assert set(table["steps"]) == {settings.finetune.schedule.steps}
        assert {(settings.data.source, method) for method in settings.methods} <= set(tuned.groups)


@pytest.mark.parametrize(("table", "grid"), [(FEW, tune.GRID), (MANY, tune.MANY)], ids=["few", "many"])
def test_the_chosen_points_are_the_best_on_validation_and_in_force(table: pd.DataFrame, grid: Grid) -> None:
    knobs = list(grid)
    for settings in in_force():
        for method in settings.methods:
            rows = table[(table["dataset"] == settings.data.source) & (table["method"] == method)]
            errors = tune.mean_errors(rows, knobs)
            chosen = rows[rows["chosen"]][knobs].drop_duplicates()
            assert len(chosen) == 1
            point = chosen.iloc[0].to_dict()
            assert errors[tuple(point.values())] == min(errors.values())
            recipe = settings.finetune.recipe[method].model_dump(include=set(knobs))
            assert recipe == point, (settings.data.source, method)
