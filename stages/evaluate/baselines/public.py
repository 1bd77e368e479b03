"""Public weights beside the methods: features of MobileNetV2, trained on ImageNet, and a linear probe.

What a user would take otherwise: a network that was trained on a million labelled photographs, as it is.
"""

from functools import cache
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from stages.networks.encoder import Declaration, Encoder
from stages.networks.timm import TimmEncoder
from stages.tasks.probe import fit_linear

NETWORK, SIDE = "timm/mobilenetv2_100", 96  # smaller images are enlarged to so many pixels a side
BATCH = 64  # images
L2 = 0.1  # as probe.l2 is in the default params.yaml


@cache
def network(channels: Literal[1, 3], side: int) -> Encoder:
    """The network with ImageNet's weights, for images of these channels and pixels a side.

    Raises:
        InputError: the package with the weights is not installed.
    """
    declaration = Declaration(
        name=NETWORK, width=1, channels=channels, image_size=side, input_size=max(side, SIDE)
    )
    encoder = TimmEncoder(declaration)
    encoder.initialise(torch.Generator())  # gives the layers memory
    encoder.load_imagenet()
    return encoder.eval().to(memory_format=torch.channels_last)


def imagenet(images: np.ndarray) -> np.ndarray:
    """The 1,280 features of each image."""
    encoder = network(1 if images.shape[1] == 1 else 3, images.shape[2])
    with torch.inference_mode():
        parts = [encoder(part / 255) for part in torch.from_numpy(images).split(BATCH)]
    return np.asarray(torch.cat(parts).numpy())


class Probe:
    """The linear probe of `tasks.probe` with the methods that scikit-learn's classifiers have."""

    def fit(self, described: np.ndarray, labels: np.ndarray) -> Self:
        """Fit the probe to features (n, D) and labels (n,)."""
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        self.head = fit_linear(torch.from_numpy(described), torch.from_numpy(numbers), len(self.classes_), L2)
        return self

    def predict_proba(self, described: np.ndarray) -> np.ndarray:
        """The probability of each of `classes_`, (N, classes)."""
        with torch.inference_mode():
            logits: Tensor = self.head(torch.from_numpy(described))
            return np.asarray(logits.softmax(1).numpy())
