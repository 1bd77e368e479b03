"""What candidates are trained on and scored on: a draw and validation, or parts of the draw itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import Tensor

from stages.files.paths import IMAGES
from stages.files.tables import read_table
from stages.settings.schema import Params
from stages.tasks import folds
from stages.tasks.draws import CHOOSING, Budget, budget_name, draw_labelled
from stages.tasks.labels import units_of
from stages.tasks.validation import validation_labelled
from stages.training.randomness import Stream


@dataclass(frozen=True)
class Split:
    """Labelled images to train on, and other ones to score on.

    Attributes:
        budget: name of the budget.
        labels: how many labels the budget has.
        draw: number of the draw of labels.
        fold: the part of the draw that is held out; None: the images to score on are those of validation.
        rows: (n,) int64, rows of the pool to train on.
        held: (k,) int64, rows of the images to score on: of validation, or of the pool.
        held_labels: (k,) int64.
        stream: the random numbers of the training, the same for every method and candidate.
    """

    budget: str
    labels: int
    draw: int
    fold: int | None
    rows: np.ndarray
    held: np.ndarray
    held_labels: np.ndarray
    stream: Stream

    def __str__(self) -> str:
        """Its name in files and messages, such as `n100-draw1000-validation`."""
        part = "validation" if self.fold is None else f"fold{self.fold}"
        return f"{self.budget}-draw{self.draw}-{part}"

    @property
    def pack(self) -> str:
        """The name of the pack that the held images are in."""
        return "pool" if self.fold is not None else "validation"


def splits_of(
    budgets: Sequence[Budget],
    settings: Params,
    labels: Tensor,
    classes: int,
    draws: Sequence[int] = (CHOOSING,),
) -> list[Split]:
    """The splits of every budget.

    Validation is used if it has labels enough for a choice (`ENOUGH_VALIDATION`). Otherwise the labels of a
    draw are cut into folds; each fold is held out once. A budget gets no split if its classes have one label
    each, because a model cannot be scored on a class that it has never seen, or if all are of one group.

    Args:
        labels: of the pool, (N,) int64; -1: none.
        draws: their numbers. By default one that no other stage uses, so that the labels of one draw have
            no other weight in the choice than those of another.
    """
    validation = validation_labelled(classes, settings.choose.validation)
    groups = units_of(read_table(IMAGES / "pool.csv", text=True))
    splits = []
    for budget, draw in product(budgets, draws):
        name = budget_name(budget)
        rows = draw_labelled(labels, classes, budget, draw, settings.seeds.draws).numpy()
        stream = Stream.of(settings.seeds.training, "choose", name, draw)
        if validation is not None:
            splits.append(Split(name, len(rows), draw, None, rows, *validation[1:], stream))
            continue
        given = labels.numpy()[rows]
        fold_of = folds.assign(given, groups[rows], settings.choose.folds, stream.at("folds"))
        if fold_of.any() and np.bincount(given).max() > 1:
            splits += [
                Split(
                    name, len(rows), draw, fold, rows[fold_of != fold], rows[fold_of == fold],
                    given[fold_of == fold], stream.at("fold", fold),
                )
                for fold in range(fold_of.max() + 1)
            ]  # fmt: skip
    return splits
