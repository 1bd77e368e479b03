"""What `prepare` says about the test split before hours are spent."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stages.prepare.__main__ import what_the_test_shows
from stages.prepare.parts import Part, Prepared


def prepared(test: int, group: int = 1) -> Prepared:
    """A test split of so many images, in groups of so many; the other parts have no images."""

    def describe(indices: np.ndarray) -> pd.DataFrame:
        groups = [f"group {index // group}" if group > 1 else "" for index in indices]
        return pd.DataFrame({"id": [str(index) for index in indices], "group": groups})

    images = np.zeros((test, 1, 8, 8), np.uint8)
    pool, validation, tested = (
        Part(images, np.arange(size), np.zeros(size, np.int64), describe) for size in (0, 0, test)
    )
    return Prepared(pool, validation, tested, ["a", "b"])


@pytest.mark.parametrize(
    ("test", "group", "warned"), [(60, 1, True), (299, 1, True), (300, 1, False), (1000, 10, True)]
)
def test_a_small_test_split_is_warned_of(test: int, group: int, warned: bool) -> None:
    first, *others = what_the_test_shows(prepared(test, group))
    assert first.startswith(f"test: {test:,} labelled images")
    assert (f", whose groups count as {test // group}" in first) == (group > 1)
    assert "at best they show gains from about" in first
    assert [line.startswith("warning: the test split is small") for line in others] == [True] * warned


def test_without_enough_units_no_gain_can_be_shown() -> None:
    (line,) = what_the_test_shows(prepared(4))
    assert line == "warning: test: 4 labelled images; so few give no interval, and no gain can be shown"
    assert what_the_test_shows(prepared(0)) == []


def test_one_group_with_most_of_the_images_shows_no_gain() -> None:
    data = prepared(400)
    groups = pd.DataFrame({"id": map(str, range(400)), "group": ["film"] * 370 + [""] * 30})
    test = replace(data.test, describe=lambda indices: groups.iloc[indices])
    (line,) = what_the_test_shows(replace(data, test=test))
    assert line.startswith("warning: test: 400 labelled images, whose groups count as 1;")
    assert test.units() == 1  # 400² / (370² + 30) is 1.17
