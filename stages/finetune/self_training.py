"""Self-training: the classifier labels the pool, and the encoder learns from the labels it is sure of.

After finetuning, the third step of T. Chen, S. Kornblith, K. Swersky, M. Norouzi, G. Hinton, "Big
Self-Supervised Models are Strong Semi-Supervised Learners", NeurIPS 2020, arXiv:2006.10029; with hard
labels on augmented images as in D.-H. Lee, "Pseudo-Label", ICML workshop 2013. The pool's images are
used, its labels are not.
"""

import math

import numpy as np
import torch
from torch import Tensor

from stages import probe
from stages.artifacts import as_tensor
from stages.encoders import Classifier
from stages.finetune.train import Labelled
from stages.runtime import Machine

CHUNK = 4096  # images of the pool in memory at a time


def pseudo_labelled(
    classifier: Classifier, pool: np.ndarray, known: Labelled, confident: float, machine: Machine
) -> Labelled:
    """The part of the pool that a classifier is surest of, with the labels that it gives.

    The part is taken from each predicted class by itself: of the whole, hard classes would lose most.

    Args:
        pool: uint8 (N, C, H, W).
        known: the labelled images, rows of the pool: they keep their true labels and are always in.
        confident: the fraction of each predicted class that is taken, at least.
    """
    confidence, labels = predict(classifier, pool, machine)
    confidence[known.rows], labels[known.rows] = torch.inf, known.labels
    taken = confidence == torch.inf
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        order = confidence[members].argsort(descending=True, stable=True)
        taken[members[order[: math.ceil(confident * len(members))]]] = True
    rows = taken.nonzero()[:, 0]
    return Labelled(pool, rows, labels[rows])


@torch.no_grad()
def predict(classifier: Classifier, images: np.ndarray, machine: Machine) -> tuple[Tensor, Tensor]:
    """The largest probability (N,) and its class (N,) int64 for uint8 images (N, C, H, W)."""
    parts = []
    for begin in range(0, len(images), CHUNK):
        features = probe.encode(classifier.encoder, as_tensor(images[begin : begin + CHUNK]), machine)
        parts.append(classifier.head(features).softmax(1).cpu())
    confidence, labels = torch.cat(parts).max(1)
    return confidence, labels
