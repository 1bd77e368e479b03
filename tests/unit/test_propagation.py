"""Label propagation: against dense arithmetic in NumPy, on planted clusters, and on real digits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.distil.propagation import (
    ALPHA,
    ITERATIONS,
    NEIGHBOURS,
    POWER,
    LeaveOneOut,
    Propagation,
    neighbour_graph,
    propagate,
)

Digits = tuple[Tensor, Tensor]


def unit_vectors(n: int) -> Tensor:
    return F.normalize(torch.randn(n, 5, generator=torch.Generator().manual_seed(n)), dim=1)


def dense(unit: Tensor) -> np.ndarray:
    """The graph by its definition: W + Wᵀ over the roots of both degrees."""
    cosines = (unit @ unit.T).double().numpy()
    np.fill_diagonal(cosines, -np.inf)
    weights = np.zeros_like(cosines)
    for row, values in enumerate(cosines):
        near = np.argsort(-values)[:NEIGHBOURS]
        weights[row, near] = np.maximum(values[near], 0) ** POWER
    weights += weights.T
    degree = weights.sum(1)
    expected: np.ndarray = weights / np.sqrt(np.outer(degree, degree))
    return expected


def spread(matrix: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Scores by their definition, iteration by iteration."""
    scores = seeds
    for _ in range(ITERATIONS):
        scores = ALPHA * matrix @ scores + (1 - ALPHA) * seeds
    return scores


# --- the graph


@pytest.mark.parametrize("chunk", [7, 64, 1000])
def test_the_graph_is_that_of_the_definition(chunk: int) -> None:
    unit = unit_vectors(64)
    graph = neighbour_graph(unit, chunk).to_dense()
    np.testing.assert_allclose(graph.numpy(), dense(unit), atol=1e-6)
    assert torch.equal(graph, graph.T)
    assert graph.diagonal().abs().sum() == 0


def test_scores_are_those_of_the_definition() -> None:
    unit = unit_vectors(64)
    seeds = torch.zeros(64, 3)
    seeds[[0, 1, 2], [0, 1, 2]] = 1
    expected = spread(dense(unit), seeds.double().numpy())
    found = propagate(neighbour_graph(unit), seeds).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("vectors", [torch.ones(30, 4), torch.zeros(30, 4), torch.eye(4).repeat(5, 1)])
def test_equal_and_empty_features_give_finite_scores(vectors: Tensor) -> None:
    scores = propagate(neighbour_graph(F.normalize(vectors, dim=1)), torch.eye(len(vectors))[:, :2])
    assert scores.isfinite().all()


# --- labels


def features_of(digits: Digits) -> Tensor:
    """The features of an image are its pixels, so similar images are near."""
    return (digits[0].float() / 255).flatten(1)


def clusters(centres: Tensor, each: int, noise: float = 0.05) -> Tensor:
    """Points around centres (k, D), in turns: (k · each, D)."""
    points = centres.repeat(each, 1)
    return points + noise * torch.randn(points.shape, generator=torch.Generator().manual_seed(0))


def test_the_label_of_an_image_is_that_of_the_class_with_the_largest_score() -> None:
    features, given = unit_vectors(64), torch.tensor([0, 2, 1, 1, 0])
    propagation = Propagation(features, given, 3)
    unit = F.normalize(features - features.mean(0), dim=1)
    seeds = np.zeros((64, 3))
    seeds[range(5), given] = 1
    scores = spread(dense(unit), seeds)
    assert torch.equal(propagation.labels()[5:], torch.from_numpy(scores.argmax(1))[5:])
    assert torch.equal(propagation.labels()[:5], given)


def test_a_given_label_stays_also_where_its_neighbours_have_another() -> None:
    """The third label is wrong: it lies in the cluster of class 0."""
    labels = Propagation(clusters(torch.eye(2), 20), torch.tensor([0, 1, 1, 1, 0, 1, 0, 1, 0]), 2).labels()
    assert labels[2] == 1
    assert labels[9:].tolist() == [number % 2 for number in range(9, 40)]


def test_a_label_reaches_all_similar_images() -> None:
    labels = Propagation(clusters(torch.eye(10), 30), torch.arange(10), 10).labels()
    assert labels.tolist() == list(range(10)) * 30


