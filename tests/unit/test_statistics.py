import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from stages.compare.statistics import Design, Replicates, estimate, half_width, paired_gain


def replicates(units: np.ndarray, runs: list[int] | None = None, overlap: float = 0.0) -> Replicates:
    return Replicates(units.mean(1).tolist(), units, runs or [0] * len(units), overlap)


@pytest.fixture
def units() -> np.ndarray:
    """Whether each of 4 models is right on each of 200 images; some images are harder."""
    random = np.random.default_rng(0)
    chance = random.beta(4, 1, 200) * np.array([[0.9], [1.0], [0.95], [0.85]])
    return (random.random((4, 200)) < chance).astype(float)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("seed", range(3))
def test_over_draws_alone_the_interval_is_that_of_students_t(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.9, 0.05, n)
    ours = estimate(values.tolist())
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert ours.mean == pytest.approx(values.mean())
    assert ours.mean - ours.ci95 == pytest.approx(low)
    assert ours.mean + ours.ci95 == pytest.approx(high)


def test_an_accuracy_near_one_on_few_images_is_not_certain() -> None:
    units = np.ones((10, 60))
    units[3, 7] = 0  # one image is wrong in one draw
    within = [0.0] * 10, 0.0
    known = Replicates(units.mean(1).tolist(), units, *within, bounds=(0, 1)).estimate()
    unknown = Replicates(units.mean(1).tolist(), units, *within).estimate()
    assert known.mean - known.ci95 < 0.97  # 60 right ones of 60 happen once in six times if 97 % are right
    assert unknown.mean - unknown.ci95 > 0.98
    half_of_all = np.repeat([[1.0, 0.0]], 30, axis=0).reshape(1, 60).repeat(10, axis=0)
    half_of_all[0, 0] = 0  # of the extremes one is there
    both = (
        Replicates(half_of_all.mean(1).tolist(), half_of_all, *within, end).estimate().ci95
        for end in (None, (0, 1))
    )
    assert len({round(value, 3) for value in both}) == 1  # the extremes are in the data


def test_gain_is_taken_draw_by_draw() -> None:
    control, values = [0.70, 0.80, 0.90], [0.73, 0.82, 0.94]
    ours = paired_gain(values, control)
    # The draws differ far more than the methods, so an unpaired interval would be much wider.
    assert ours.ci95 < estimate(values).ci95 / 5
    test = stats.ttest_rel(values, control).confidence_interval(0.95)
    assert (ours.mean - ours.ci95, ours.mean + ours.ci95) == pytest.approx((test.low, test.high))


@pytest.mark.parametrize("values", [[0.9], [0.9, 0.9], [0.1] * 3])
def test_one_draw_and_equal_draws_have_no_interval(values: list[float]) -> None:
    ours = estimate(values)
    assert ours.mean == pytest.approx(values[0])
    assert not ours.has_interval


def test_no_draw_has_no_mean() -> None:
    for function in (lambda: estimate([]), Replicates([], np.zeros((0, 9)), [], 0.0).estimate):
        with pytest.raises(ValueError, match="a mean needs at least 1 draw"):
            function()


def test_the_mean_is_that_of_the_values(units: np.ndarray) -> None:
    ours = replicates(units).estimate()
    assert ours.mean == pytest.approx(units.mean())
    assert ours.has_interval


def test_many_images_leave_the_interval_of_the_draws() -> None:
    random = np.random.default_rng(1)
    draws = random.normal(0.8, 0.05, 4)
    units = (random.random((4, 200_000)) < draws[:, None]).astype(float)
    ours, alone = replicates(units).estimate(), estimate(units.mean(1).tolist())
    assert ours.ci95 == pytest.approx(alone.ci95, rel=0.01)


def test_equal_models_of_equal_labels_leave_the_interval_of_the_images() -> None:
    right = (np.arange(1000) % 5 > 0).astype(float)  # 80 %
    ours = replicates(np.tile(right, (4, 1)), overlap=1.0).estimate()
    binomial = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert ours.ci95 == pytest.approx(binomial, rel=0.01)


def test_few_images_widen_the_interval(units: np.ndarray) -> None:
    """Where draws hardly differ, the half-width is at least the binomial one."""
    for size in (60, 200):
        accuracy = units[:, :size].mean()
        binomial = 1.96 * math.sqrt(accuracy * (1 - accuracy) / (4 * size))  # of independent errors
        assert half_width(units[:, :size], [0] * 4, 0.0) > binomial


