import math

import numpy as np
import pytest
from scipy import stats

from stages.compare.statistics import estimate, paired_gain, why_no_interval


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("seed", range(3))
def test_interval_is_that_of_students_t(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.9, 0.05, n)
    ours = estimate(values.tolist())
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert ours.mean == pytest.approx(values.mean())
    assert ours.mean - ours.ci95 == pytest.approx(low)
    assert ours.mean + ours.ci95 == pytest.approx(high)


def test_interval_by_hand() -> None:
    # mean 2, standard deviation 1, t(2 degrees of freedom, 97.5%) = 4.3027
    ours = estimate([1, 2, 3])
    assert ours.mean == 2
    assert ours.ci95 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_interval_covers_the_truth_in_95_of_100_cases() -> None:
    generator, cases = np.random.default_rng(0), 4000
    covered = 0
    for values in generator.normal(0.8, 0.1, (cases, 5)).tolist():
        ours = estimate(values)
        covered += abs(ours.mean - 0.8) <= ours.ci95
    assert covered / cases == pytest.approx(0.95, abs=0.011)  # 3 σ; the normal's 1.96 would cover 88%


def test_gain_is_taken_draw_by_draw() -> None:
    control, values = [0.70, 0.80, 0.90], [0.73, 0.82, 0.94]
    ours = paired_gain(values, control)
    expected = estimate([0.03, 0.02, 0.04])
    assert ours.mean == pytest.approx(expected.mean)
    assert ours.ci95 == pytest.approx(expected.ci95)
    # The draws differ far more than the methods, so an unpaired interval would be much wider.
    assert ours.ci95 < estimate(values).ci95 / 5
    test = stats.ttest_rel(values, control).confidence_interval(0.95)
    assert (ours.mean - ours.ci95, ours.mean + ours.ci95) == pytest.approx((test.low, test.high))


def test_gain_has_a_sign() -> None:
    assert paired_gain([0.5, 0.6], [0.7, 0.9]).mean == pytest.approx(-0.25)


@pytest.mark.parametrize("values", [[0.9], [0.9, 0.9], [0.1] * 3, [0.7] * 10])
def test_one_draw_and_equal_draws_have_no_interval(values: list[float]) -> None:
    ours = estimate(values)
    assert ours.mean == pytest.approx(values[0])
    assert math.isnan(ours.ci95)
    assert not ours.has_interval


def test_draws_that_differ_by_one_image_in_a_million_have_an_interval() -> None:
    ours = estimate([0.9, 0.9, 0.900001])
    assert ours.has_interval
    assert ours.ci95 > 0


def test_equal_gains_of_different_draws_have_no_interval() -> None:
    values, control = [0.8, 0.9, 0.3], [0.7, 0.8, 0.2]
    assert len({a - b for a, b in zip(values, control, strict=True)}) > 1  # they differ by rounding errors
    gain = paired_gain(values, control)
    assert gain.mean == pytest.approx(0.1)
    assert not gain.has_interval


def test_the_reason_for_a_missing_interval_depends_on_the_number_of_draws() -> None:
    assert why_no_interval(1) == "one draw has no interval"
    assert why_no_interval(2) == "equal draws have no interval"


def test_no_draw_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least 1 draw, not 0"):
        estimate([])


def test_gain_needs_the_same_draws() -> None:
    with pytest.raises(ValueError, match="longer"):
        paired_gain([0.9, 0.8], [0.7, 0.8, 0.9])
