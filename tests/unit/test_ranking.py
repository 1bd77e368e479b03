"""ROC, precision and thresholds of two classes, beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from stages.tasks.ranking import GRID, Ranking


def predictions(count: int = 400, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two classes, many of them equal, (N, 2); labels, a third of them 0, (N,)."""
    random = np.random.default_rng(0)
    labels = (np.arange(count) % 3 > 0).astype(np.int64)
    scores = (1 / (1 + np.exp(-random.normal(2 * labels - 1, 1.5)))).round(digits)
    return np.stack([1 - scores, scores], axis=1), labels


def test_the_area_and_the_curves_are_those_of_scikit_learn() -> None:
    predicted, labels = predictions()
    ranking = Ranking.of([predicted], labels)
    assert ranking is not None
    assert ranking.positive == 0  # the rarer class
    found, scores = labels == 0, predicted[:, 0]
    assert ranking.area == pytest.approx(roc_auc_score(found, scores))
    alarms, recall, _ = roc_curve(found, scores, drop_intermediate=False)
    highest = {rate: recall[alarms == rate].max() for rate in np.unique(alarms)}
    expected = np.interp(GRID, list(highest), list(highest.values()))
    np.testing.assert_allclose(ranking.recall, expected, atol=1e-9)
    precision, recall, _ = precision_recall_curve(found, scores)
    for rate, value in zip(GRID[1:], ranking.precision[1:], strict=True):
        least = recall[recall >= rate - 1e-12].min()
        assert value == pytest.approx(precision[recall == least].max())


def test_half_is_what_the_larger_probability_decides() -> None:
    predicted, labels = predictions(digits=6)
    ranking = Ranking.of([predicted], labels)
    assert ranking is not None
    half, right = int(np.flatnonzero(GRID == 0.5)[0]), predicted.argmax(1) == labels
    assert ranking.sensitivity[half] == pytest.approx(right[labels == 0].mean())
    assert ranking.specificity[half] == pytest.approx(right[labels == 1].mean())
    assert (ranking.sensitivity[0], ranking.specificity[0]) == (1, 0)
    assert (np.diff(ranking.sensitivity) <= 0).all()


def test_several_models_are_averaged() -> None:
    predicted, labels = predictions()
    both = Ranking.of([predicted, predicted[:, ::-1]], labels)
    assert both is not None
    assert both.area == pytest.approx(0.5)


@pytest.mark.parametrize("labels", [np.zeros(5, dtype=np.int64), np.ones(5, dtype=np.int64)])
def test_without_images_of_both_classes_there_is_none(labels: np.ndarray) -> None:
    assert Ranking.of([np.full((5, 2), 0.5)], labels) is None


def test_three_classes_have_none() -> None:
    assert Ranking.of([np.full((6, 3), 1 / 3)], np.arange(6) % 3) is None
