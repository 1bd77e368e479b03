"""The smallest gain that a test split shows, by simulation."""

import numpy as np
import pytest

from stages.tasks.power import DISAGREEMENT, smallest_gain, student


@pytest.mark.parametrize("units", [300, 2000])
@pytest.mark.parametrize("labels_per_class", DISAGREEMENT)
def test_such_a_gain_is_measurable_in_80_of_100_cases(units: int, labels_per_class: int) -> None:
    gain, share = smallest_gain(units, labels_per_class), DISAGREEMENT[labels_per_class]
    random = np.random.default_rng(0)
    won, lost, _ = random.multinomial(units, [(share + gain) / 2, (share - gain) / 2, 1 - share], 4000).T
    mean = (won - lost) / units
    error = np.sqrt(((won + lost) / units - mean**2) / units)
    found = mean > student(units - 1) * error
    assert found.mean() == pytest.approx(0.8, abs=0.08)


def test_it_falls_with_images_and_with_labels() -> None:
    assert smallest_gain(60, 10) == pytest.approx(0.117, abs=0.002)
    assert smallest_gain(60, 10) > smallest_gain(300, 10) > smallest_gain(10_000, 10)
    assert smallest_gain(300, 1) > smallest_gain(300, 10) > smallest_gain(300, 1000)
    assert smallest_gain(4, 10) == 1  # so few units have no interval
