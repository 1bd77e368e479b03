"""Choosing a recipe: the rule on planted accuracies, folds, and the stage in this process on a few digits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.choose import every_budget, search, trials
from stages.choose.rule import chosen, smoothed
from stages.choose.splits import splits_of
from stages.distil import small_budgets
from stages.errors import InputError
from stages.evaluate.frozen import FrozenEncoder
from stages.evaluate.held_out import HeldOut
from stages.evaluate.measuring import Evaluator, Job
from stages.files.json_files import read_json
from stages.files.paths import CLASSIFIERS, DISTILLED, IMAGES, METRICS, encoder_file
from stages.files.tables import read_table, write_table
from stages.finetune import every_draw
from stages.settings import load
from stages.settings.recipes import Choose, FixedRecipe, Recipe
from stages.tasks.chosen import read_recipes, recipes_file
from stages.tasks.classifier import probabilities, read_classifier
from stages.tasks.draws import CHOOSING, draw_labelled
from stages.tasks.labels import read_pool_labels
from stages.tasks.scores import balanced_accuracy
from stages.training.checkpoint import CHECKPOINTS, Checkpoint
from stages.training.machine import Machine
from stages.training.optimisation import DivergedError
from tests.conftest import put, seal
from tests.pipeline.conftest import change
from tests.unit.test_stages import project  # noqa: F401 (a fixture)

DEFAULT = FixedRecipe(
    encoder_learning_rate=0.003, head_learning_rate=0.01, weight_decay=0.5,
    encoder_learning_rate_many=0.001, weight_decay_many=0.05,
)  # fmt: skip
GRID = Choose(
    encoder_learning_rates=(0.0, 0.001, 0.003, 0.01, 0.03),
    length=0.5,
    validation=50,
    folds=3,
)
RATES = GRID.encoder_learning_rates[1:]


def rates(numbers: list[int | None]) -> list[float | None]:
    return [None if number is None else RATES[number] for number in numbers]


# --- the grid and the rule


@pytest.mark.parametrize(
    ("grid", "higher"),
    [((0.0, 0.03, 0.1), [0.3, 0.9]), ((0.0, 0.1), []), ((0.0,), []), ((0.001, 4.0), [10, 10])],
)
def test_rates_above_the_grid(grid: tuple[float, ...], higher: list[float]) -> None:
    assert search.higher_rates(grid) == higher


@pytest.mark.parametrize(
    ("accuracy", "rate"),
    [
        ([0.60, 0.70, 0.78, 0.70], 0.01),
        ([0.60, 0.70, 0.74, 0.80], 0.03),
        ([0.76, 0.66, 0.75, 0.75], 0.03),  # a lone peak is luck
        ([0.70, 0.70, 0.70, 0.70], 0.001),  # of equally good ones the first
    ],
)
def test_the_best_candidate_among_good_neighbours_is_chosen(accuracy: list[float], rate: float) -> None:
    assert rates(chosen([np.array(accuracy)])) == [rate]


def test_a_candidate_counts_with_the_ones_before_and_after_it() -> None:
    assert smoothed(np.array([0.0, 0.0, 1.0, 0.0])).tolist() == pytest.approx([0, 0.25, 0.5, 1 / 3])
    assert smoothed(np.array([0.9, 0.6])).tolist() == pytest.approx([0.8, 0.7])
    assert smoothed(np.array([0.4])).tolist() == [0.4]


def test_a_budget_leans_on_its_neighbours_and_takes_their_choice_where_nothing_was_measured() -> None:
    low, close = np.array([0.7, 0.68, 0.6, 0.5]), np.array([0.58, 0.60, 0.62, 0.60])
    assert rates(chosen([close])) == [0.01]
    assert rates(chosen([low, close]))[1] < 0.01
    assert rates(chosen([None, low, None, None])) == [0.001, 0.001, 0.001, None]
    assert rates(chosen([low + 0.2, close])) == rates(chosen([low, close]))


def test_each_class_counts_the_same_however_many_of_its_images_are_held_out() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    frequent, rare = labels == 0, labels == 1
    assert balanced_accuracy(frequent, labels) == 0.5  # not 0.9
    assert balanced_accuracy(rare, labels) == 0.5
    assert balanced_accuracy(frequent | rare, labels) == 1


# --- the stage


@pytest.fixture
def small(project: Path) -> Path:  # noqa: F811
    """Three candidates, two steps each; validation has 312 labels."""
    change(project / "params.yaml", {
        "finetune.budgets": [10, 40], "finetune.draws": 1, "distil.steps": 3,
        "choose.encoder_learning_rates": [0, 0.003, 0.01],
        "choose.validation": 60, "choose.folds": 2,
    })  # fmt: skip
    recipes_file("scratch").unlink()
    return project


def hide_validation_labels(keep: int) -> None:
    table = read_table(IMAGES / "validation.csv", text=True)
    write_table(IMAGES / "validation.csv", table.assign(label=table["label"].where(table.index < keep, "")))
    seal()


def chosen_recipes() -> dict[str, Recipe]:
    return read_recipes(recipes_file("scratch")).recipes


def figures() -> Any:
    return read_json(METRICS / "choose" / "scratch.json")["budgets"]


def accuracies(rows: list[dict[str, float]]) -> dict[tuple[float, float], float]:
    return {(row["encoder_learning_rate"], row["weight_decay"]): row["accuracy"] for row in rows}


@pytest.mark.usefixtures("small")
def test_the_recipes_follow_from_the_accuracies_in_the_metrics() -> None:
    every_budget.main("scratch")
    recipes, measured = chosen_recipes(), figures()
    assert list(recipes) == ["n10", "n40"]
    short = []
    for name, recipe in recipes.items():
        assert measured[name]["by"] == "labels of validation"
        assert measured[name]["recipe"] == recipe.model_dump()
        short.append(accuracies(measured[name]["candidates"]))
        assert measured[name]["in_full"] == []
    tried = sorted({rate for one in short for rate, _ in one if rate})
    trained = chosen([np.array([one[rate, 0.5] for rate in tried]) for one in short])
    for one in short:
        assert set(one) >= {(0, 0.5), (0.003, 0.5), (0.01, 0.5)}
    # Whether the encoder stays frozen is left to finetune.
    expected = [(tried[number or 0], 0.5) for number in trained]
    assert [(one.encoder_learning_rate, one.weight_decay) for one in recipes.values()] == expected
    assert read_json(METRICS / "timings" / "choose" / "scratch.json")["workers"] == 1


Plan = Callable[[trials.Trial], float]


@pytest.fixture
def planted(small: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan], list[str]]:
    """Runs the stage with these accuracies instead of trainings; returns the trials' names, in order."""

    def run(accuracy: Plan) -> list[str]:
        tried = []

        def judge(_: trials.Judge, trial: trials.Trial, __: Any) -> trials.Scored:
            tried.append(str(trial))
            return trials.Scored(1.0, 1, np.full(len(trial.split.held), accuracy(trial)))

        monkeypatch.setattr(trials.Judge, "judge", judge)
        every_budget.main("scratch")
        return tried

    return run


