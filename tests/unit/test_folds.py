from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.files.tables import write_table
from stages.tasks import folds
from stages.tasks.labels import read_groups
from stages.training.randomness import Stream

STREAM = Stream.of(1, "test")


def test_folds_keep_groups_together_and_spread_classes() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(1, 6, 30))
    labels = rng.integers(0, 3, len(groups))
    fold = folds.assign(labels, groups, 3, Stream.of(1, "folds"))
    for group in range(30):
        assert len(set(fold[groups == group])) == 1
    table = pd.crosstab(labels, fold)
    assert table.shape == (3, 3)
    assert (table.max(axis=1) - table.min(axis=1)).max() <= 5  # the size of a group
    assert np.array_equal(fold, folds.assign(labels, groups, 3, Stream.of(1, "folds")))
    assert not np.array_equal(fold, folds.assign(labels, groups, 3, Stream.of(2, "folds")))


def test_images_without_groups_are_stratified_exactly() -> None:
    labels = np.repeat([0, 1], [9, 6])
    fold = folds.assign(labels, np.arange(15), 3, Stream.of(1, "folds"))
    assert pd.crosstab(labels, fold).to_numpy().tolist() == [[3, 3, 3], [2, 2, 2]]
    assert set(folds.assign(labels, np.zeros(15, int), 3, Stream.of(1, "folds"))) == {0}


def test_the_probe_cannot_recognise_an_image_by_its_group() -> None:
    # The features say nothing but the group, and each group has one class: with a group on both sides the
    # probe would always be right; across groups it can only guess.
    units = np.repeat(np.arange(20), 5)
    labels = torch.from_numpy(units % 2)
    features = torch.eye(20)[torch.from_numpy(units)]
    across = folds.probe_correct(features, labels, units, 0.1, folds=2, splits=1, stream=STREAM)
    alone = folds.probe_correct(features, labels, np.arange(100), 0.1, folds=2, splits=1, stream=STREAM)
    assert across.mean() < 0.7
    assert alone.mean() == 1
    informative = torch.nn.functional.one_hot(labels, 2).float()
    assert folds.probe_correct(informative, labels, units, 0.1, 2, 1, STREAM).mean() == 1


def test_the_standard_error_is_the_usual_one_and_larger_where_units_agree() -> None:
    values = np.random.default_rng(0).normal(size=400)
    alone = folds.standard_error(values, np.arange(400))
    assert alone == pytest.approx(values.std(ddof=1) / 20)
    repeated = np.repeat(values, 5)  # five copies of each tell no more than one
    assert folds.standard_error(repeated, np.repeat(np.arange(400), 5)) == pytest.approx(alone)
    assert folds.standard_error(values, np.zeros(400)) == float("inf")


def test_units_of_a_table_are_its_groups(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", pd.DataFrame({"id": list("abcd"), "group": ["x", "", "x", ""]}))
    assert read_groups(tmp_path / "a.csv").tolist() == [0, 1, 0, 2]


def test_the_mean_of_the_balanced_contributions_is_the_mean_recall() -> None:
    labels = np.repeat([0, 3, 4], [50, 10, 4])
    correct = np.random.default_rng(0).choice([0, 1 / 3, 1], len(labels))
    contributed = folds.balanced(correct, labels)
    recalls = [correct[labels == label].mean() for label in (0, 3, 4)]
    assert contributed.mean() == pytest.approx(np.mean(recalls))
    # One image of the smallest class weighs as many times more as the class is smaller.
    more = correct.copy()
    more[-1] += 0.1
    assert folds.balanced(more, labels).mean() - contributed.mean() == pytest.approx(0.1 / 4 / 3)
    assert folds.balanced(correct, np.zeros(64)) == pytest.approx(correct)
