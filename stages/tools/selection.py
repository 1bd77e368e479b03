"""Which images to label next: typical ones that differ from each other, chosen from features alone.

- `typical`: TypiClust (Hacohen, Dekel, Weinshall 2022, arXiv:2202.02794), for the first labels: as many
  clusters as there will be labels, and of each the image in its densest part.
- `centre`: greedy k-centre (Sener & Savarese 2018, arXiv:1708.00489): always the image that is farthest
  from all that are chosen, so that none is far from a label.
"""

import numpy as np
import torch
from scipy.cluster.vq import kmeans2

NEIGHBOURS = 20  # of an image, within its cluster, that its typicality counts
CLUSTERS = 500  # at most, as in the paper
CHUNK = 1024  # images whose distances to all of their cluster are in memory at the same time


def typical(features: np.ndarray, labelled: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The `count` images to label next by TypiClust, most useful first.

    Clusters without a label come first, larger ones before smaller ones; where all have one, those with the
    fewest. Of a cluster the most typical image is taken: that with the smallest mean distance to its nearest
    neighbours there.

    Args:
        features: (N, D) float.
        labelled: (n,) int, the rows that have a label.
        count: at most N - n.
        seed: of the clusters' first centres.

    Returns:
        (count,) int rows, none of them labelled.
    """
    clusters = min(len(labelled) + count, CLUSTERS, len(features))
    _, cluster = kmeans2(features, clusters, minit="++", rng=np.random.default_rng(seed))
    size = np.bincount(cluster, minlength=clusters)
    labels = np.bincount(cluster[labelled], minlength=clusters)
    left = [
        by_typicality(features, np.flatnonzero(cluster == number), labelled) for number in range(clusters)
    ]
    chosen: list[int] = []
    while len(chosen) < count:
        able = [number for number in range(clusters) if left[number]]
        number = min(able, key=lambda number: (labels[number], -size[number]))
        chosen.append(left[number].pop(0))
        labels[number] += 1
    return np.array(chosen)


def by_typicality(features: np.ndarray, members: np.ndarray, labelled: np.ndarray) -> list[int]:
    """A cluster's rows without a label, the most typical first."""
    if len(members) == 0:
        return []
    points = torch.from_numpy(features[members])
    near = min(NEIGHBOURS + 1, len(members))  # each is its own nearest
    parts = [
        torch.cdist(part, points).topk(near, largest=False).values.mean(1) for part in points.split(CHUNK)
    ]
    distance = torch.cat(parts).numpy()
    order = members[np.argsort(distance, kind="stable")]
    return [int(row) for row in order[~np.isin(order, labelled)]]


def centre(features: np.ndarray, labelled: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The `count` images to label next by greedy k-centre, as `typical` does; it begins at the mean.

    Args:
        seed: not needed, for nothing is drawn here.
    """
    distance = np.full(len(features), np.inf)
    for row in labelled:
        distance = np.minimum(distance, np.linalg.norm(features - features[row], axis=1))
    distance[labelled] = -1  # never chosen, not even where the others are copies of it
    chosen: list[int] = []
    for _ in range(count):
        if len(labelled) + len(chosen) == 0:  # nothing has a label: the image in the middle of all
            row = int(np.linalg.norm(features - features.mean(0), axis=1).argmin())
        else:
            row = int(distance.argmax())
        chosen.append(row)
        distance = np.minimum(distance, np.linalg.norm(features - features[row], axis=1))
        distance[row] = -1
    return np.array(chosen)


STRATEGIES = {"typical": typical, "centre": centre}
