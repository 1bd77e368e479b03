"""Labels for the unlabelled: a few labels, spread over the pool along its nearest neighbours.

D. Zhou, O. Bousquet, T. N. Lal, J. Weston, B. Schölkopf, "Learning with Local and Global Consistency",
NIPS 2003; on the graph of A. Iscen, G. Tolias, Y. Avrithis, O. Chum, "Label Propagation for Deep
Semi-supervised Learning", CVPR 2019, arXiv:1904.04717.

Other than theirs: the features are the pretrained encoder's, once, where Iscen et al. train on the labels
first and repeat; a label starts at its image's nearest neighbours too, so that its image need not be
joined; 10 neighbours (theirs 50); a fixed number of rounds (theirs: to the end); every label that an image
takes over counts alike (theirs by certainty and class), also beside the given ones.
"""

import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.finetune.train import Labelled
from stages.images.tensors import as_tensor
from stages.networks.encoder import Encoder
from stages.tasks.features import encode
from stages.training.checkpoint import Checkpoint
from stages.training.machine import Machine

IMAGES = 65_536  # joined at most, evenly spaced in a larger pool: the work grows with their square
NEIGHBOURS = 10
POWER = 3.0  # of the similarities: near neighbours count for more
ALPHA = 0.99  # what an image takes over from its neighbours in each round; the rest is its own label
ROUNDS = 100
CHUNK = 1024  # images whose similarities to all others are in memory at the same time


class Neighbourhood:
    """The pool's images as a graph: who is near whom, by the cosine of their centred features.

    Args:
        kept: where features and neighbours are written as they are found, and taken up from: finding them
            is half a minute's work that an interruption need not cost again.

    Attributes:
        rows: (N,) int64 of the pool, the images that are joined.
        seconds: what joining them and spreading labels have taken.
    """

    def __init__(
        self, encoder: Encoder, pack: np.ndarray, machine: Machine, kept: Checkpoint | None = None
    ) -> None:
        started = time.perf_counter()
        self.rows = (
            torch.linspace(0, len(pack) - 1, min(IMAGES, len(pack)), dtype=torch.float64).round().long()
        )
        if kept and kept.saved:
            self.centre, self.unit = (kept.beside[name].to(machine.device) for name in ("centre", "unit"))
        else:
            parts = [
                encode(encoder, as_tensor(pack[part.numpy()]), machine) for part in self.rows.split(4096)
            ]
            features = torch.cat(parts)
            self.centre = features.mean(0)
            self.unit = F.normalize(features - self.centre, dim=1)
            if kept:
                kept.beside = {"centre": self.centre, "unit": self.unit}
        self.joined = joined(self.unit, kept=kept)
        self.seconds = time.perf_counter() - started

    def spread(self, labelled: Labelled, classes: int, encoder: Encoder, machine: Machine) -> Labelled:
        """The labelled images, and behind them the joined ones that a label reaches, with that label.

        Each labelled image hands its label to those nearest to it, itself included where it is
        joined; from there labels go from neighbour to neighbour.
        """
        started = time.perf_counter()
        seeds = torch.zeros(len(self.rows), classes)
        for part in torch.arange(len(labelled)).split(CHUNK):
            images, labels = labelled.take(part)
            features = encode(encoder, images, machine) - self.centre
            weights, nearest = strongest(F.normalize(features, dim=1) @ self.unit.T)
            theirs = labels[:, None].expand_as(nearest)
            seeds.index_put_((nearest.cpu(), theirs), weights.cpu(), accumulate=True)
        scores, taken = propagated(self.joined, seeds).max(1)
        others = (scores > 0) & ~torch.isin(self.rows, labelled.rows)
        self.seconds += time.perf_counter() - started
        return Labelled(
            labelled.pack,
            torch.cat([labelled.rows, self.rows[others]]),
            torch.cat([labelled.labels, taken[others]]),
            given=labelled.given,
        )


def strongest(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest neighbours by cosines (n, N): their weights and numbers, each (n, NEIGHBOURS)."""
    near, index = similarity.topk(min(NEIGHBOURS, similarity.shape[1] - 1), dim=1)
    return near.clamp_min(0) ** POWER, index


def joined(unit: Tensor, chunk: int = CHUNK, kept: Checkpoint | None = None) -> Tensor:
    """The graph of N unit vectors (N, D): symmetric, sparse (N, N), each weight over both degrees' roots.

    N² similarities are computed, `chunk` · N of them at a time. The graph is in the computer's own memory:
    there sums have a fixed order, on a GPU they need not.

    kept: where the neighbours found so far are written now and then, and taken up from; None: nowhere.
    """
    n, found = len(unit), kept.beside if kept else {}
    weights, numbers = ([found[name]] if name in found else [] for name in ("weights", "numbers"))
    for start in range(sum(map(len, weights)), n, chunk):
        own = torch.arange(start, min(start + chunk, n), device=unit.device)
        similarity = unit[own] @ unit.T
        similarity[torch.arange(len(own)), own] = -torch.inf  # nobody is a neighbour of itself
        weight, index = strongest(similarity)
        weights.append(weight.cpu())
        numbers.append(index.cpu())
        if kept and (kept.due() or start + chunk >= n):
            kept.write_beside(kept.beside | {"weights": torch.cat(weights), "numbers": torch.cat(numbers)})
    to = torch.cat(numbers)
    of = torch.arange(n).repeat_interleave(to.shape[1])
    ends = torch.stack([of, to.flatten()])
    both, values = torch.cat([ends, ends.flip(0)], dim=1), torch.cat(weights).flatten().repeat(2)
    graph = torch.sparse_coo_tensor(both, values, (n, n), check_invariants=False).coalesce()
    of, to = graph.indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        compact = graph.to_sparse_csr()
    root = (compact @ torch.ones(n, 1))[:, 0].clamp_min(1e-12).sqrt()
    compact.values().div_(root[of] * root[to])  # both forms have their values in the order of rows
    return compact


def propagated(graph: Tensor, seeds: Tensor) -> Tensor:
    """Scores (N, classes) after the labels that `seeds` (N, classes) gives have gone round."""
    scores = seeds
    for _ in range(ROUNDS):
        scores = ALPHA * (graph @ scores) + (1 - ALPHA) * seeds
    return scores
