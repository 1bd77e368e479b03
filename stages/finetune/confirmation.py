"""Whether training the encoder was right: over all draws, on validation, against its linear probe.

The recipe of a budget is chosen in one draw of labels. With few labels another draw may say otherwise, and
what is best in a short trial need not be best in full. Here the models of all draws are there, so what they
reach on validation decides once more: where the frozen encoder is better, its linear probes are the models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.finetune.trainings import Draw, Result
from stages.settings.recipes import Recipe
from stages.tasks.scores import balanced_accuracy


@dataclass(frozen=True)
class Confirmation:
    """Balanced accuracy on validation, over all draws: of a budget's models and of their linear probes."""

    trained: float
    frozen: float

    @property
    def holds(self) -> bool:
        """Whether the trained models stay."""
        return self.trained >= self.frozen

    def __str__(self) -> str:
        """What became of the models, for the output."""
        what = "the trained encoders stay" if self.holds else "the encoder stays frozen"
        of_trained, of_frozen = (f"{100 * value:.1f}" for value in (self.trained, self.frozen))
        return f"{what}: on validation, over all draws, {of_trained} % trained, {of_frozen} % frozen"

    def figures(self) -> dict[str, Any]:
        """For the metrics."""
        return {"trained": round(self.trained, 4), "frozen": round(self.frozen, 4), "holds": self.holds}


def confirmations(draws: Sequence[Draw], results: Sequence[Result]) -> dict[str, Confirmation]:
    """Budget → its confirmation, for the budgets whose models were compared with their linear probes."""
    compared: dict[str, list[Result]] = {}
    for draw, result in zip(draws, results, strict=True):
        if len(result.labels):
            compared.setdefault(draw.budget, []).append(result)
    return {
        budget: Confirmation(
            *(
                balanced_accuracy(np.concatenate(correct), np.concatenate([one.labels for one in of]))
                for correct in ([one.trained for one in of], [one.frozen for one in of])
            )
        )
        for budget, of in compared.items()
    }


def settle(folder: Path, draws: Sequence[Draw], confirmed: Mapping[str, Confirmation]) -> dict[str, Recipe]:
    """Replace the models of each budget that was not confirmed, and remove the other linear probes.

    Returns:
        Budget → the recipe of its models.
    """
    recipes = {draw.budget: draw.recipe for draw in draws}
    for draw in draws:
        if draw.budget in confirmed:
            if confirmed[draw.budget].holds:
                (folder / draw.probe_file).unlink()
            else:
                (folder / draw.probe_file).replace(folder / draw.file)
                recipes[draw.budget] = draw.recipe.model_copy(update={"encoder_learning_rate": 0.0})
    return recipes
