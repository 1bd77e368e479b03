"""Probes of frozen features: a linear classifier and nearest neighbours."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.settings.schema import Neighbours


def fit_linear(features: Tensor, labels: Tensor, classes: int, l2: float) -> nn.Linear:
    """Multinomial logistic regression on frozen features, trained to the optimum by L-BFGS.

    Minimises the mean cross-entropy plus l2 / (2n) · ‖W‖², so that the penalty has less weight with more
    labels; the bias is not penalised. Features are centred and divided by their mean norm, so that `l2` has
    the same meaning for every encoder; the returned layer includes this normalisation.

    Args:
        features: (n, D) float.
        labels: (n,) int64 in [0, classes).
        l2: strength of the penalty.

    Returns:
        A linear layer for the original features.
    """
    features = features.double()
    centre = features.mean(0)
    scale = (features - centre).norm(dim=1).mean().clamp_min(1e-12)
    x = (features - centre) / scale
    weight = torch.zeros(classes, x.shape[1], dtype=x.dtype, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, device=x.device, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def objective() -> float:
        optimiser.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, labels) + l2 / (2 * len(x)) * weight.square().sum()
        loss.backward()
        return loss.item()

    optimiser.step(objective)
    head = nn.Linear(x.shape[1], classes, device=x.device)
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias - (weight / scale) @ centre)
    return head


def knn_probabilities(
    queries: Tensor, bank: Tensor, labels: Tensor, classes: int, settings: Neighbours, chunk: int = 1024
) -> Tensor:
    """Weighted k-nearest-neighbour vote by cosine similarity (Wu et al. 2018, arXiv:1805.01978).

    Each of the k nearest votes for its class with weight exp(similarity / temperature).

    Args:
        queries: (n, D).
        bank: (m, D); if m < k, all of them vote.
        labels: (m,) int64, of the bank.
        chunk: how many queries are compared with the bank at the same time.

    Returns:
        (n, classes) votes; each row sums to 1.
    """
    votes = []
    bank = F.normalize(bank, dim=1)
    k = min(settings.k, len(bank))
    for part in F.normalize(queries, dim=1).split(chunk):
        similarity, index = (part @ bank.T).topk(k, dim=1)
        votes.append(_vote(similarity, labels[index], classes, settings.temperature))
    return torch.cat(votes)


def knn_accuracy(
    features: Tensor, labels: Tensor, settings: Neighbours, groups: Tensor | None = None, chunk: int = 1024
) -> float:
    """Leave-one-out k-nearest-neighbour accuracy of a labelled set, a fraction.

    Each image is classified by all others outside its group, so no second labelled set is needed.
    Images of one group, such as those of one patient, recognise each other without knowledge of the classes.

    Args:
        features: (n, D).
        labels: (n,) int64.
        groups: (n,) int64; None: each image is a group of its own.

    Returns:
        The fraction of those images that have a neighbour; NaN if none has.
    """
    features = F.normalize(features, dim=1)
    groups = torch.arange(len(features), device=features.device) if groups is None else groups
    # Votes need memory for each class: a table may have any number, and only those that occur get votes.
    names, labels = labels.unique(return_inverse=True)
    classes, correct, classified = len(names), 0, 0
    k = min(settings.k, len(features) - 1)
    for start in range(0, len(features), chunk):
        part = slice(start, start + chunk)
        similarity = features[part] @ features.T
        similarity[groups[part, None] == groups] = -torch.inf
        near, index = similarity.topk(k, dim=1)
        has_neighbour = near[:, 0] > -torch.inf
        votes = _vote(near, labels[index], classes, settings.temperature)
        correct += int((votes.argmax(1) == labels[part])[has_neighbour].sum())
        classified += int(has_neighbour.sum())
    return correct / classified if classified else math.nan


def _vote(similarity: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Votes (n, classes) of k neighbours, from their similarities and labels (n, k)."""
    weights = (similarity / temperature).softmax(1)
    votes = weights.new_zeros(len(weights), classes)
    return votes.scatter_add_(1, labels, weights)