def cross_validated(small: Path) -> None:
    """Hide labels of validation, so that the draws themselves are cut; both budgets can be."""
    hide_validation_labels(99)
    change(small / "params.yaml", {"finetune.budgets": [20, 40]})


@pytest.mark.parametrize("rate", [0.0, 0.003, 0.01])
def test_the_best_recipe_wins(planted: Callable[[Plan], list[str]], small: Path, rate: float) -> None:
    cross_validated(small)
    planted(lambda trial: 0.8 if trial.recipe.encoder_learning_rate == rate else 0.5)
    for recipe in chosen_recipes().values():
        assert (recipe.encoder_learning_rate, recipe.weight_decay) == (rate, 0.5)


@pytest.mark.parametrize(("in_full", "winner"), [(0.95, 0.01), (0.85, 0.0)])
def test_the_frozen_encoder_has_to_be_better_than_a_training_in_full(
    planted: Callable[[Plan], list[str]], small: Path, in_full: float, winner: float
) -> None:
    cross_validated(small)

    def accuracy(trial: trials.Trial) -> float:
        rate, is_short = trial.recipe.encoder_learning_rate, trial.schedule.steps < 4
        return 0.9 if rate == 0 else 0.7 + (rate == 0.01) / 10 if is_short else in_full

    planted(accuracy)
    assert {one.encoder_learning_rate for one in chosen_recipes().values()} == {winner}
    for budget in figures().values():
        assert accuracies(budget["in_full"]) == {(0.01, 0.5): in_full}


