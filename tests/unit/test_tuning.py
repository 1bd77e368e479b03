"""The committed tuning table: the same grid for every arm, and its choices are those in force."""

import pandas as pd

from benchmarks.tune import BUDGETS, GRID, KNOBS, RESULT, mean_errors
from stages import params
from stages.draws import budget_name
from tests.conftest import ROOT

TABLE = pd.read_csv(ROOT / RESULT)
SETTINGS = params.validated(params.read(ROOT / params.PARAMS))


def test_every_arm_was_tuned_on_the_same_grid() -> None:
    points = {
        method: sorted(map(tuple, rows[[*KNOBS, "budget", "draws"]].to_numpy().tolist()))
        for method, rows in TABLE.groupby("method")
    }
    assert set(SETTINGS.methods) <= set(points)
    scratch = points["scratch"]
    assert len(set(scratch)) == len(scratch)
    assert all(tuned == scratch for tuned in points.values())
    assert {name: set(TABLE[name]) for name in GRID} == {name: set(values) for name, values in GRID.items()}
    assert set(TABLE["budget"]) == {budget_name(budget) for budget in BUDGETS}


def test_the_chosen_recipes_are_the_best_on_validation_and_in_force() -> None:
    for method in SETTINGS.methods:
        rows = TABLE[TABLE["method"] == method]
        errors = mean_errors(rows)
        chosen = rows[rows["chosen"]][KNOBS].drop_duplicates()
        assert len(chosen) == 1
        recipe = chosen.iloc[0].to_dict()
        assert errors[tuple(recipe.values())] == min(errors.values())
        assert SETTINGS.finetune.recipe[method].model_dump(include=set(KNOBS)) == recipe
