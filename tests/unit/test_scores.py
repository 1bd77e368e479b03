"""Scores against scikit-learn and by hand; peers/test_metrics compares the calibration error."""

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from stages.evaluate.diagnostics import confusion_table
from stages.tasks.scores import (
    accuracy_bounds,
    by_unit,
    calibration_error,
    confusion,
    contributions,
    effective,
    measure,
    negative_log_likelihood,
    recall_bounds,
)

CLASSES = 7


def predictions(seed: int, n: int = 400, never: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are better than chance; class `never` is never predicted."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(CLASSES, size=n)
    logits = generator.normal(size=(n, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    if never is not None:
        logits[:, never] = -9
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities.astype(np.float32), labels


@pytest.mark.parametrize("never", [None, 0, 4])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_scikit_learns(seed: int, never: int | None) -> None:
    probabilities, labels = predictions(seed, never=never)
    predicted = probabilities.argmax(1)
    assert (never in predicted) is False
    macro = {"average": "macro", "zero_division": 0}
    recall = reference.recall_score(labels, predicted, average=None, zero_division=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float32 rows do not sum to exactly 1
        nll = reference.log_loss(labels, probabilities.astype(np.float64), labels=range(CLASSES))
    figures = measure(probabilities, labels)
    assert figures.pop("nll") == pytest.approx(nll, abs=6e-5)
    assert figures == {
        "accuracy": round(reference.accuracy_score(labels, predicted), 4),
        "recall_macro": round(reference.recall_score(labels, predicted, **macro), 4),
        "precision_macro": round(reference.precision_score(labels, predicted, **macro), 4),
        "f1_macro": round(reference.f1_score(labels, predicted, **macro), 4),
        "ece": round(calibration_error(probabilities, labels), 4),
        "recall": [round(r, 4) for r in recall],
    }


@pytest.mark.parametrize("seed", range(3))
def test_confusion_is_scikit_learns(seed: int) -> None:
    probabilities, labels = predictions(seed, never=2)
    ours = confusion(probabilities.argmax(1), labels, CLASSES)
    expected = reference.confusion_matrix(labels, probabilities.argmax(1), labels=range(CLASSES))
    assert ours.tolist() == expected.tolist()


def test_confusion_has_actual_rows_and_predicted_columns() -> None:
    table = confusion(predicted=np.array([2, 2, 0]), labels=np.array([1, 1, 0]), classes=3)
    assert table.tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]


def test_a_class_without_images_is_left_out_of_the_means() -> None:
    probabilities, labels = predictions(0)
    labels = np.where(labels == 3, 4, labels)
    predicted = probabilities.argmax(1)
    assert 3 in predicted
    present = [c for c in range(CLASSES) if c != 3]
    figures = measure(probabilities, labels)
    assert figures["recall"][3] is None
    assert all(isinstance(figures["recall"][c], float) for c in present)
    for name, score in (
        ("recall_macro", reference.recall_score),
        ("precision_macro", reference.precision_score),
        ("f1_macro", reference.f1_score),
    ):
        expected = score(labels, predicted, labels=present, average="macro", zero_division=0)
        assert figures[name] == round(expected, 4)


def test_nll_of_certainty_is_zero_and_of_a_certain_mistake_is_bounded() -> None:
    certain_rows = np.eye(3, dtype=np.float32)
    assert negative_log_likelihood(certain_rows, np.array([0, 1, 2])) == 0
    assert negative_log_likelihood(certain_rows, np.array([1, 1, 2])) == pytest.approx(-math.log(1e-12) / 3)
    even = np.full((4, 5), 0.2)
    assert negative_log_likelihood(even, np.array([0, 1, 2, 3])) == pytest.approx(math.log(5))


def certain(confidence: float, n: int) -> np.ndarray:
    return np.tile([confidence, 1 - confidence], (n, 1))


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [(1.0, 10, 0.0), (1.0, 0, 1.0), (0.7, 7, 0.0), (0.7, 2, 0.5), (0.9, 10, 0.1), (0.6, 0, 0.6)],
)
def test_calibration_error_by_hand(confidence: float, right: int, expected: float) -> None:
    labels = np.array([0] * right + [1] * (10 - right))
    assert calibration_error(certain(confidence, 10), labels) == pytest.approx(expected, abs=1e-9)


def test_calibration_errors_of_different_bins_do_not_cancel() -> None:
    # Overconfident by 0.2 and underconfident by 0.2: 0 on average, but neither is calibrated.
    probabilities = np.concatenate([certain(0.9, 10), certain(0.7, 10)])
    labels = np.array([0] * 7 + [1] * 3 + [0] * 9 + [1] * 1)
    assert calibration_error(probabilities, labels) == pytest.approx(0.2)


def test_calibration_errors_within_a_bin_cancel() -> None:
    probabilities = np.concatenate([certain(0.81, 10), certain(0.85, 10)])  # both in (12/15, 13/15]
    labels = np.array([0] * 9 + [1] * 1 + [0] * 8 + [1] * 2)
    assert calibration_error(probabilities, labels) == pytest.approx(abs(17 / 20 - 0.83))


def test_confusion_table_has_shares_of_each_actual_class() -> None:
    counts = np.array([[6, 2], [0, 0]])
    table = confusion_table(counts, ["cat", "dog"], 4, "n10")
    assert table.to_dict("list") == {
        "budget": ["n10"] * 4,
        "actual": ["cat", "cat", "dog", "dog"],
        "predicted": ["cat", "dog", "cat", "dog"],
        "images": [1.5, 0.5, 0.0, 0.0],
        "share": [0.75, 0.25, 0.0, 0.0],
    }


@pytest.fixture
def predicted() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 300 images and 4 classes, of which 3 has no image and 2 is never predicted; labels."""
    random = np.random.default_rng(0)
    labels = random.choice(3, 300, p=[0.6, 0.3, 0.1])
    logits = random.normal(size=(300, 4)) + 2 * np.eye(4)[labels]
    logits[:, 2] = -9
    odds = np.exp(2 * logits)
    return (odds / odds.sum(1, keepdims=True)).astype(np.float32), labels


SCORES = ("accuracy", "recall_macro", "precision_macro", "f1_macro", "nll", "ece")


@pytest.mark.parametrize("metric", SCORES)
def test_a_score_is_the_mean_of_what_the_images_contribute(
    predicted: tuple[np.ndarray, np.ndarray], metric: str
) -> None:
    contributed = contributions(*predicted)[metric]
    assert contributed.shape == (300,)
    assert contributed.mean() == pytest.approx(measure(*predicted)[metric], abs=6e-5)


@pytest.mark.parametrize("metric", SCORES)
def test_contributions_have_the_spread_of_the_jackknife(
    predicted: tuple[np.ndarray, np.ndarray], metric: str
) -> None:
    """The score without one image, for each image: its variance is that of the mean of the contributions."""
    probabilities, labels = predicted
    rows = np.arange(len(labels))
    without = [contributions(probabilities[rows != i], labels[rows != i])[metric].mean() for i in rows]
    jackknife = (len(rows) - 1) * np.var(without)
    contributed = contributions(probabilities, labels)[metric]
    assert np.var(contributed, ddof=1) / len(rows) == pytest.approx(jackknife, rel=0.05)


def test_units_contribute_what_their_images_do() -> None:
    contributed = np.random.default_rng(0).normal(size=(2, 12))
    np.testing.assert_allclose(by_unit(contributed, np.arange(12)), contributed)
    units = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 3])
    grouped = by_unit(contributed, units)
    assert grouped.shape == (2, 4)
    np.testing.assert_allclose(grouped.mean(1), contributed.mean(1))
    mean = contributed.mean(1)
    first = mean + 4 / 12 * (contributed[:, :5] - mean[:, None]).sum(1)
    np.testing.assert_allclose(grouped[:, 0], first)


def test_the_bounds_of_macro_recall_are_what_an_image_can_contribute() -> None:
    labels = np.repeat([0, 2, 5], [6, 3, 1])  # numbers of classes may have gaps
    guesses = np.array([0, 0, 0, 2, 2, 0, 2, 5, 2, 5])
    certain = np.eye(6)
    contributed = contributions(certain[guesses], labels)["recall_macro"]
    bounds = recall_bounds([4 / 6, 2 / 3, 1.0], labels, np.arange(10))
    right, wrong = bounds[:3], bounds[3:]
    for number, label in enumerate((0, 2, 5)):
        of_class = contributed[labels == label]
        hit = guesses[labels == label] == label
        assert of_class[hit] == pytest.approx(right[number])
        assert of_class[~hit] == pytest.approx(wrong[number])
    assert wrong[2] < contributed.min()  # the only image of its class could have been wrong


def test_the_bounds_are_what_the_largest_group_can_contribute() -> None:
    labels, units = np.repeat([0, 1], [6, 4]), np.array([0, 0, 0, 1, 2, 2, 3, 3, 4, 5])
    right = np.array([1, 1, 1, 0, 1, 0, 1, 1, 0, 1])  # all of the largest groups of both classes
    contributed = by_unit(right.astype(float), units)
    high, low = accuracy_bounds(right.mean(), units)
    assert high == pytest.approx(contributed[0])
    assert low == pytest.approx(contributed[0] - 3 * 6 / 10)  # its three images of ten, as one of six units
    certain, guesses = np.eye(2), np.where(right, labels, 1 - labels)
    of_macro = by_unit(contributions(certain[guesses], labels, units)["recall_macro"], units)
    bounds = recall_bounds([4 / 6, 3 / 4], labels, units)
    assert of_macro[[0, 3]] == pytest.approx(bounds[:2])
    assert min(bounds[2:]) < of_macro.min()


def test_few_groups_of_a_class_spread_its_contributions_as_few_images_do() -> None:
    labels, units = np.repeat([0, 1], [6, 6]), np.arange(12) // 3  # two groups of each class
    certain = np.eye(2)[np.where(np.arange(12) % 4 == 0, 1 - labels, labels)]
    grouped, alone = (contributions(certain, labels, of)["recall_macro"] for of in (units, None))
    assert np.ptp(grouped) == pytest.approx(np.sqrt(2 / (6 / 5)) * np.ptp(alone))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([1] * 7, 7), ([10] * 6, 6), ([200, *[2] * 30], 1), ([30, *[10] * 9], 8), ([5], 1)],
)
def test_one_large_unit_says_less_than_many(sizes: list[int], expected: int) -> None:
    assert effective(np.repeat(np.arange(len(sizes)), sizes)) == expected
