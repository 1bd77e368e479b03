"""`stages.tools.tune`, and its committed tables: one grid for all methods, whose best recipes are in use."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.choose import trials
from stages.errors import InputError
from stages.settings import load
from stages.settings.recipes import Finetune
from stages.settings.schema import Params
from stages.tools import experiment, tune
from tests.conftest import ROOT, committed
from tests.pipeline.conftest import change
from tests.unit.test_stages import project  # noqa: F401 (a fixture)

FEW, MANY = (
    pd.read_csv(io.StringIO(committed(f"benchmarks/results/{name}.csv")))
    for name in ("tuning", "tuning_many")
)
# The grids of the committed tables, which were made when the tool had grids of its own.
GRID: dict[str, list[Any]] = {
    "encoder_learning_rate": [0.00001, 0.001, 0.003, 0.01, 0.03],
    "weight_decay": [0.5, 2.0],
    "head_learning_rate": [0.01],
}
GRID_MANY: dict[str, list[Any]] = {
    "encoder_learning_rate_many": [0.001, 0.003, 0.01, 0.03],
    "weight_decay_many": [0.05, 0.2, 2.0],
}
TABLES = {"few": (FEW, GRID, ["n10", "n100", "n1000"], 2), "many": (MANY, GRID_MANY, ["nall"], 1)}
tables = pytest.mark.parametrize(("table", "grid", "budgets", "draws"), TABLES.values(), ids=TABLES.keys())
Grid = dict[str, list[Any]]


def parameter_sets(table: pd.DataFrame) -> list[Params]:
    """The parameters of params.yaml and of every experiment that have budgets of the table."""
    raw = YAML(typ="safe", pure=True).load(committed(load.PARAMS))
    changed = [
        experiment.applied(raw, load.read(file)) for file in sorted((ROOT / experiment.FOLDER).glob("*.yaml"))
    ]
    candidates = [load.validated(content) for content in (raw, *changed)]
    return [
        settings
        for settings in candidates
        if settings.data.source in set(table["dataset"]) and (table is FEW or has_many(settings.finetune))
    ]


def has_many(finetune: Finetune) -> bool:
    """Whether the recipe for many labels applies to a budget."""
    return any(budget == "all" or int(budget) >= finetune.schedule.many for budget in finetune.budgets)


@tables
def test_every_method_was_tuned_on_the_same_grid(
    table: pd.DataFrame, grid: Grid, budgets: list[str], draws: int
) -> None:
    expected = pd.MultiIndex.from_product([budgets, *grid.values()])
    tuned = table.groupby(["dataset", "method"])
    for key, rows in tuned:
        points = pd.MultiIndex.from_frame(rows[["budget", *grid]])
        assert sorted(points) == sorted(expected), key
        assert set(rows["draws"]) == {draws}
    for settings in parameter_sets(table):
        if table is FEW:  # with many labels the epochs set the length
            assert set(table["steps"]) == {settings.finetune.schedule.steps}
        assert {(settings.data.source, method) for method in settings.methods} <= set(tuned.groups)


@pytest.mark.parametrize(("table", "grid"), [(FEW, GRID), (MANY, GRID_MANY)], ids=["few", "many"])
def test_the_chosen_points_are_the_best_on_validation_and_the_recipes_in_use(
    table: pd.DataFrame, grid: Grid
) -> None:
    knobs, checked = list(grid), set()
    for settings in parameter_sets(table):
        for method in settings.methods:
            rows = table[(table["dataset"] == settings.data.source) & (table["method"] == method)]
            errors = mean_errors(rows, knobs)
            chosen = rows[rows["chosen"]][knobs].drop_duplicates()
            assert len(chosen) == 1
            point = chosen.iloc[0].to_dict()
            assert errors[tuple(point.values())] == min(errors.values())
            recipes = settings.finetune.recipe
            if method not in recipes:  # it is chosen by the pipeline
                continue
            recipe = recipes[method].model_dump(include=set(knobs))
            assert recipe == point, (settings.data.source, method)
            checked.add((settings.data.source, method))
    assert {("mnist", "scratch"), ("mnist", "simclr"), ("fashion-mnist", "scratch")} <= checked


def mean_errors(rows: pd.DataFrame, knobs: list[str]) -> dict[tuple[Any, ...], float]:
    """The geometric mean of the validation error over the budgets, by the values of the knobs."""
    return {
        tuple(point): float(np.exp(np.log((1 - budgets["validation_accuracy"]).clip(lower=1e-4)).mean()))
        for point, budgets in rows.groupby(knobs, sort=False)
    }


# --- measuring on a small pool


@pytest.fixture
def small(project: Path) -> Path:  # noqa: F811
    """Digits, the encoder of scratch, a grid of two points, three steps each."""
    change(project / load.PARAMS, {
        "finetune.budgets": [10, 20], "finetune.schedule.steps": 3, "choose.validation": 60,
        "choose.encoder_learning_rates": [0, 0.01],
    })  # fmt: skip
    return project


def plant(monkeypatch: pytest.MonkeyPatch, rate: float, decay: float, steps: int = 3) -> None:
    """Candidates are the better the nearer they are to a rate, a decay and a number of steps."""

    def planted(_: trials.Judge, trial: trials.Trial, __: Any) -> trials.Scored:
        recipe = trial.recipe
        far = abs(np.log10(max(recipe.encoder_learning_rate, 1e-9) / rate))
        far += 0.1 * abs(np.log10(recipe.weight_decay / decay)) + 0.1 * abs(
            np.log10(trial.schedule.steps / steps)
        )
        return trials.Scored(1.0, 1, np.full(len(trial.split.held), 0.9 - 0.08 * far))

    monkeypatch.setattr(trials.Judge, "judge", planted)


@pytest.mark.usefixtures("small")
def test_the_grid_is_extended_until_the_best_point_lies_inside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch, rate=0.1, decay=4.0)
    tune.main(["scratch", "--draws", "1"])
    table = pd.read_csv(tune.RESULT)
    (rate,), (decay,) = (set(table[table["chosen"]][knob]) for knob in tune.KNOBS)
    tried = {knob: sorted(set(table[knob])) for knob in tune.KNOBS}
    assert rate == pytest.approx(0.1, rel=0.2)
    assert decay in (2.0, 8.0)
    assert 0 < tried["encoder_learning_rate"].index(rate) < len(tried["encoder_learning_rate"]) - 1
    assert 0 < tried["weight_decay"].index(decay) < len(tried["weight_decay"]) - 1
    assert "best recipe for scratch" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_the_frozen_encoder_is_no_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, rate=1e-9, decay=0.5)
    tune.main(["scratch", "--draws", "1"])
    table = pd.read_csv(tune.RESULT)
    assert set(table["encoder_learning_rate"]) == {0, 0.01}
    assert set(table[table["chosen"]]["encoder_learning_rate"]) == {0}


def test_write_puts_recipe_and_steps_into_params_yaml_and_keeps_all_other_lines(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, rate=0.01, decay=0.5, steps=30)
    file = small / load.PARAMS
    lines = committed(load.PARAMS).splitlines()
    file.write_text("\n".join(lines) + "\n")
    change_line(file, "    steps: 300 # at least", "    steps: 3   # at least")
    change_line(file, "  budgets: [10, 100, 1000]", "  budgets: [10, 20]       ")
    before = file.read_text().splitlines()
    tune.main(["scratch", "--draws", "1", "--steps", "3", "30"])
    assert file.read_text().splitlines() == before
    tune.main(["scratch", "--draws", "1", "--steps", "3", "30", "--write"])
    after = file.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.split("#")[0].rstrip() for _, new in changed] == [
        "    steps: 30",
        "    scratch: {encoder_learning_rate: 0.01, weight_decay: 0.5}",
    ]
    assert [line.partition("#")[2] for line in after] == [line.partition("#")[2] for line in before]
    settings = load.validated(load.read(load.PARAMS))
    assert settings.finetune.recipe["scratch"].encoder_learning_rate == 0.01


def change_line(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.mark.usefixtures("small")
def test_a_second_run_trains_nothing_and_replaces_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        capsys.readouterr()
        tune.main(["scratch", "--draws", "2"])
    assert "tune scratch: 0/0 images" in capsys.readouterr().out
    table = pd.read_csv(tune.RESULT)
    assert not table.duplicated(["budget", *tune.KNOBS, "steps"]).any()
    assert set(table["dataset"]) == {"mnist"}
    assert set(table["budget"]) == {"n10", "n20"}
    assert set(table["draws"]) == {2}
    assert table["validation_accuracy"].between(0.02, 0.98).all()


@pytest.mark.usefixtures("small")
def test_an_unknown_method_is_named_before_anything_is_trained() -> None:
    with pytest.raises(
        InputError, match=r"^METHOD: unknown name 'simclear' \(did you mean simclr\?\); allowed: "
    ):
        tune.main(["simclr", "simclear"])
    assert not tune.RESULT.exists()


def test_help_says_what_the_options_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tune.main(["--help"])
    text = capsys.readouterr().out
    assert all(option in text for option in ("--draws", "--steps", "--write", "resumes"))
