"""The situations in which the coverage of intervals is simulated."""

from dataclasses import dataclass
from itertools import product

import numpy as np

DRAWS, TESTS, LABELS = (3, 5, 10), (60, 300, 10_000), (210, 2000, 55_000)
AGREEMENTS, GROUPS = (0.0, 0.5, 0.9), (1, 10)
BUDGET = 100  # labelled images of a draw
DEFAULT, HIGH = 0.8, 0.98  # accuracies of the control
FIVE, RARE = (0.4, 0.3, 0.15, 0.1, 0.05), (0.95, 0.05)  # shares of the classes, for the macro recall


@dataclass(frozen=True)
class Setting:
    """A simulated situation: draws, test images, labelled images, agreement in [0, 1], images of a group.

    Attributes:
        runs: pretrainings of each model; draw d uses run d mod runs.
        score: accuracy, or recall_macro over classes of unequal size, each with the same true recall.
        accuracy: the true one of the control.
        shares: of the classes among the test images, for the macro recall; a group has one class.
        single: so many of the test images are in no group.
    """

    draws: int
    test: int
    labels: int
    agreement: float
    group: int
    runs: int = 1
    score: str = "accuracy"
    accuracy: float = DEFAULT
    shares: tuple[float, ...] = FIVE
    single: int = 0

    @property
    def accuracies(self) -> tuple[float, float]:
        """The true ones of the control and of the contender, which has a quarter fewer errors."""
        return self.accuracy, 1 - 0.75 * (1 - self.accuracy)

    def __str__(self) -> str:  # noqa: D105
        given = f"{BUDGET} from {self.labels}" if self.labels > BUDGET else f"all {self.labels}"
        of_control = f", accuracy {self.accuracy}" if self.accuracy != DEFAULT else ""
        rare = f", {len(self.shares)} classes" if self.shares != FIVE else ""
        pretrained = f", {self.runs} runs" if self.runs > 1 else ""
        alone = f", {self.single} in none" if self.single else ""
        return (
            f"{self.draws} draws of {given} labels, {self.test} test images in groups of "
            f"{self.group}{alone}, agreement {self.agreement}{pretrained}{of_control}{rare}"
        )

    def numbers(self) -> tuple[int, ...]:
        """The seed of its random numbers."""
        numbers = (self.draws, self.test, self.labels, int(10 * self.agreement), self.group)
        others = (self.runs, len(self.score), round(1000 * self.accuracy))
        if others == (1, len("accuracy"), 1000 * DEFAULT) and not self.single:
            return numbers
        return (*numbers, *others, self.single) if self.single else (*numbers, *others)

    def units(self) -> np.ndarray:
        """The group of each test image, or the image alone, (test,): those in groups come first."""
        grouped = self.test - self.single
        groups = np.arange(grouped) // self.group
        return np.concatenate([groups, groups.max(initial=-1) + 1 + np.arange(self.single)])


def grid() -> list[Setting]:
    """Every combination of draws, test images, labelled images, agreement and groups."""
    return [Setting(*values) for values in product(DRAWS, TESTS, LABELS, AGREEMENTS, GROUPS)]


def all_settings() -> list[Setting]:
    """The grid, and beside it what is harder.

    Two draws; all labels, so that draws are equal; several runs; few errors; macro recall; groups of unequal
    size, with few errors, and of one class each.
    """
    return [
        *grid(),
        *(Setting(2, *values) for values in product((60, 300), (210, 55_000), (0.5,), GROUPS)),
        *(Setting(*values) for values in product(DRAWS, TESTS, (BUDGET,), (0.5,), GROUPS)),
        *(Setting(*values, runs=3) for values in product(DRAWS, TESTS, (2000, 55_000), (0.0, 0.9), (1,))),
        *(Setting(*values, accuracy=HIGH) for values in product(DRAWS, (60, 300), LABELS, AGREEMENTS, (1,))),
        *(
            Setting(*values, score="recall_macro")
            for values in product(DRAWS, (60, 300), (2000,), AGREEMENTS, (1,))
        ),
        *(
            Setting(*values, score="recall_macro", shares=RARE)
            for values in product(DRAWS, (60, 300), (2000,), (0.0, 0.9), (1,))
        ),
        *(Setting(*values, accuracy=HIGH) for values in product(DRAWS, (300,), (2000,), AGREEMENTS, (10,))),
        *(
            Setting(*values, accuracy=accuracy, single=100)
            for accuracy in (DEFAULT, HIGH)
            for values in product(DRAWS, (600,), (2000,), AGREEMENTS, (50, 100))
        ),
        *(
            Setting(*values, score="recall_macro", shares=shares, accuracy=accuracy)
            for shares in (FIVE, RARE)
            for accuracy in (DEFAULT, 0.95)
            for values in product((3, 5), (600, 1000), (2000,), (0.5, 0.9), (10,))
        ),
    ]
