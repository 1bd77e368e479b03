"""Label propagation: against dense arithmetic in NumPy, and on real digits."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.finetune import propagation
from stages.finetune.finetuning import Labelled
from stages.finetune.propagation import (
    ALPHA,
    ITERATIONS,
    NEIGHBOURS,
    POWER,
    NeighbourGraph,
    neighbour_graph,
    propagate,
)
from stages.networks.encoder import Encoder
from stages.training.checkpoint import Checkpoint
from stages.training.machine import Machine
from tests.conftest import tiny_encoder

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
    expected, matrix, start = seeds.double().numpy(), dense(unit), seeds.double().numpy()
    for _ in range(ITERATIONS):
        expected = ALPHA * matrix @ expected + (1 - ALPHA) * start
    np.testing.assert_allclose(
        propagate(neighbour_graph(unit), seeds).numpy(), expected, rtol=1e-3, atol=1e-7
    )


@pytest.mark.parametrize("parallel", [2, 3])
def test_the_graph_does_not_depend_on_how_many_parts_are_computed_at_a_time(
    parallel: int, digits: Digits, cpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagation, "PART", 100)
    pack = digits[0].numpy()
    serial = NeighbourGraph(tiny_encoder(), pack, cpu)
    side_by_side = NeighbourGraph(tiny_encoder(), pack, cpu, parallel=parallel)
    assert torch.equal(serial.unit, side_by_side.unit)
    unit = unit_vectors(100)
    expected, graph = neighbour_graph(unit, 16), neighbour_graph(unit, 16, parallel=parallel)
    assert torch.equal(graph.to_dense(), expected.to_dense())


@pytest.mark.parametrize("vectors", [torch.ones(30, 4), torch.zeros(30, 4), torch.eye(4).repeat(5, 1)])
def test_equal_and_empty_features_give_finite_scores(vectors: Tensor) -> None:
    scores = propagate(neighbour_graph(F.normalize(vectors, dim=1)), torch.eye(len(vectors))[:, :2])
    assert scores.isfinite().all()


# --- with an encoder


def labelled(digits: Digits, rows: list[int]) -> Labelled:
    images, labels = digits
    return Labelled(images.numpy(), torch.tensor(rows), labels[rows], given=len(rows))


def one_of_each(digits: Digits, of: range = range(512)) -> list[int]:
    return [next(row for row in of if digits[1][row] == label) for label in range(10)]


class Pixels(Encoder):
    """The features of an image are its pixels, so similar images are near."""

    def __init__(self) -> None:
        super().__init__(tiny_encoder().declaration, features=28 * 28)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def spread(given: Labelled, cpu: Machine) -> Labelled:
    encoder = Pixels()
    return NeighbourGraph(encoder, given.pack, cpu).spread(given, 10, encoder, cpu)


def test_every_image_gets_one_label_and_given_labels_do_not_change(digits: Digits, cpu: Machine) -> None:
    rows = one_of_each(digits)
    result = spread(labelled(digits, rows), cpu)
    assert result.given == 10
    assert result.rows[:10].tolist() == rows
    assert torch.equal(result.labels[:10], digits[1][rows])
    assert sorted(result.rows.tolist()) == list(range(512))
    assert set(result.labels.tolist()) <= set(range(10))


def test_equal_inputs_give_equal_labels(digits: Digits, cpu: Machine) -> None:
    given = labelled(digits, one_of_each(digits))
    assert torch.equal(spread(given, cpu).labels, spread(given, cpu).labels)


def test_a_saved_graph_is_not_computed_again_and_spreads_the_same_labels(
    digits: Digits, cpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, given = Pixels(), labelled(digits, one_of_each(digits))
    first = NeighbourGraph(encoder, given.pack, cpu, Checkpoint(tmp_path / "graph", "key"))
    expected = first.spread(given, 10, encoder, cpu)
    with monkeypatch.context() as patch:
        patch.setattr(propagation, "nearest_neighbours", None)
        patch.setattr(propagation, "encode", None)
        again = NeighbourGraph(encoder, given.pack, cpu, Checkpoint(tmp_path / "graph", "key"))
    result = again.spread(given, 10, encoder, cpu)
    assert torch.equal(again.graph.to_dense(), first.graph.to_dense())
    assert torch.equal(result.rows, expected.rows)
    assert torch.equal(result.labels, expected.labels)


def test_an_interrupted_graph_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, path, sizes = unit_vectors(100), tmp_path / "graph", []
    expected, nearest_neighbours = neighbour_graph(unit, chunk=16), propagation.nearest_neighbours

    def killed(similarity: Tensor) -> tuple[Tensor, Tensor]:
        if len(sizes) in (2, 5):
            sizes.append(0)
            raise KeyboardInterrupt
        sizes.append(len(similarity))
        return nearest_neighbours(similarity)

    monkeypatch.setattr(propagation, "nearest_neighbours", killed)
    monkeypatch.setattr(Checkpoint, "due", lambda _checkpoint: True)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            neighbour_graph(unit, 16, Checkpoint(path, "key"))
    graph = neighbour_graph(unit, 16, Checkpoint(path, "key"))
    assert sum(sizes) == 100  # each row once
    for part in ("crow_indices", "col_indices", "values"):
        assert torch.equal(getattr(graph, part)(), getattr(expected, part)())


@pytest.mark.parametrize(("key", "content"), [("another", None), ("key", b"damaged")])
def test_a_damaged_graph_or_one_of_another_key_is_not_used(
    digits: Digits, cpu: Machine, tmp_path: Path, key: str, content: bytes | None
) -> None:
    pack, path = digits[0].numpy(), tmp_path / "graph"
    NeighbourGraph(Pixels(), 255 - pack[:100], cpu, Checkpoint(path, key))
    if content:
        path.write_bytes(content)
    result = NeighbourGraph(Pixels(), pack, cpu, Checkpoint(path, "key"))
    assert len(result.unit) == len(pack)
    assert torch.equal(Checkpoint(path, "key").beside["unit"], result.unit)


def test_a_label_reaches_all_similar_images(digits: Digits, cpu: Machine) -> None:
    """Ten clusters: each of ten digits, 30 times, with a little noise."""
    rows = one_of_each(digits)
    noise = torch.randint(0, 40, (300, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    cluster = (digits[0][rows].repeat(30, 1, 1, 1).int() + noise).clamp(0, 255).to(torch.uint8)
    given = Labelled(cluster.numpy(), torch.arange(10), torch.arange(10), given=10)
    result = spread(given, cpu)
    assert torch.equal(result.labels, result.rows % 10)


def test_spread_labels_are_better_than_chance(digits: Digits, cpu: Machine) -> None:
    rows = list(range(100))
    result = spread(labelled(digits, rows), cpu)
    assert (result.labels[100:] == digits[1][result.rows[100:]]).float().mean() > 0.5


def test_images_that_no_label_reaches_are_left_out(digits: Digits, cpu: Machine) -> None:
    """Two clusters of equal images, with a label in one of them only."""
    cluster = digits[0][one_of_each(digits)[:2]].repeat(30, 1, 1, 1)
    given = Labelled(cluster.numpy(), torch.tensor([1]), torch.tensor([1]), given=1)
    result = spread(given, cpu)
    assert sorted(result.rows.tolist()) == list(range(1, 60, 2))
    assert set(result.labels.tolist()) == {1}


def test_a_label_starts_at_the_nearest_images_by_their_weight(
    digits: Digits, cpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, given = Pixels(), labelled(digits, [5, 9])
    graph = NeighbourGraph(encoder, given.pack, cpu)
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            propagation, "propagate", lambda graph, seeds: seen.append(seeds) or propagate(graph, seeds)
        )
        graph.spread(given, 10, encoder, cpu)
    features = (digits[0].float() / 255).flatten(1).double()
    unit = F.normalize(features - features.mean(0), dim=1)
    expected = torch.zeros(512, 10, dtype=torch.float64)
    for row in (5, 9):
        near = (unit @ unit[row]).topk(NEIGHBOURS)
        expected[near.indices, digits[1][row]] += near.values**POWER
    torch.testing.assert_close(seen[0].double(), expected, atol=1e-5, rtol=1e-5)


def test_the_graph_of_a_large_pool_has_evenly_spaced_images(
    digits: Digits, cpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagation, "IMAGES", 200)
    rows = one_of_each(digits)
    result = spread(labelled(digits, rows), cpu)
    spaced = np.linspace(0, 511, 200).round().astype(int)
    assert result.rows.tolist() == rows + [row for row in spaced if row not in rows]
    assert torch.equal(result.labels[:10], digits[1][rows])
    assert (result.labels[10:] == digits[1][result.rows[10:]]).float().mean() > 0.3
