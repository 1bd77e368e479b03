"""Label propagation: spreads a few labels over the unlabelled images of the pool.

Local and global consistency (D. Zhou, O. Bousquet, T. N. Lal, J. Weston, B. Schölkopf, "Learning with Local
and Global Consistency", NIPS 2003) on the nearest-neighbour graph of A. Iscen, G. Tolias, Y. Avrithis, O.
Chum, "Label Propagation for Deep Semi-supervised Learning", CVPR 2019, arXiv:1904.04717.

Differences from Iscen et al.: the features are those of the pretrained encoder and are computed once, while
they first train on the labels and repeat; a label starts at the nearest neighbours of its image, so that the
image itself need not be in the graph; 10 neighbours instead of 50; a fixed number of iterations instead of
the exact solution; all spread labels have the same weight in the loss, instead of weights by certainty and
class.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.finetune.finetuning import Labelled
from stages.images.tensors import as_tensor
from stages.networks.encoder import Encoder
from stages.tasks.features import encode
from stages.training.checkpoint import Checkpoint
from stages.training.machine import Machine

IMAGES = 65_536  # in the graph at most, evenly spaced in a larger pool: the cost grows with their square
NEIGHBOURS = 10
POWER = 3.0  # exponent of the similarities, which gives near neighbours more weight
ALPHA = 0.99  # weight of the neighbours in each iteration; the weight of the given labels is the rest
ITERATIONS = 100
CHUNK = 1024  # images whose similarities to all others are computed at once
PART = 4096  # images that are read and encoded at once
T = TypeVar("T")
R = TypeVar("R")


class NeighbourGraph:
    """The images of the pool as a graph of nearest neighbours, by the cosine of their centred features.

    Args:
        encoder: on the machine's device.
        pack: the pool, uint8 (M, C, H, W).
        checkpoint: where features and neighbours are saved and resumed from, because finding them takes
            about half a minute; None: nowhere.
        parallel: how many parts are computed at the same time, each with the threads of the machine. The
            graph does not depend on it.

    Attributes:
        rows: (N,) int64, rows of the pool that are in the graph.
        centre: (D,), the mean of the features.
        unit: (N, D), the centred features, normalised.
        graph: sparse (N, N).
    """

    def __init__(
        self,
        encoder: Encoder,
        pack: np.ndarray,
        machine: Machine,
        checkpoint: Checkpoint | None = None,
        parallel: int = 1,
    ) -> None:
        self.rows = (
            torch.linspace(0, len(pack) - 1, min(IMAGES, len(pack)), dtype=torch.float64).round().long()
        )
        if checkpoint and checkpoint.saved:
            self.centre, self.unit = (
                checkpoint.beside[name].to(machine.device) for name in ("centre", "unit")
            )
        else:

            def features_of(part: Tensor) -> Tensor:
                return encode(encoder, as_tensor(pack[part.numpy()]), machine)

            features = torch.cat(list(_side_by_side(features_of, self.rows.split(PART), parallel)))
            self.centre = features.mean(0)
            self.unit = F.normalize(features - self.centre, dim=1)
            if checkpoint:
                checkpoint.beside = {"centre": self.centre, "unit": self.unit}
        self.graph = neighbour_graph(self.unit, checkpoint=checkpoint, parallel=parallel)

    def spread(self, labelled: Labelled, classes: int, encoder: Encoder, machine: Machine) -> Labelled:
        """The labelled images, followed by the images of the graph that a label reaches, with that label.

        A label starts at the nearest neighbours of its image, which include the image itself if it is in the
        graph, and spreads from neighbour to neighbour.
        """
        seeds = torch.zeros(len(self.rows), classes)
        for part in torch.arange(len(labelled)).split(CHUNK):
            images, labels = labelled.take(part)
            features = encode(encoder, images, machine) - self.centre
            weights, nearest = nearest_neighbours(F.normalize(features, dim=1) @ self.unit.T)
            seeds.index_put_(
                (nearest.cpu(), labels[:, None].expand_as(nearest)), weights.cpu(), accumulate=True
            )
        scores, spread = propagate(self.graph, seeds).max(1)
        reached = (scores > 0) & ~torch.isin(self.rows, labelled.rows)
        return Labelled(
            labelled.pack,
            torch.cat([labelled.rows, self.rows[reached]]),
            torch.cat([labelled.labels, spread[reached]]),
            given=labelled.given,
        )


def nearest_neighbours(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """The weights and indices of the nearest neighbours, (n, NEIGHBOURS) each, by cosines (n, N)."""
    near, index = similarity.topk(min(NEIGHBOURS, similarity.shape[1] - 1), dim=1)
    return near.clamp_min(0) ** POWER, index


def neighbour_graph(
    unit: Tensor, chunk: int = CHUNK, checkpoint: Checkpoint | None = None, parallel: int = 1
) -> Tensor:
    """The graph of unit vectors (N, D), normalised by degree: symmetric, sparse CSR (N, N).

    An entry is the weight of an edge, divided by the square roots of the degrees of both ends. The graph is
    in CPU memory, where sums have a fixed order; on a GPU they need not have one.

    Args:
        chunk: rows of the N × N similarities that are computed at once.
        checkpoint: where the neighbours found so far are saved and resumed from; None: nowhere.
        parallel: how many chunks are computed at the same time.
    """

    def neighbours_of(start: int) -> tuple[Tensor, Tensor]:
        rows = torch.arange(start, min(start + chunk, n), device=unit.device)
        similarity = unit[rows] @ unit.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf  # a vector is not its own neighbour
        weight, index = nearest_neighbours(similarity)
        return weight.cpu(), index.cpu()

    n, saved = len(unit), checkpoint.beside if checkpoint else {}
    weights, indices = ([saved[name]] if name in saved else [] for name in ("weights", "numbers"))
    starts = range(sum(map(len, weights)), n, chunk)
    for start, (weight, index) in zip(starts, _side_by_side(neighbours_of, starts, parallel), strict=True):
        weights.append(weight)
        indices.append(index)
        if checkpoint and (checkpoint.due() or start + chunk >= n):
            neighbours = {"weights": torch.cat(weights), "numbers": torch.cat(indices)}
            checkpoint.write_beside(checkpoint.beside | neighbours)
    target = torch.cat(indices)
    source = torch.arange(n).repeat_interleave(target.shape[1])
    edges = torch.stack([source, target.flatten()])
    both, values = torch.cat([edges, edges.flip(0)], dim=1), torch.cat(weights).flatten().repeat(2)
    graph = torch.sparse_coo_tensor(both, values, (n, n), check_invariants=False).coalesce()
    source, target = graph.indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        compact = graph.to_sparse_csr()
    root = (compact @ torch.ones(n, 1))[:, 0].clamp_min(1e-12).sqrt()
    compact.values().div_(root[source] * root[target])  # COO and CSR have their values in the same order
    return compact


def _side_by_side(function: Callable[[T], R], parts: Sequence[T], parallel: int) -> Iterator[R]:
    """Call `function` on each part, `parallel` at the same time; the results in order."""
    # Threads, not worker processes: this is a few large operations, which do not hold Python's lock.
    if parallel == 1:
        yield from map(function, parts)
        return
    with ThreadPoolExecutor(parallel) as pool:
        for first in range(0, len(parts), parallel):  # no more results in memory than are used at once
            yield from pool.map(function, parts[first : first + parallel])


def propagate(graph: Tensor, seeds: Tensor) -> Tensor:
    """Scores (N, classes) after spreading the labels in `seeds` (N, classes) over the graph (N, N)."""
    scores = seeds
    for _ in range(ITERATIONS):
        scores = ALPHA * (graph @ scores) + (1 - ALPHA) * seeds
    return scores
