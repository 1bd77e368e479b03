"""Classifiers: an encoder with a linear head, its loss, its predictions, and its file."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import InputError
from stages.files import weights
from stages.networks.encoder import Encoder
from stages.tasks.features import encode
from stages.tasks.labels import are_class_names
from stages.training.machine import Machine


class Classifier(nn.Module):
    """An encoder with a linear head: images (N, C, H, W) in [0, 1] to logits (N, classes)."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.features, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in fp32, a scalar.

    Args:
        logits: (N, classes).
        labels: (N,) int64.
        weights: of each class, (classes,); None: all are 1.
    """
    return F.cross_entropy(logits.float(), labels, weights)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights of the loss with which all classes contribute equally, (classes,).

    The weight of a class is N / (classes · images of the class), as in G. King, L. Zeng, "Logistic Regression
    in Rare Events Data", 2001. Its mean over the images is 1. A class without images has weight 0.

    Args:
        labels: (N,) int64.
    """
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp_min(1)), 0.0)


@torch.no_grad()
def probabilities(classifier: Classifier, images: Tensor | np.ndarray, machine: Machine) -> Tensor:
    """Class probabilities (N, classes) float32 of uint8 images (N, C, H, W).

    The encoder runs in the machine's precision, the head in fp32. `evaluate` and `predict` both call this
    function: on one machine, the probabilities of an image are the same bits in both.
    """
    return encode(classifier.encoder, images, machine, classifier.head).softmax(1)


def write_classifier(path: Path, classifier: Classifier, classes: list[str]) -> None:
    """Write encoder and head with the encoder's declaration and the class names."""
    declaration = classifier.encoder.declaration.model_dump()
    weights.write(path, classifier, {"encoder": declaration, "classes": classes})


def read_classifier(path: Path) -> tuple[Classifier, list[str]]:
    """The classifier in a file, and the names of its classes.

    Raises:
        InputError: the file is damaged, or does not hold a classifier.
    """
    header, state = weights.read(path)
    classes = header.get("classes")
    if not isinstance(classes, list) or not classes:
        raise InputError(f"{path}: is not a classifier: its header has no classes")
    if not are_class_names(classes):
        raise InputError(f"{path}: the classes in its header are not a list of distinct names")
    with torch.device("meta"):
        classifier = Classifier(weights.declared_encoder(path, header), len(classes))
    weights.fill(path, classifier, header, state)
    return classifier, classes
