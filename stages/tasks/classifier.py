"""Classification: an encoder with a linear head, its loss, its predictions, and its file."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import InputError
from stages.files import weights
from stages.networks.encoder import Encoder
from stages.tasks.features import encode
from stages.tasks.labels import are_names
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
    """The mean cross-entropy of logits (N, classes) and labels (N,), weighted by class if asked, in fp32."""
    return F.cross_entropy(logits.float(), labels, weights)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """The weight of each class in the loss, (classes,), with which all classes count the same.

    n / (K · n of the class), as in G. King, L. Zeng, "Logistic Regression in Rare Events Data", 2001; the
    mean over the images stays 1. A class without images gets 0.
    """
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp_min(1)), 0.0)


@torch.no_grad()
def probabilities(classifier: Classifier, images: Tensor, machine: Machine) -> Tensor:
    """Class probabilities (N, classes) float32 of uint8 images (N, C, H, W).

    The encoder runs in the machine's precision, the head in fp32. `evaluate` and `predict` both use this
    function, so that a model gives an image the same probabilities in both.
    """
    features = encode(classifier.encoder, images, machine)
    predicted: Tensor = classifier.head(features).softmax(1)
    return predicted


def write_classifier(path: Path, classifier: Classifier, classes: list[str]) -> None:
    """Write encoder and head with the declaration and the class names."""
    declaration = classifier.encoder.declaration.model_dump()
    weights.write(path, classifier, {"encoder": declaration, "classes": classes})


def read_classifier(path: Path) -> tuple[Classifier, list[str]]:
    """The classifier of a file, and the names of its classes.

    Raises:
        InputError: the file is damaged, or holds no classifier.
    """
    header, state = weights.read(path)
    classes = header.get("classes")
    if not isinstance(classes, list) or not classes:
        raise InputError(f"{path}: holds no classifier: its header names no classes")
    if not are_names(classes):
        raise InputError(f"{path}: the classes in its header are not a list of different names")
    with torch.device("meta"):
        classifier = Classifier(weights.declared_encoder(path, header), len(classes))
    weights.fill(path, classifier, header, state)
    return classifier, classes
