"""Choosing images to label, on clusters of points whose answer is known, and against brute force."""

import numpy as np
import pytest

from stages.tools.selection import NEIGHBOURS, STRATEGIES, by_typicality, centre, typical

NONE = np.array([], dtype=int)
CENTRES = np.eye(6, 8, dtype=np.float32) * 10
SIZES = [40, 80, 30, 60, 50, 70]
CLUSTER = np.repeat(np.arange(6), SIZES)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Six clusters of different sizes, far from each other."""
    noise = np.random.default_rng(0).normal(size=(len(CLUSTER), 8))
    features: np.ndarray = (CENTRES[CLUSTER] + noise).astype(np.float32)
    return features


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("labelled", [[], [3, 200], list(range(100))])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_the_choice_is_count_different_images_without_a_label(
    points: np.ndarray, strategy: str, labelled: list[int], count: int
) -> None:
    rows = STRATEGIES[strategy](points, np.array(labelled, dtype=int), count, 1)
    assert len(set(rows.tolist())) == len(rows) == count
    assert not set(rows.tolist()) & set(labelled)
    assert np.array_equal(rows, STRATEGIES[strategy](points, np.array(labelled, dtype=int), count, 1))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_unlabelled_images_can_be_chosen(points: np.ndarray, strategy: str) -> None:
    few = points[::10]
    rows = STRATEGIES[strategy](few, np.array([0, 5]), len(few) - 2, 1)
    assert sorted([*rows.tolist(), 0, 5]) == list(range(len(few)))


def test_the_first_typical_images_are_one_per_cluster_the_largest_first(points: np.ndarray) -> None:
    rows = typical(points, NONE, 6, 1)
    assert CLUSTER[rows].tolist() == sorted(range(6), key=lambda cluster: -SIZES[cluster])


def test_clusters_with_a_label_come_after_those_without(points: np.ndarray) -> None:
    labelled = np.array([np.flatnonzero(cluster == CLUSTER)[0] for cluster in (1, 5, 3)])
    rows = typical(points, labelled, 3, 1)
    assert set(CLUSTER[rows].tolist()) == {0, 2, 4}


def test_a_typical_image_is_near_its_neighbours(points: np.ndarray) -> None:
    members = np.flatnonzero(CLUSTER == 3)
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
    assert len(set(CLUSTER[chosen].tolist())) == 6


def test_copies_of_labelled_images_are_chosen_last_and_labelled_images_never() -> None:
    copies = np.zeros((6, 3), dtype=np.float32)
    copies[4] = 1
    assert centre(copies, np.array([0, 1]), 4, 0).tolist() == [4, 2, 3, 5]


def test_the_first_centre_is_in_the_middle(points: np.ndarray) -> None:
    (first,) = centre(points, NONE, 1, 0)
    assert first == np.linalg.norm(points - points.mean(0), axis=1).argmin()