def test_trials_in_full_are_not_made_twice(planted: Callable[[Plan], list[str]], small: Path) -> None:
    cross_validated(small)
    change(small / "params.yaml", {"choose.length": 1})
    tried = planted(lambda trial: 0.9 if trial.recipe.frozen else 0.7)
    assert len(tried) == len(set(tried)) == 2 * 3 * 2  # budgets, rates, folds
    assert {one.frozen for one in chosen_recipes().values()} == {True}


@pytest.mark.parametrize(
    ("best", "highest", "warnings"),
    [(0.0, 0.01, 0), (0.003, 0.01, 0), (0.01, 0.03, 0), (0.03, 0.09, 0), (0.09, 0.09, 2), (0.3, 0.09, 2)],
)
def test_rates_above_the_grid_are_tried_where_its_highest_is_best(
    planted: Callable[[Plan], list[str]],
    capsys: pytest.CaptureFixture[str],
    best: float,
    highest: float,
    warnings: int,
) -> None:
    def accuracy(trial: trials.Trial) -> float:
        rate = trial.recipe.encoder_learning_rate
        if not rate or not best:
            return 0.8 if rate == best else 0.5
        return 0.9 - abs(np.log10(rate / best)) / 10

    planted(accuracy)
    for budget in figures().values():
        assert max(rate for rate, _ in accuracies(budget["candidates"])) == highest
    if best in (0.01, 0.03, 0.09):
        assert {one.encoder_learning_rate for one in chosen_recipes().values()} == {best}
    assert capsys.readouterr().out.count("the highest encoder rate that was tried is the best") == warnings


def test_a_single_rate_has_no_edge(planted: Callable[[Plan], list[str]], small: Path) -> None:
    change(small / "params.yaml", {"choose.encoder_learning_rates": [0, 0.01]})
    planted(lambda trial: 0.9 if trial.recipe.encoder_learning_rate else 0.5)
    for budget in figures().values():
        assert {rate for rate, _ in accuracies(budget["candidates"])} == {0, 0.01}


def test_a_training_in_full_is_compared_within_its_own_budget(
    planted: Callable[[Plan], list[str]], small: Path
) -> None:
    """The frozen encoder is far ahead with 20 labels, and a little behind with 40."""
    cross_validated(small)

    def accuracy(trial: trials.Trial) -> float:
        if trial.recipe.frozen:
            return 0.9
        is_short = trial.schedule.steps < 4
        return 0.5 if is_short or trial.split.budget == "n20" else 0.92

    planted(accuracy)
    assert [recipe.frozen for recipe in chosen_recipes().values()] == [True, False]


def test_on_validation_the_best_rate_is_chosen_and_finetune_compares_it_with_the_frozen_encoder(
    planted: Callable[[Plan], list[str]],
) -> None:
    tried = planted(lambda trial: 0.9 if trial.recipe.frozen else 0.5 + trial.recipe.encoder_learning_rate)
    assert {one.encoder_learning_rate for one in chosen_recipes().values()} == {0.09}
    assert read_recipes(recipes_file("scratch")).or_frozen
    assert len(tried) == 2 * 5  # no trial in full


def test_where_no_frozen_encoder_is_tried_none_is_taken(
    planted: Callable[[Plan], list[str]], small: Path
) -> None:
    change(small / "params.yaml", {"choose.encoder_learning_rates": [0.003, 0.01]})
    planted(lambda _: 0.5)
    assert not read_recipes(recipes_file("scratch")).or_frozen


