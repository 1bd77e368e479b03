"""`stages.tools.tune`, and its committed tables: one grid for all methods, whose best recipes are in use."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML
from torch import Tensor

from stages.errors import InputError
from stages.files import weights
from stages.files.json_files import write_json
from stages.files.packs import write_array
from stages.files.paths import IMAGES, LABELS, encoder_file
from stages.files.tables import write_table
from stages.settings import load
from stages.settings.recipes import Finetune
from stages.settings.schema import Params
from stages.tasks.draws import budget_name
from stages.tools import experiment, tune
from tests.conftest import ROOT, committed, tiny_encoder
from tests.pipeline.conftest import change

FEW, MANY = (pd.read_csv(io.StringIO(committed(path))) for path in (tune.RESULT, tune.RESULT_MANY))
TABLES = {
    "few": (FEW, tune.GRID, [budget_name(budget) for budget in tune.BUDGETS], len(tune.DRAWS)),
    "many": (MANY, tune.MANY, ["nall"], 1),
}
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


@pytest.mark.parametrize(("table", "grid"), [(FEW, tune.GRID), (MANY, tune.MANY)], ids=["few", "many"])
def test_the_chosen_points_are_the_best_on_validation_and_the_recipes_in_use(
    table: pd.DataFrame, grid: Grid
) -> None:
    knobs, checked = list(grid), set()
    for settings in parameter_sets(table):
        for method in settings.methods:
            rows = table[(table["dataset"] == settings.data.source) & (table["method"] == method)]
            errors = tune.mean_errors(rows, knobs)
            chosen = rows[rows["chosen"]][knobs].drop_duplicates()
            assert len(chosen) == 1
            point = chosen.iloc[0].to_dict()
            assert errors[tuple(point.values())] == min(errors.values())
            recipes = settings.finetune.recipe
            if recipes[method] == recipes["default"]:  # a compromise for data that nobody has tuned for
                continue
            recipe = recipes[method].model_dump(include=set(knobs))
            assert recipe == point, (settings.data.source, method)
            checked.add((settings.data.source, method))
    assert {("mnist", "scratch"), ("mnist", "simclr"), ("fashion-mnist", "scratch")} <= checked


# --- measuring on a small pool


@pytest.fixture
def small(in_copy: Path, digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Real digits, an encoder, and grids of two points; three steps each."""
    images, labels = digits
    write_array(IMAGES / "pool.npy", images[:300].numpy())
    write_array(IMAGES / "validation.npy", images[300:].numpy())
    ids = pd.DataFrame({"id": [f"train-{row:05}" for row in range(300)]})
    write_table(IMAGES / "pool.csv", ids)
    write_table(LABELS / "pool.csv", ids.assign(label=labels[:300].numpy()))
    write_table(IMAGES / "validation.csv", pd.DataFrame({"label": labels[300:].numpy()}))
    write_json(LABELS / "classes.json", [str(number) for number in range(10)])
    weights.write_encoder(encoder_file("simclr", 0), tiny_encoder())
    change(in_copy / load.PARAMS, {"finetune.schedule.steps": 3})
    point = {name: values[:1] for name, values in tune.GRID.items()}
    monkeypatch.setattr(tune, "GRID", point | {"weight_decay": [0.5, 2.0]})
    monkeypatch.setattr(
        tune, "MANY", {"encoder_learning_rate_many": [0.001], "weight_decay_many": [0.1, 1.0]}
    )
    monkeypatch.setattr(tune, "BUDGETS", (10, 20))
    return in_copy


@pytest.mark.usefixtures("small")
def test_the_rows_of_a_method_are_replaced() -> None:
    for _ in range(2):
        tune.main(["simclr"])
        tune.main(["--many", "simclr"])
    few, many = pd.read_csv(tune.RESULT), pd.read_csv(tune.RESULT_MANY)
    assert list(few["budget"]) == ["n10", "n20"] * 2
    assert list(few["weight_decay"]) == [0.5, 0.5, 2.0, 2.0]
    assert set(few["steps"]) == {3}
    assert few["chosen"].sum() == 2
    assert list(many["weight_decay_many"]) == [0.1, 1.0]
    assert set(many["epochs"]) == {load.validated(load.read(load.PARAMS)).finetune.schedule.epochs}
    assert many["chosen"].sum() == 1
    for table in (few, many):
        assert set(table["dataset"]) == {"mnist"}
        assert table["validation_accuracy"].between(0.05, 0.95).all()


def test_the_point_with_the_lowest_mean_error_is_chosen(small: Path) -> None:
    rows = pd.DataFrame({"budget": ["n10", "n20"] * 2, "knob": [1, 1, 2, 2]})
    rows["validation_accuracy"] = [0.5, 0.98, 0.7, 0.96]  # geometric means of the error: 0.1 and 0.11
    tune.save(small / "table.csv", "mnist", "simclr", ["knob"], rows)
    tune.save(small / "table.csv", "mnist", "scratch", ["knob"], rows.iloc[2:])
    tune.save(small / "table.csv", "fashion-mnist", "simclr", ["knob"], rows)
    table = pd.read_csv(small / "table.csv")
    assert len(table) == 10
    assert set(table[table["method"] == "simclr"].query("chosen")["knob"]) == {1}
    assert set(table[table["method"] == "scratch"].query("chosen")["knob"]) == {2}


@pytest.mark.usefixtures("small")
def test_an_unknown_method_is_named_before_anything_is_trained() -> None:
    with pytest.raises(
        InputError, match=r"^METHOD: unknown name 'simclear' \(did you mean simclr\?\); allowed: "
    ):
        tune.main(["simclr", "simclear"])
    assert not tune.RESULT.exists()