def test_draws_that_share_labels_have_wider_intervals(units: np.ndarray) -> None:
    widths = [half_width(units, [0] * 4, overlap) for overlap in (0.0, 0.2, 0.5, 0.9)]
    assert widths == sorted(widths)
    assert widths[2] > 1.3 * widths[0]
    # All draws have the same labels: the interval holds for these.
    assert half_width(units, [0] * 4, 1.0) == widths[0]


def test_runs_that_differ_widen_the_interval() -> None:
    random = np.random.default_rng(2)
    runs = [0, 1, 2] * 3
    of_run = np.array([0.7, 0.8, 0.9])[runs]
    units = (random.random((9, 5000)) < of_run[:, None]).astype(float)
    means = [float(units[[r == run for r in runs]].mean()) for run in range(3)]
    nested = estimate(means).ci95  # three runs are three values
    assert half_width(units, runs, 0.0) == pytest.approx(nested, rel=0.15)
    assert half_width(units, list(range(9)), 0.0) < nested / 2  # as if there were nine
    equal = (random.random((9, 5000)) < 0.8).astype(float)
    assert half_width(equal, runs, 0.0) < nested / 5


def test_the_gain_is_paired_by_image_and_draw(units: np.ndarray) -> None:
    control = units.copy()
    control[:, :10] = 0.0  # wrong on ten images more
    gain = replicates(units).over(replicates(control)).estimate()
    assert gain.mean == pytest.approx(units[:, :10].sum() / units.size)
    assert gain.ci95 < replicates(units).estimate().ci95
    with pytest.raises(ValueError, match="zip"):
        replicates(units).over(replicates(units[:3]))


@pytest.mark.parametrize(
    ("make", "overlap"),
    [
        (lambda units: units[:1], 0.0),  # one draw
        (lambda units: units[[0, 0, 0]], 0.3),  # equal draws of different labels
        (lambda units: np.ones((3, 200)), 1.0),  # always right
        (lambda units: units[:, :4], 0.0),  # four images
    ],
)
def test_where_nothing_varies_there_is_no_interval(
    make: Callable[[np.ndarray], np.ndarray], overlap: float, units: np.ndarray
) -> None:
    ours = replicates(make(units), overlap=overlap).estimate()
    assert math.isnan(ours.ci95)
    assert not ours.has_interval


def test_the_design_is_put_in_words() -> None:
    assert Design(1, 1, 400, 400, 99).why_no_interval() == "one draw has no interval"
    assert Design(4, 1, 400, 400, 99).why_no_interval() == "equal draws have no interval"
    few = "a test that counts as fewer than 5 images has no interval"
    assert Design(4, 1, 40, 4, 99).why_no_interval() == few
    several = Design(10, 3, 982, 90, 99)
    assert several.covered() == (
        "An interval covers the choice of the labels (10 draws), the randomness of finetuning, of "
        "pretraining (3 runs), and the choice of the 982 test images, whose groups count as 90."
    )
    assert "the choice of the recipe" in several.not_covered()
    assert "pretraining" not in several.not_covered()
    assert Design(4, 1, 40, 4, 99).covered() == Design(1, 1, 40, 40, 99).covered() == ""
    assert "randomness of pretraining" in Design(10, 1, 982, 90, 99).not_covered()


@pytest.mark.parametrize(("draws", "images", "overlap"), [(3, 60, 0.0), (5, 300, 0.48), (4, 300, 0.05)])
def test_it_covers_the_truth(draws: int, images: int, overlap: float) -> None:
    """A small simulation; `benchmarks/coverage.py` is the large one."""
    random, cases, covered, alone = np.random.default_rng(0), 1000, 0, 0
    for _ in range(cases):
        shared = random.normal(0, 0.02 * math.sqrt(overlap))
        of_draw = shared + random.normal(0, 0.02 * math.sqrt(1 - overlap), draws)
        hard = random.normal(0, 0.1, images)
        chance = np.clip(0.8 + of_draw[:, None] + hard, 0, 1)
        units = (random.random((draws, images)) < chance).astype(float)
        ours = replicates(units, overlap=overlap).estimate()
        covered += abs(ours.mean - 0.8) <= ours.ci95
        draws_alone = estimate(units.mean(1).tolist())
        alone += abs(draws_alone.mean - 0.8) <= draws_alone.ci95
    assert covered / cases >= 0.93
    assert covered / cases > alone / cases - 0.01