@pytest.mark.usefixtures("small")
def test_with_few_validation_labels_the_draw_itself_is_cut_into_folds() -> None:
    hide_validation_labels(99)
    settings = load.parameters("choose", "scratch")
    labels, classes = read_pool_labels()
    splits = splits_of([10, 40], settings, labels, len(classes))
    assert [str(split) for split in splits] == ["n40-draw1000-fold0", "n40-draw1000-fold1"]
    rows = draw_labelled(labels, len(classes), 40, CHOOSING, settings.seeds.draws).tolist()
    for split in splits:
        assert sorted([*split.rows, *split.held]) == sorted(rows)
        assert torch.equal(labels[split.held], torch.from_numpy(split.held_labels))
        assert split.labels == 40
    assert sorted(np.concatenate([split.held for split in splits])) == sorted(rows)
    every_budget.main("scratch")
    assert figures()["n40"]["by"] == "cross-validation"
    assert figures()["n10"]["by"] == "neighbouring budgets"  # one label a class
    assert chosen_recipes()["n10"] == chosen_recipes()["n40"]


@pytest.mark.usefixtures("small")
def test_other_images_under_the_labels_of_validation_are_scored_anew() -> None:
    every_budget.main("scratch")
    before = figures()
    images = np.load(IMAGES / "validation.npy")
    np.save(IMAGES / "validation.npy", images[::-1].copy())
    seal()
    every_budget.main("scratch")
    kept = figures()
    assert kept != before
    shutil.rmtree("models/checkpoints")
    every_budget.main("scratch")
    assert figures() == kept


