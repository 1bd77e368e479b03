"""Choose the images to label next, from features only.

- `typical`: TypiClust (Hacohen, Dekel, Weinshall 2022, arXiv:2202.02794), for the first labels: as many
  clusters as there will be labels, and from each the image in its densest part.
- `centre`: greedy k-centre (Sener & Savarese 2018, arXiv:1708.00489): always the image that is farthest
  from all labelled and chosen ones, so that every image is near a label.
"""

import numpy as np
import torch
from scipy.cluster.vq import kmeans2

NEIGHBOURS = 20  # nearest neighbours in the cluster that define how typical an image is
CLUSTERS = 500  # at most, as in the paper
CHUNK = 1024  # images whose distances to their whole cluster are in memory at the same time


def typical(features: np.ndarray, labelled: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The `count` images to label next by TypiClust, most useful first.

    Clusters without labels come first, larger ones before smaller ones; after them those with the fewest
    labels. The most typical image of a cluster is chosen: the one with the smallest mean distance to its
    nearest neighbours in the cluster.

    Args:
        features: (N, D) float.
        labelled: (n,) int, the rows that have a label.
        count: at most N - n.
        seed: of the clusters' initial centres.

    Returns:
        (count,) int, rows without a label.
    """
    clusters = min(len(labelled) + count, CLUSTERS, len(features))
    _, cluster = kmeans2(features, clusters, minit="++", rng=np.random.default_rng(seed))
    size = np.bincount(cluster, minlength=clusters)
    labels = np.bincount(cluster[labelled], minlength=clusters)
    candidates = [
        by_typicality(features, np.flatnonzero(cluster == number), labelled) for number in range(clusters)
    ]
    chosen: list[int] = []
    while len(chosen) < count:
        available = [number for number in range(clusters) if candidates[number]]
        number = min(available, key=lambda number: (labels[number], -size[number]))
        chosen.append(candidates[number].pop(0))
        labels[number] += 1
    return np.array(chosen)


def by_typicality(features: np.ndarray, members: np.ndarray, labelled: np.ndarray) -> list[int]:
    """The rows of a cluster that have no label, most typical first.

    Args:
        features: (N, D) float.
        members: (m,) int, the rows in the cluster.
        labelled: (n,) int, the rows that have a label.
    """
    if len(members) == 0:
        return []
    points = torch.from_numpy(features[members])
    nearest = min(NEIGHBOURS + 1, len(members))  # each image is its own nearest neighbour
    parts = [
        torch.cdist(part, points).topk(nearest, largest=False).values.mean(1) for part in points.split(CHUNK)
    ]
    distance = torch.cat(parts).numpy()
    order = members[np.argsort(distance, kind="stable")]
    return [int(row) for row in order[~np.isin(order, labelled)]]


def centre(features: np.ndarray, labelled: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The `count` images to label next by greedy k-centre; without labels it starts at the mean.

    Args and return value are those of `typical`; the seed is not used, because nothing is random.
    """
    distance = np.full(len(features), np.inf)
    for row in labelled:
        distance = np.minimum(distance, np.linalg.norm(features - features[row], axis=1))
    distance[labelled] = -1  # never chosen, not even if all other images are copies of labelled ones
    chosen: list[int] = []
    for _ in range(count):
        if len(labelled) + len(chosen) == 0:  # no labels at all: the image nearest to the mean
            row = int(np.linalg.norm(features - features.mean(0), axis=1).argmin())
        else:
            row = int(distance.argmax())
        chosen.append(row)
        distance = np.minimum(distance, np.linalg.norm(features - features[row], axis=1))
        distance[row] = -1
    return np.array(chosen)


STRATEGIES = {"typical": typical, "centre": centre}
