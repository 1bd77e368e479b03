"""Choosing what to label next, on clouds of points whose answer is plain, and against brute force."""

import numpy as np
import pytest

from stages.tools.selection import NEIGHBOURS, STRATEGIES, by_typicality, centre, typical

NONE = np.array([], dtype=int)
CENTRES = np.eye(6, 8, dtype=np.float32) * 10
SIZES = [40, 80, 30, 60, 50, 70]
CLOUD = np.repeat(np.arange(6), SIZES)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Six clouds of different sizes, far from each other."""
    noise = np.random.default_rng(0).normal(size=(len(CLOUD), 8))
    found: np.ndarray = (CENTRES[CLOUD] + noise).astype(np.float32)
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("labelled", [[], [3, 200], list(range(100))])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_so_many_different_images_without_a_label(
    points: np.ndarray, strategy: str, labelled: list[int], count: int
) -> None:
    rows = STRATEGIES[strategy](points, np.array(labelled, dtype=int), count, 1)
    assert len(set(rows.tolist())) == len(rows) == count
    assert not set(rows.tolist()) & set(labelled)
    assert np.array_equal(rows, STRATEGIES[strategy](points, np.array(labelled, dtype=int), count, 1))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_that_is_left_can_be_asked_for(points: np.ndarray, strategy: str) -> None:
    some = points[::10]
    rows = STRATEGIES[strategy](some, np.array([0, 5]), len(some) - 2, 1)
    assert sorted([*rows.tolist(), 0, 5]) == list(range(len(some)))


def test_the_first_typical_ones_are_one_of_each_cloud_the_largest_first(points: np.ndarray) -> None:
    rows = typical(points, NONE, 6, 1)
    assert CLOUD[rows].tolist() == sorted(range(6), key=lambda cloud: -SIZES[cloud])


def test_clouds_with_a_label_come_after_those_without(points: np.ndarray) -> None:
    labelled = np.array([np.flatnonzero(cloud == CLOUD)[0] for cloud in (1, 5, 3)])
    rows = typical(points, labelled, 3, 1)
    assert set(CLOUD[rows].tolist()) == {0, 2, 4}


def test_a_typical_one_is_near_its_neighbours(points: np.ndarray) -> None:
    members = np.flatnonzero(CLOUD == 3)
    distance = np.linalg.norm(points[members][:, None] - points[members], axis=2)
    expected = members[np.argsort(np.sort(distance, axis=1)[:, : NEIGHBOURS + 1].mean(1))]
    assert by_typicality(points, members, NONE)[:10] == expected[:10].tolist()
    assert by_typicality(points, members, expected[:3])[0] == expected[3]


def test_the_next_centre_is_the_farthest_from_all(points: np.ndarray) -> None:
    labelled = np.array([7])
    chosen = labelled.tolist()
    for row in centre(points, labelled, 5, 0):
        distance = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(1)
        assert distance[row] == pytest.approx(distance.max())
        chosen.append(int(row))
    assert len(set(CLOUD[chosen].tolist())) == 6


def test_copies_of_labelled_images_are_chosen_last_and_the_labelled_never() -> None:
    copies = np.zeros((6, 3), dtype=np.float32)
    copies[4] = 1
    assert centre(copies, np.array([0, 1]), 4, 0).tolist() == [4, 2, 3, 5]


def test_the_first_centre_is_in_the_middle(points: np.ndarray) -> None:
    (first,) = centre(points, NONE, 1, 0)
    assert first == np.linalg.norm(points - points.mean(0), axis=1).argmin()
