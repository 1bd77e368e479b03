"""Whether new models are taken, or those that they came from: over all draws of a budget, on validation.

What suits a budget is decided in one draw of labels, or by a check on the few labels of each draw. With few
labels another draw may say otherwise. Once the models of all draws are there, validation decides over all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.tasks.classifier import Classifier
from stages.tasks.features import encode_rows
from stages.tasks.scores import balanced_accuracy
from stages.tasks.validation import Validation
from stages.training.machine import Machine


@dataclass(frozen=True)
class Compared:
    """Of one draw: for each labelled image of validation, whether a new model and an old one are right.

    Attributes:
        new, old: (n,) bool.
        labels: (n,) int64.
    """

    new: np.ndarray
    old: np.ndarray
    labels: np.ndarray

    @staticmethod
    def of(new: Classifier, old: Classifier, validation: Validation, machine: Machine) -> "Compared":
        """Classify the images with both models."""
        pack, rows, labels = validation
        right = [
            encode_rows(one.encoder, pack, rows, machine, one.head).argmax(1).cpu().numpy() == labels
            for one in (new, old)
        ]
        return Compared(right[0], right[1], labels)


@dataclass(frozen=True)
class Confirmation:
    """Balanced accuracy on validation over the draws of a budget in which two models were compared.

    Attributes:
        new, old: a fraction, of the new models and of the old ones.
        draws: how many.
    """

    new: float
    old: float
    draws: int

    @property
    def holds(self) -> bool:
        """Whether the new models are taken."""
        return self.new >= self.old

    def in_words(self, new: str, old: str) -> str:
        """Which models are taken, and why; they are called so."""
        taken, of_draws = new if self.holds else old, "1 draw" if self.draws == 1 else f"{self.draws} draws"
        figures = f"{100 * self.new:.1f} % {new}, {100 * self.old:.1f} % {old}"
        return f"the {taken} models are taken: on validation, over {of_draws}, {figures}"

    def figures(self, new: str, old: str) -> dict[str, float | bool]:
        """For the metrics."""
        return {new: round(self.new, 4), old: round(self.old, 4), "holds": self.holds}


def confirmations(budgets: Sequence[str], compared: Sequence[Compared | None]) -> dict[str, Confirmation]:
    """Budget → its confirmation, for the budgets whose models were compared.

    Args:
        budgets: the budget of each draw.
        compared: of each draw; None: not compared.
    """
    draws: dict[str, list[Compared]] = {}
    for budget, one in zip(budgets, compared, strict=True):
        if one is not None:
            draws.setdefault(budget, []).append(one)
    found = {}
    for budget, of_budget in draws.items():
        labels = np.concatenate([one.labels for one in of_budget])
        correct = ([one.new for one in of_budget], [one.old for one in of_budget])
        new, old = (balanced_accuracy(np.concatenate(of), labels) for of in correct)
        found[budget] = Confirmation(new, old, len(of_budget))
    return found


def print_confirmations(title: str, confirmed: Mapping[str, Confirmation], new: str, old: str) -> None:
    """Print a line for each budget; the title is that of the stage, the models are called `new` and `old`."""
    for budget, confirmation in confirmed.items():
        print(f"{title} {budget}: {confirmation.in_words(new, old)}", flush=True)
