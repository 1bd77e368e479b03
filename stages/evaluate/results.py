"""The outputs of evaluate@METHOD."""

from dataclasses import dataclass, fields
from pathlib import Path

from stages.files.paths import METRICS, PREDICTIONS


@dataclass(frozen=True)
class Results:
    """The outputs of the stage for one method. All but the first are tracked by git.

    Attributes:
        predictions: folder with the probabilities of each model.
        figures: JSON, budget → protocol → the figures of each draw.
        confusion: CSV, confusion matrix of the finetuned models by budget.
        reliability: CSV, accuracy by confidence of the finetuned models by budget.
        mistakes: CSV, the misclassified images with the highest confidence.
        gallery: PNG, their pictures in the same order.
        map: CSV, test images in the plane of the first two principal components of the pretrained features.
        model: record, size of the classifier, and what the results were made from.
        timings: record, what differs from run to run.
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
        """The paths of a method's results."""
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
        """All paths."""
        return [getattr(self, field.name) for field in fields(self)]

    def recorded(self) -> list[Path]:
        """The files whose digests are in the record `model`."""
        return [self.figures, self.confusion, self.reliability, self.mistakes, self.gallery, self.map]


def predictions_file(budget: str, draw: int, protocol: str) -> str:
    """The name of the file with the probabilities of a model, (N, classes)."""
    return f"{budget}-draw{draw}-{protocol}.npy"
