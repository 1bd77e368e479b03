"""Whether new models stay, or those that they came from: over all draws of a budget, on validation.

What suits a budget is decided in one draw of labels, or by a check on the few labels of each draw. With few
labels another draw may say otherwise. Once the models of all draws are there, validation decides over all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.images.tensors import as_tensor
from stages.tasks.classifier import Classifier, probabilities
from stages.tasks.scores import balanced_accuracy
from stages.tasks.validation import Validation
from stages.training.machine import Machine


@dataclass(frozen=True)
class OnValidation:
    """For each labelled image of validation, whether a new model and an old one are right.

    Attributes:
        new, old: (n,) bool.
        labels: (n,) int64.
    """

    new: np.ndarray
    old: np.ndarray
    labels: np.ndarray

    @staticmethod
    def of(new: Classifier, old: Classifier, validation: Validation, machine: Machine) -> "OnValidation":
        """Classify the images with both models."""
        pack, rows, labels = validation
        images = as_tensor(pack[rows])
        right = [probabilities(one, images, machine).argmax(1).cpu().numpy() == labels for one in (new, old)]
        return OnValidation(right[0], right[1], labels)


@dataclass(frozen=True)
class Confirmation:
    """Balanced accuracy on validation over all draws of a budget: of the new models and of the old ones."""

    new: float
    old: float

    @property
    def holds(self) -> bool:
        """Whether the new models stay."""
        return self.new >= self.old

    def in_words(self, new: str, old: str) -> str:
        """What became of the models, which are called so."""
        names = f"{100 * self.new:.1f} % {new}, {100 * self.old:.1f} % {old}"
        return f"the {new if self.holds else old} models stay: on validation, over all draws, {names}"

    def figures(self, new: str, old: str) -> dict[str, float | bool]:
        """For the metrics."""
        return {new: round(self.new, 4), old: round(self.old, 4), "holds": self.holds}


def confirmations(budgets: Sequence[str], compared: Sequence[OnValidation | None]) -> dict[str, Confirmation]:
    """Budget → its confirmation, for the budgets whose models were compared.

    Args:
        budgets: the budget of each draw.
        compared: of each draw; None: not compared.
    """
    draws: dict[str, list[OnValidation]] = {}
    for budget, one in zip(budgets, compared, strict=True):
        if one is not None:
            draws.setdefault(budget, []).append(one)
    found = {}
    for budget, of_budget in draws.items():
        labels = np.concatenate([one.labels for one in of_budget])
        correct = ([one.new for one in of_budget], [one.old for one in of_budget])
        found[budget] = Confirmation(*(balanced_accuracy(np.concatenate(of), labels) for of in correct))
    return found
