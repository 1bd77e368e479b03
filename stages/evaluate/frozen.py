"""Evaluates the frozen encoder on the test split: a linear probe and nearest neighbours for each draw."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.files import weights
from stages.files.packs import read_pack
from stages.files.paths import IMAGES
from stages.images.tensors import as_tensor
from stages.settings.schema import Params
from stages.tasks.classifier import Classifier
from stages.tasks.draws import draw_labelled, parse_budget
from stages.tasks.features import encode, encode_rows
from stages.tasks.probe import fit_linear, knn_probabilities
from stages.training.machine import Machine


class FrozenEncoder:
    """The pretrained encoder, not finetuned.

    Args:
        file: of the encoder.
        images: the test images, uint8 (N, C, H, W), memory-mapped.
        labels: of the pool, (M,) int64; -1: none.
        classes: the number of classes.

    Attributes:
        test: features of the test images, (N, D).
        validation: of those of validation, once they were asked for.
    """

    def __init__(
        self, file: Path, images: np.ndarray, labels: Tensor, classes: int, settings: Params, machine: Machine
    ) -> None:
        self.settings, self.machine, self.labels, self.classes = settings, machine, labels, classes
        self.pool = read_pack(IMAGES / "pool.npy", rows=len(labels))
        self.encoder = weights.read_encoder(file).to(machine.device)
        self.test = encode(self.encoder, images, machine)
        self.validation: Tensor | None = None

    def is_of(self, classifier: Classifier) -> bool:
        """Whether a model has this very encoder, because no training has changed it."""
        frozen, finetuned = self.encoder.state_dict(), classifier.encoder.state_dict()
        return all(torch.equal(frozen[name], finetuned[name]) for name in frozen)

    def of_validation(self, images: np.ndarray, rows: np.ndarray) -> Tensor:
        """Features (K, D) of images of validation, uint8 (N, C, H, W), at some rows (K,): always the same."""
        if self.validation is None:
            self.validation = encode_rows(self.encoder, images, rows, self.machine)
        return self.validation

    def predict(self, budget: str, draw: int) -> dict[str, np.ndarray]:
        """Probabilities (N, classes) of the test images by protocol, with the labels of one draw."""
        settings = self.settings
        rows = draw_labelled(self.labels, self.classes, parse_budget(budget), draw, settings.seeds.draws)
        bank = encode(self.encoder, as_tensor(self.pool[rows.numpy()]), self.machine)
        labels = self.labels[rows].to(bank.device)
        head = fit_linear(bank, labels, self.classes, settings.probe.l2)
        with torch.no_grad():
            linear = head(self.test).softmax(1)
        knn = knn_probabilities(self.test, bank, labels, self.classes, settings.knn)
        return {"linear": linear.cpu().numpy(), "knn": knn.cpu().numpy()}
