"""Choosing a recipe: the rule on planted accuracies, folds, and the stage in this process on a few digits."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.choose import every_budget, trials
from stages.choose.rule import chosen, smoothed
from stages.choose.splits import fold_numbers, splits_of
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
from stages.training.checkpoint import CHECKPOINTS, Checkpoint
from stages.training.machine import Machine
from stages.training.optimisation import DivergedError
from stages.training.randomness import Stream
from tests.conftest import put
from tests.pipeline.conftest import change
from tests.unit.test_stages import project  # noqa: F401 (a fixture)

DEFAULT = FixedRecipe(
    encoder_learning_rate=0.003, head_learning_rate=0.01, weight_decay=0.5,
    encoder_learning_rate_many=0.001, weight_decay_many=0.05,
)  # fmt: skip
GRID = Choose(
    encoder_learning_rates=(0.0, 0.001, 0.003, 0.01, 0.03),
    weight_decays=(0.5,),
    length=0.5,
    validation=50,
    folds=3,
)
CANDIDATES = every_budget.candidates_of(GRID, DEFAULT)


def rates(numbers: list[int | None]) -> list[float | None]:
    return [None if number is None else CANDIDATES[number].encoder_learning_rate for number in numbers]


# --- the grid and the rule


def test_the_frozen_encoder_is_one_candidate_whatever_the_decays() -> None:
    grid = GRID.model_copy(update={"weight_decays": (2.0, 0.5), "encoder_learning_rates": (0.01, 0.0)})
    points = [
        (one.encoder_learning_rate, one.weight_decay) for one in every_budget.candidates_of(grid, DEFAULT)
    ]
    assert points == [(0, 0.5), (0.01, 0.5), (0.01, 2.0)]


@pytest.mark.parametrize(
    ("accuracy", "rate"),
    [
        ([0.80, 0.70, 0.65, 0.60, 0.50], 0.0),  # every rate throws features away
        ([0.30, 0.60, 0.70, 0.78, 0.70], 0.01),
        ([0.30, 0.60, 0.70, 0.74, 0.80], 0.03),
        ([0.50, 0.76, 0.66, 0.75, 0.75], 0.03),  # a lone peak is luck
        ([0.70, 0.70, 0.70, 0.70, 0.70], 0.0),  # of equally good ones the weakest
    ],
)
def test_the_best_candidate_among_good_neighbours_is_chosen(accuracy: list[float], rate: float) -> None:
    assert rates(chosen([np.array(accuracy)], CANDIDATES)) == [rate]


def test_the_frozen_encoder_is_no_neighbour_of_a_low_rate() -> None:
    result = smoothed(np.array([0.9, 0.1, 0.1, 0.1, 0.1]), CANDIDATES)
    assert result.tolist() == pytest.approx([0.9, 0.1, 0.1, 0.1, 0.1])
    two = every_budget.candidates_of(GRID.model_copy(update={"weight_decays": (0.5, 2.0)}), DEFAULT)
    planted = np.zeros(len(two))
    planted[3] = 1.0  # rate 0.003, decay 0.5; the candidate beside it has decay 2
    near = {n for n, value in enumerate(smoothed(planted, two)) if value > 0}
    assert {(two[n].encoder_learning_rate, two[n].weight_decay) for n in near} == {
        (0.003, 0.5), (0.001, 0.5), (0.01, 0.5), (0.003, 2.0),
    }  # fmt: skip


def test_a_budget_leans_on_its_neighbours_and_takes_their_choice_where_nothing_was_measured() -> None:
    low, close = np.array([0.50, 0.7, 0.68, 0.6, 0.5]), np.array([0.4, 0.58, 0.60, 0.62, 0.60])
    assert rates(chosen([close], CANDIDATES)) == [0.01]
    assert rates(chosen([low, close], CANDIDATES))[1] < 0.01
    assert rates(chosen([None, low, None, None], CANDIDATES)) == [0.001, 0.001, 0.001, None]
    assert rates(chosen([low + 0.2, close], CANDIDATES)) == rates(chosen([low, close], CANDIDATES))


def test_each_class_counts_the_same_however_many_of_its_images_are_held_out() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    frequent, rare = labels == 0, labels == 1
    assert trials.balanced_accuracy(frequent, labels) == 0.5  # not 0.9
    assert trials.balanced_accuracy(rare, labels) == 0.5
    assert trials.balanced_accuracy(frequent | rare, labels) == 1


# --- folds


def test_folds_keep_groups_together_and_spread_classes() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(1, 6, 30))
    labels = rng.integers(0, 3, len(groups))
    folds = fold_numbers(labels, groups, 3, Stream.of(1, "folds"))
    for group in range(30):
        assert len(set(folds[groups == group])) == 1
    table = pd.crosstab(labels, folds)
    assert table.shape == (3, 3)
    assert (table.max(axis=1) - table.min(axis=1)).max() <= 5  # the size of a group
    assert np.array_equal(folds, fold_numbers(labels, groups, 3, Stream.of(1, "folds")))
    assert not np.array_equal(folds, fold_numbers(labels, groups, 3, Stream.of(2, "folds")))


def test_images_without_groups_are_stratified_exactly() -> None:
    labels = np.repeat([0, 1], [9, 6])
    folds = fold_numbers(labels, np.arange(15), 3, Stream.of(1, "folds"))
    assert pd.crosstab(labels, folds).to_numpy().tolist() == [[3, 3, 3], [2, 2, 2]]
    assert set(fold_numbers(labels, np.zeros(15, int), 3, Stream.of(1, "folds"))) == {0}


# --- the stage


@pytest.fixture
def small(project: Path) -> Path:  # noqa: F811
    """Three candidates, two steps each; validation has 312 labels."""
    change(project / "params.yaml", {
        "finetune.budgets": [10, 40], "finetune.draws": 1, "distil.steps": 3,
        "choose.encoder_learning_rates": [0, 0.003, 0.01], "choose.validation": 60, "choose.folds": 2,
    })  # fmt: skip
    recipes_file("scratch").unlink()
    return project


def hide_validation_labels(keep: int) -> None:
    table = read_table(IMAGES / "validation.csv", text=True)
    write_table(IMAGES / "validation.csv", table.assign(label=table["label"].where(table.index < keep, "")))


def figures() -> Any:
    return read_json(METRICS / "choose" / "scratch.json")["budgets"]


@pytest.mark.usefixtures("small")
def test_each_budget_gets_the_candidate_that_the_rule_takes_from_the_metrics() -> None:
    every_budget.main("scratch")
    recipes, measured = read_recipes("scratch"), figures()
    assert list(recipes) == ["n10", "n40"]
    candidates = every_budget.candidates_of(load.parameters("choose", "scratch").choose, DEFAULT)
    accuracies = [np.array([row["accuracy"] for row in measured[name]["candidates"]]) for name in recipes]
    for name, accuracy in zip(recipes, accuracies, strict=True):
        if rival := measured[name].get("in_full"):
            rates = [one.encoder_learning_rate for one in candidates]
            accuracy[0] -= rival["accuracy"] - accuracy[rates.index(rival["encoder_learning_rate"])]
    expected = [candidates[number or 0] for number in chosen(accuracies, candidates)]
    assert list(recipes.values()) == expected
    for name in recipes:
        assert measured[name]["by"] == "labels of validation"
        assert measured[name]["recipe"] == recipes[name].model_dump()
    assert read_json(METRICS / "timings" / "choose" / "scratch.json")["workers"] == 1


@pytest.mark.parametrize("winner", [0.0, 0.003, 0.01])
@pytest.mark.usefixtures("small")
def test_the_candidate_with_the_most_right_answers_wins(
    winner: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(_: trials.Judge, trial: trials.Trial, __: Any) -> trials.Scored:
        right = trial.recipe.encoder_learning_rate == winner
        number = np.arange(len(trial.split.held))
        return trials.Scored(1.0, 1, number % 10 < (9 if right else 5))

    monkeypatch.setattr(trials.Judge, "judge", planted)
    every_budget.main("scratch")
    assert {one.encoder_learning_rate for one in read_recipes("scratch").values()} == {winner}


@pytest.mark.parametrize(("in_full", "winner"), [(0.95, 0.01), (0.85, 0.0)])
@pytest.mark.usefixtures("small")
def test_the_frozen_encoder_has_to_be_better_than_a_training_in_full(
    in_full: float, winner: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(_: trials.Judge, trial: trials.Trial, __: Any) -> trials.Scored:
        rate, short = trial.recipe.encoder_learning_rate, trial.schedule.steps < 4
        accuracy = 0.9 if rate == 0 else 0.7 + rate if short else in_full
        return trials.Scored(1.0, 1, np.full(len(trial.split.held), accuracy))

    monkeypatch.setattr(trials.Judge, "judge", planted)
    every_budget.main("scratch")
    assert {one.encoder_learning_rate for one in read_recipes("scratch").values()} == {winner}
    for budget in figures().values():
        assert budget["in_full"] == {"encoder_learning_rate": 0.01, "accuracy": in_full}


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
    assert read_recipes("scratch")["n10"] == read_recipes("scratch")["n40"]


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
    assert {one.encoder_learning_rate for one in read_recipes("scratch").values()} == {0}
    assert figures()["n40"]["candidates"][1]["accuracy"] == 0
    assert "the loss is nan at step 3" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_chosen_frozen_encoder_is_its_own_linear_probe_also_when_distilled(
    cpu: Machine, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(
        small / "params.yaml", {"choose.encoder_learning_rates": [0], "distil.few": 20, "distil.images": 100}
    )
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
        read_recipes("scratch"),
        load.parameters("choose", "scratch").finetune.recipe["default"],
    )
    assert recipes["n10"].encoder_learning_rate == 0.02
    assert recipes["n40"].encoder_learning_rate == default.encoder_learning_rate_many
    assert {one["by"] for one in figures().values()} == {"params.yaml"}


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
    # Of each budget: the probe's score; after two steps and the score, twice; and the rivals in full.
    assert kills >= 2 * (1 + 2 * 3)
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
        assert budget["candidates"][:3] == before[name]["candidates"]


def test_a_damaged_file_of_recipes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipes_file("scratch").parent.mkdir(parents=True)
    recipes_file("scratch").write_text('{"n10": {"encoder_learning_rate": -1}}')
    with pytest.raises(InputError, match=r"^models/recipes/scratch\.json: is not a recipe for each budget"):
        read_recipes("scratch")


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
