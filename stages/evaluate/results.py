"""Where evaluate@METHOD writes what."""

from dataclasses import dataclass, fields
from pathlib import Path

from stages.files.paths import METRICS, PREDICTIONS


@dataclass(frozen=True)
class Results:
    """The outputs of the stage for one method, all but the first tracked by git.

    Attributes:
        predictions: a folder; probabilities of every model.
        figures: JSON, budget → protocol → one mapping of figures for each draw.
        confusion, reliability: of the finetuned models, CSV by budget.
        mistakes, gallery: the surest mistakes, CSV, and their pictures in the same order, PNG.
        map: test images in the plane of the pretrained features' two principal components, CSV.
        model: JSON, what the classifier costs by count, and what all of this was made from.
        timings: JSON, what differs from run to run.
    """

    predictions: Path
    figures: Path
    confusion: Path
    reliability: Path
    mistakes: Path
    gallery: Path
    map: Path
    model: Path
    timings: Path

    @staticmethod
    def of(method: str) -> "Results":
        """The places of a method's results."""
        folder = METRICS / "evaluate"
        return Results(
            predictions=PREDICTIONS / method,
            figures=folder / f"{method}.json",
            confusion=folder / f"{method}_confusion.csv",
            reliability=folder / f"{method}_reliability.csv",
            mistakes=folder / f"{method}_mistakes.csv",
            gallery=folder / f"{method}_mistakes.png",
            map=folder / f"{method}_map.csv",
            model=folder / f"{method}_model.json",
            timings=METRICS / "timings" / "evaluate" / f"{method}.json",
        )

    def paths(self) -> list[Path]:
        """All of them."""
        return [getattr(self, field.name) for field in fields(self)]
