"""From the predictions of evaluate to replicates: real files, with two methods."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.compare import measured
from stages.compare.predictions import overlap, read
from stages.errors import InputError
from stages.files.packs import write_array
from stages.files.paths import PREDICTED_IMAGES, PREDICTIONS
from stages.files.tables import write_table
from stages.tasks.labels import units_of
from stages.tasks.model_index import Model, write_index
from stages.tasks.scores import measure

LABELS = np.arange(12) % 2
UNITS = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8])


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[np.ndarray]]:
    """Two draws of two methods, as evaluate writes them; the probabilities of each method."""
    monkeypatch.chdir(tmp_path)
    random, predictions = np.random.default_rng(0), {}
    for method in ("scratch", "simclr"):
        of_first = random.uniform(size=(2, 12)).astype(np.float32)
        predictions[method] = [np.stack([first, 1 - first], axis=1) for first in of_first]
        models = [Model(f"n4-draw{d}-finetuned.npy", "finetuned", "n4", d, d % 2, "file") for d in (0, 1)]
        folder = PREDICTIONS / method
        for model, content in zip(models, predictions[method], strict=True):
            write_array(folder / model.file, content)
        write_index(folder, models)
        ids = [f"image {row}" for row in range(12)]
        write_table(folder / PREDICTED_IMAGES, pd.DataFrame({"id": ids, "label": LABELS, "unit": UNITS}))
    return predictions


def test_predictions_become_replicates_of_units(written: dict[str, list[np.ndarray]]) -> None:
    evaluations = read(["scratch", "simclr"], ["n4"], labelled=[10, 10])
    of_simclr = evaluations["simclr"]["n4"]["finetuned"]
    assert list(of_simclr.figures) == [measure(draw, LABELS) for draw in written["simclr"]]
    assert list(of_simclr.runs) == [0, 1]
    assert of_simclr.overlap == pytest.approx(4 / 20)
    accuracy = of_simclr.replicates("accuracy")
    assert accuracy.units.shape == (2, 9)
    np.testing.assert_allclose(accuracy.units.mean(1), accuracy.values, atol=6e-5)
    recall = of_simclr.recall(1)
    assert recall.units.shape == (2, 6)  # those units that have images of the class
    np.testing.assert_allclose(recall.units.mean(1), recall.values, atol=6e-5)


def test_the_recall_of_a_class_with_few_images_has_no_interval() -> None:
    random, labels = np.random.default_rng(0), np.repeat([0, 1, 2], [50, 5, 4])
    predictions = [random.dirichlet(np.ones(3), 59).astype(np.float32) for _ in range(3)]
    of = measured.Measured.of(predictions, labels, np.arange(59), [0] * 3, overlap=0.0)
    assert of.recall(0).estimate().has_interval
    assert of.recall(1).estimate().ci95 > 2 * of.recall(0).estimate().ci95
    assert not of.recall(2).estimate().has_interval


@pytest.mark.usefixtures("written")
def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"^data/predictions/scratch: has no budget n9; run `dvc repro`$"):
        read(["scratch"], ["n9"], [10, 10])
    table = pd.read_csv(PREDICTIONS / "simclr" / PREDICTED_IMAGES)
    write_table(PREDICTIONS / "simclr" / PREDICTED_IMAGES, table.assign(id=table["id"] + "b"))
    with pytest.raises(
        InputError, match=r"simclr/images.csv: its images are not those of .*scratch/images.csv"
    ):
        read(["scratch", "simclr"], ["n4"], [10, 10])
    write_table(PREDICTIONS / "scratch" / PREDICTED_IMAGES, table.assign(unit="x"))
    with pytest.raises(InputError, match=r"column unit is not a number in every row"):
        read(["scratch"], ["n4"], [10, 10])


@pytest.mark.usefixtures("written")
def test_other_draws_or_runs_cannot_be_paired() -> None:
    models = [Model(f"n4-draw{d}-finetuned.npy", "finetuned", "n4", d, 0, "file") for d in (0, 1)]
    write_index(PREDICTIONS / "simclr", models)
    with pytest.raises(InputError, match=r"simclr: has other draws or runs than data/predictions/scratch"):
        read(["scratch", "simclr"], ["n4"], [10, 10])


@pytest.mark.usefixtures("written")
def test_a_sum_of_votes_may_be_above_one_by_rounding() -> None:
    file = PREDICTIONS / "scratch" / "n4-draw1-finetuned.npy"
    write_array(file, np.tile(np.array([1.0000002, 0.0], dtype=np.float32), (12, 1)))
    assert read(["scratch"], ["n4"], [10, 10])["scratch"]["n4"]["finetuned"].figures


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    "content",
    [
        np.zeros((12, 2)),  # not float32
        np.zeros((11, 2), dtype=np.float32),
        np.full((12, 2), 7, dtype=np.float32),
        np.full((12, 2), np.nan, dtype=np.float32),
        np.zeros(12, dtype=np.float32),
        None,
    ],
)
def test_damaged_predictions_are_named(content: np.ndarray | None) -> None:
    file = PREDICTIONS / "scratch" / "n4-draw1-finetuned.npy"
    if content is None:
        file.write_bytes(file.read_bytes()[:70])
    else:
        write_array(file, content)
    with pytest.raises(InputError, match=rf"^{file}: "):
        read(["scratch"], ["n4"], [10, 10])


def test_without_a_budget_nothing_is_read() -> None:
    assert read(["scratch", "simclr"], [], []) == {"scratch": {}, "simclr": {}}


@pytest.mark.parametrize(
    ("labelled", "budget", "expected"),
    [
        ([5500] * 10, "n100", 100 / 55000),
        ([21] * 10, "n100", 100 / 210),
        ([10, 90], "n20", (10 * 10 / 10 + 10 * 10 / 90) / 20),  # balanced: all of the rare class
        ([21] * 10, "nall", 1),
        ([21] * 10, "n210", 1),
        ([0, 30], "n10", 10 / 30),
    ],
)
def test_overlap_of_draws(labelled: list[int], budget: str, expected: float) -> None:
    assert overlap(labelled, budget) == pytest.approx(expected)


def test_a_group_is_a_unit_and_so_is_an_image_without_one() -> None:
    assert units_of(pd.DataFrame({"id": list("abc")})).tolist() == [0, 1, 2]
    table = pd.DataFrame({"group": ["p1", "", "p2", "p1", ""]})
    assert units_of(table).tolist() == [0, 1, 2, 0, 3]


def test_a_class_with_few_images_widens_the_interval_of_macro_recall() -> None:
    """All of the rare class are right, as often happens where some are wrong elsewhere."""
    labels = np.repeat([0, 1], [95, 5])
    random, predictions = np.random.default_rng(0), []
    for _ in range(5):
        wrong = random.permutation(95)[:20]
        guesses = labels.copy()
        guesses[wrong] = 1
        predictions.append(np.eye(2, dtype=np.float32)[guesses])
    of = measured.Measured.of(predictions, labels, np.arange(100), [0] * 5, overlap=0.0)
    macro, accuracy = (of.replicates(name).estimate().ci95 for name in ("recall_macro", "accuracy"))
    assert macro > 2 * accuracy
    assert macro > 0.5 * 0.3  # half of an interval in which a recall of 70 % of five images lies


def test_one_group_of_a_class_gives_no_interval_of_macro_recall() -> None:
    random, labels = np.random.default_rng(0), np.repeat([0, 1], [270, 30])
    predictions = [random.dirichlet(np.ones(2), 300).astype(np.float32) for _ in range(4)]
    for groups, has_interval in ((np.arange(300) // 30, False), (np.arange(300) // 10, True)):
        of = measured.Measured.of(predictions, labels, groups, [0] * 4, overlap=0.0)
        assert of.replicates("accuracy").estimate().has_interval
        assert of.replicates("recall_macro").estimate().has_interval == has_interval


def test_one_group_with_most_of_the_images_is_no_sample() -> None:
    random, labels = np.random.default_rng(0), np.arange(260) % 2
    predictions = [random.dirichlet(np.ones(2), 260).astype(np.float32) for _ in range(4)]
    one_large = np.repeat(np.arange(31), [200, *[2] * 30])
    alike = np.arange(260) // 8
    for units, has_interval in ((one_large, False), (alike, True)):
        of = measured.Measured.of(predictions, labels, units, [0] * 4, overlap=0.0)
        assert of.replicates("accuracy").estimate().has_interval == has_interval
        assert of.replicates("accuracy").over(of.replicates("nll")).effective == (
            1 if units is one_large else 32
        )