@pytest.mark.usefixtures("small")
def test_a_candidate_that_diverges_is_not_chosen_and_stops_nothing(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(small / "params.yaml", {"choose.encoder_learning_rates": [0, 10.0], "finetune.schedule.steps": 40})
    train = trials.Judge.train

    def diverging(*arguments: Any) -> float:
        raise DivergedError("choose scratch: the loss is nan at step 3")

    trials.Judge.train = diverging  # type: ignore[method-assign]
    try:
        every_budget.main("scratch")
    finally:
        trials.Judge.train = train  # type: ignore[method-assign]
    assert {one.encoder_learning_rate for one in chosen_recipes().values()} == {0}
    assert figures()["n40"]["candidates"][1]["accuracy"] == 0
    assert "the loss is nan at step 3" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_chosen_frozen_encoder_is_its_own_linear_probe_also_when_distilled(
    cpu: Machine, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"choose.encoder_learning_rates": [0], "distil.few": 20, "distil.images": 100}
    change(small / "params.yaml", few | {"runtime.precision": "fp32", "runtime.device": "cpu"})  # as `cpu`
    every_budget.main("scratch")
    every_draw.main("scratch")
    settings, (labels, classes) = load.parameters("evaluate", "scratch"), read_pool_labels()
    images = np.load(IMAGES / "validation.npy")
    probe = FrozenEncoder(encoder_file("scratch", 0), images, labels, len(classes), settings, cpu)
    for budget in ("n10", "n40"):
        classifier, _ = read_classifier(CLASSIFIERS / "scratch" / f"{budget}-draw0.safetensors")
        found = probabilities(classifier, images, cpu).numpy()
        np.testing.assert_allclose(found, probe.predict(budget, 0)["linear"], atol=1e-6)
    job = Job("scratch", load.read(load.PARAMS), small)
    test = HeldOut(images, labels.numpy()[: len(images)], [], [], np.arange(len(images)))
    evaluator = Evaluator(job, settings, cpu, test, labels, classes)
    frozen, _ = read_classifier(CLASSIFIERS / "scratch" / "n10-draw0.safetensors")
    assert torch.equal(evaluator.predict(frozen, 0), probabilities(frozen, images, cpu))
    on_validation = evaluator.validation_accuracy(frozen, 0)
    monkeypatch.setattr(FrozenEncoder, "is_of", lambda *_: False)  # as if the encoder was finetuned
    assert evaluator.validation_accuracy(frozen, 0) == on_validation
    hidden = read_table(IMAGES / "validation.csv").assign(label="")  # else it decides what is taken
    write_table(IMAGES / "validation.csv", hidden)
    seal()
    small_budgets.main("scratch")
    given, _ = read_classifier(CLASSIFIERS / "scratch" / "n10-draw0.safetensors")
    spread, _ = read_classifier(DISTILLED / "scratch" / "n10-draw0.safetensors")
    for name, value in given.encoder.state_dict().items():
        assert torch.equal(spread.encoder.state_dict()[name], value), name
    assert not torch.equal(spread.head.weight, given.head.weight)


@pytest.mark.usefixtures("small")
def test_a_fixed_recipe_is_not_chosen(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(small / "params.yaml", {
        "finetune.recipe.scratch": {"encoder_learning_rate": 0.02}, "finetune.schedule.many": 40,
    })  # fmt: skip
    monkeypatch.setattr(trials.Judge, "judge", None)
    every_budget.main("scratch")
    recipes, default = (
        chosen_recipes(),
        load.parameters("choose", "scratch").finetune.recipe["default"],
    )
    assert recipes["n10"].encoder_learning_rate == 0.02
    assert recipes["n40"].encoder_learning_rate == default.encoder_learning_rate_many
    assert {one["by"] for one in figures().values()} == {"params.yaml"}
    assert not read_recipes(recipes_file("scratch")).or_frozen


class KilledError(Exception):
    """Stands for SIGKILL."""


@pytest.mark.usefixtures("small")
def test_a_killed_stage_resumes_and_ends_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every_budget.main("scratch")
    expected = recipes_file("scratch").read_bytes(), figures()
    recipes_file("scratch").unlink()
    for path in (CHECKPOINTS / "choose" / "scratch").iterdir():
        path.unlink()
    write = Checkpoint.write

    def killed(checkpoint: Checkpoint, *state: Any) -> None:
        write(checkpoint, *state)
        raise KilledError

    monkeypatch.setattr(Checkpoint, "due", lambda _checkpoint: True)
    monkeypatch.setattr(Checkpoint, "write", killed)
    kills, most = 0, 100
    while kills < most:
        try:
            every_budget.main("scratch")
            break
        except KilledError:
            kills += 1
            assert not recipes_file("scratch").exists()
    assert kills < most, "a killed stage starts anew each time"
    # Of each budget: the probe's score; after two steps and the score, of two rates at least.
    assert kills >= 2 * (1 + 3 * 2)
    assert (recipes_file("scratch").read_bytes(), figures()) == expected
    recipes_file("scratch").unlink()
    assert not recipes_file("scratch").exists()
    capsys.readouterr()
    every_budget.main("scratch")
    assert "resumed" not in capsys.readouterr().out  # all scores are there
    assert (recipes_file("scratch").read_bytes(), figures()) == expected


@pytest.mark.usefixtures("small")
def test_a_further_candidate_trains_itself_only(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every_budget.main("scratch")
    before = figures()
    change(
        small / "params.yaml", {"choose.encoder_learning_rates": [0, 0.003, 0.01, 0.03], "finetune.draws": 3}
    )
    capsys.readouterr()
    every_budget.main("scratch")
    steps = 2 * 2 * 32  # images, of two budgets
    assert f"choose scratch: {steps}/{steps} images" in capsys.readouterr().out
    for name, budget in figures().items():
        assert budget["candidates"][:3] == before[name]["candidates"][:3]


def test_a_damaged_file_of_recipes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipes_file("scratch").parent.mkdir(parents=True)
    recipes_file("scratch").write_text('{"recipes": {"n10": {"encoder_learning_rate": -1}}}')
    with pytest.raises(
        InputError,
        match=r"^models/recipes/scratch\.json: recipes.n10.encoder_learning_rate is -1; allowed: great",
    ):
        read_recipes(recipes_file("scratch"))


@pytest.mark.parametrize(
    ("key", "value"), [("encoder_learning_rates", []), ("encoder_learning_rates", [0.1, 0.1]), ("folds", 1)]
)
def test_an_impossible_grid_is_refused(raw: dict[str, Any], key: str, value: Any) -> None:
    put(raw, f"choose.{key}", value)
    with pytest.raises(InputError, match=f"choose.{key}"):
        load.validated(raw)


def test_a_recipe_is_frozen_if_the_encoder_does_not_learn() -> None:
    assert Recipe(encoder_learning_rate=0.0, head_learning_rate=0.01, weight_decay=0.5).frozen
    assert not DEFAULT.frozen
