"""Label propagation: spreads a few labels over unlabelled images, along nearest neighbours.

Local and global consistency (D. Zhou, O. Bousquet, T. N. Lal, J. Weston, B. Schölkopf, "Learning with Local
and Global Consistency", NIPS 2003) on the nearest-neighbour graph of A. Iscen, G. Tolias, Y. Avrithis, O.
Chum, "Label Propagation for Deep Semi-supervised Learning", CVPR 2019, arXiv:1904.04717.

Differences from Iscen et al.: labels are spread once, after the training on the given labels, while they
repeat; 10 neighbours instead of 50; a fixed number of iterations instead of the exact solution; all spread
labels have the same weight in the loss, instead of weights by certainty and class.

Spreading is linear in the labels. So each label is spread by itself, and the scores of the classes are sums
over their labels. To leave a label out is to leave it out of the sum: nothing is spread a second time.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 10
POWER = 3.0  # exponent of the similarities, which gives near neighbours more weight
ALPHA = 0.99  # weight of the neighbours in each iteration; the weight of the given labels is the rest
ITERATIONS = 100
CHUNK = 1024  # images whose similarities to all others are computed at once


@dataclass(frozen=True)
class LeaveOneOut:
    """How many labels of a draw are found without themselves: by the graph, and without it.

    A label that is the only one of its class, outside its group, cannot be found, so it is not counted.

    Attributes:
        graph: labels that spreading gives to their image if they themselves are left out.
        nearest: labels that are those of the nearest other labelled image.
        labels: how many are counted.
    """

    graph: int
    nearest: int
    labels: int

    @property
    def helps(self) -> bool:
        """Whether to train on the spread labels: the graph finds as many as the nearest image does."""
        return self.graph >= self.nearest


class Propagation:
    """Given labels spread over images.

    Args:
        features: (N, D); the first n are those of the images with a given label.
        given: (n,) int64, the given labels.
        classes: the number of classes.

    Attributes:
        unit: (N, D), the centred features, normalised: their products are the similarities.
        reach: (N, n), how strongly each given label reaches each image.
    """

    def __init__(self, features: Tensor, given: Tensor, classes: int) -> None:
        self.given, self.classes = given, classes
        self.unit = F.normalize(features - features.mean(0), dim=1)
        seeds = torch.zeros(len(features), len(given))
        seeds.fill_diagonal_(1)
        self.reach = propagate(neighbour_graph(self.unit), seeds)

    def labels(self) -> Tensor:
        """The label that reaches each image most strongly, (N,) int64; -1: none does. Given ones stay."""
        labels = self._strongest(self.reach)
        labels[: len(self.given)] = self.given
        return labels

    def leave_one_out(self, groups: Tensor | None = None) -> LeaveOneOut:
        """How well spreading, and the nearest labelled image, find each given label without itself.

        groups: (n,) int64, of the given images: a label is found without those of its own group. None: each
            image is a group of its own.
        """
        n = len(self.given)
        groups = torch.arange(n) if groups is None else groups
        same_group = groups[:, None] == groups
        counted = ((self.given[:, None] == self.given) & ~same_group).any(1)
        by_graph = self._strongest(self.reach[:n].masked_fill(same_group, 0))
        similarity = (self.unit[:n] @ self.unit[:n].T).cpu().masked_fill(same_group, -torch.inf)
        nearest = self.given[similarity.argmax(1)]
        graph, others = (int((predicted == self.given)[counted].sum()) for predicted in (by_graph, nearest))
        return LeaveOneOut(graph, others, int(counted.sum()))

    def _strongest(self, reach: Tensor) -> Tensor:
        """The class with the largest sum over its labels, by the reach (k, n) of each; -1: all are 0."""
        strength, label = (reach @ F.one_hot(self.given, self.classes).float()).max(1)
        return torch.where(strength > 0, label, -1)


def neighbour_graph(unit: Tensor, chunk: int = CHUNK) -> Tensor:
    """The graph of unit vectors (N, D), normalised by degree: symmetric, sparse CSR (N, N).

    An entry is the weight of an edge, divided by the square roots of the degrees of both ends. The graph is
    in CPU memory, where sums have a fixed order; on a GPU they need not have one.

    Args:
        chunk: rows of the N × N similarities that are computed at once.
    """
    n, weights, indices = len(unit), [], []
    for start in range(0, n, chunk):
        rows = torch.arange(start, min(start + chunk, n), device=unit.device)
        similarity = unit[rows] @ unit.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf  # a vector is not its own neighbour
        near, index = similarity.topk(min(NEIGHBOURS, n - 1), dim=1)
        weights.append((near.clamp_min(0) ** POWER).cpu())
        indices.append(index.cpu())
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


def propagate(graph: Tensor, seeds: Tensor) -> Tensor:
    """Scores (N, k) after spreading the labels in each column of `seeds` (N, k) over the graph (N, N)."""
    scores = seeds
    for _ in range(ITERATIONS):
        scores = ALPHA * (graph @ scores) + (1 - ALPHA) * seeds
    return scores