def test_an_image_that_no_label_reaches_has_none() -> None:
    """Two clusters, with a label in one of them only."""
    labels = Propagation(clusters(torch.eye(2), 30), torch.tensor([0]), 2).labels()
    assert labels.tolist() == [0, -1] * 30


def test_spread_labels_are_better_than_chance(digits: Digits) -> None:
    labels = Propagation(features_of(digits), digits[1][:100], 10).labels()
    assert (labels[100:] == digits[1][100:]).float().mean() > 0.5
    again = Propagation(features_of(digits), digits[1][:100], 10).labels()
    assert torch.equal(again, labels)


# --- leaving a label out


def test_leaving_a_label_out_is_spreading_without_it(digits: Digits) -> None:
    """Against as many propagations as there are labels, each without one of them."""
    features, given = features_of(digits), digits[1][:30]
    check = Propagation(features, given, 10).leave_one_out()
    unit = F.normalize(features - features.mean(0), dim=1)
    graph, found, counted = neighbour_graph(unit), 0, 0
    for row, label in enumerate(given.tolist()):
        if int((given == label).sum()) == 1:
            continue
        seeds = torch.zeros(512, 10)
        seeds[range(30), given] = 1
        seeds[row] = 0
        counted += 1
        found += int(propagate(graph, seeds)[row].argmax()) == label
    assert (check.graph, check.labels) == (found, counted)
    near = [int((unit[:30] @ unit[row]).topk(2).indices[1]) for row in range(30)]
    repeated = [row for row in range(30) if int((given == given[row]).sum()) > 1]
    assert check.nearest == sum(bool(given[near[row]] == given[row]) for row in repeated)


def test_the_only_label_of_a_class_is_not_counted() -> None:
    features = clusters(torch.eye(3), 20)
    check = Propagation(features, torch.tensor([0, 1, 2]), 3).leave_one_out()
    assert check == LeaveOneOut(graph=0, nearest=0, labels=0)
    check = Propagation(features, torch.tensor([0, 1, 2, 0]), 3).leave_one_out()
    assert check == LeaveOneOut(graph=2, nearest=2, labels=2)


def test_a_label_is_not_found_by_those_of_its_own_group() -> None:
    features, given = clusters(torch.eye(2), 20), torch.tensor([0, 1, 0, 1])
    assert Propagation(features, given, 2).leave_one_out() == LeaveOneOut(graph=4, nearest=4, labels=4)
    one_each = torch.tensor([7, 8, 7, 8])  # both images of a class are of one group
    none = Propagation(features, given, 2).leave_one_out(one_each)
    assert none == LeaveOneOut(graph=0, nearest=0, labels=0)
    some = Propagation(features, given, 2).leave_one_out(torch.tensor([7, 8, 7, 9]))
    assert some == LeaveOneOut(graph=2, nearest=2, labels=2)


def arcs() -> tuple[Tensor, Tensor, Tensor]:
    """Images on two arcs that run beside each other, far longer than the gap between them.

    Four images come first: two on each arc, at both ends, each nearest to the one across the gap.

    Returns:
        Features (400, 3); the arc and the end of each, (400,).
    """
    angle = torch.linspace(0, torch.pi, 200)
    points = [torch.stack([angle.cos(), angle.sin(), torch.full((200,), z)], dim=1) for z in (-0.2, 0.2)]
    first = [40, 160, 240, 360]
    order = first + [row for row in range(400) if row not in first]
    arc, end = torch.arange(2).repeat_interleave(200), (torch.arange(200) // 100).repeat(2)
    return torch.cat(points)[order], arc[order], end[order]


def test_spreading_helps_where_images_without_labels_join_those_of_a_class() -> None:
    features, arc, _ = arcs()
    propagation = Propagation(features, arc[:4], 2)
    check = propagation.leave_one_out()
    assert check == LeaveOneOut(graph=4, nearest=0, labels=4)
    assert check.helps
    assert torch.equal(propagation.labels(), arc)


def test_spreading_hurts_where_images_without_labels_join_two_classes() -> None:
    features, _, end = arcs()
    check = Propagation(features, end[:4], 2).leave_one_out()
    assert check == LeaveOneOut(graph=0, nearest=4, labels=4)
    assert not check.helps
