"""The trainings of finetune@METHOD, one for each budget and draw. They run side by side in workers."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from stages.files import weights
from stages.files.paths import encoder_file
from stages.settings.recipes import Recipe, Schedule
from stages.tasks import finetuning
from stages.tasks.classifier import Classifier, write_classifier
from stages.tasks.confirmation import Compared
from stages.tasks.finetuning import Labelled, steps_for
from stages.tasks.trainer import Cost, Trainer
from stages.training.machine import peak_memory_mb
from stages.training.progress import Bar
from stages.training.randomness import Stream


@dataclass(frozen=True)
class Draw:
    """The labelled images of one training.

    Attributes:
        budget: name of the budget.
        number: of the draw.
        run: number of the pretraining run whose encoder is trained.
        rows: (n,) int64, rows of the pool.
        recipe: how the encoder is trained.
        or_frozen: whether the linear probe may be taken instead: then the two are compared.
        stream: the random numbers of the training, the same for every method.
    """

    budget: str
    number: int
    run: int
    rows: np.ndarray
    recipe: Recipe
    or_frozen: bool
    stream: Stream

    def __str__(self) -> str:
        """The name of the draw in files and messages, such as `n100-draw0`."""
        return f"{self.budget}-draw{self.number}"

    @property
    def file(self) -> str:
        """The name of the classifier's file."""
        return f"{self}.safetensors"

    @property
    def probe_file(self) -> str:
        """The name of the file of the linear probe that the classifier is compared with."""
        return f"{self}-probe.safetensors"

    def images(self, schedule: Schedule) -> int:
        """How many images the training sees; a frozen encoder is not trained."""
        return 0 if self.recipe.frozen else steps_for(len(self.rows), schedule) * schedule.batch_size


@dataclass(frozen=True)
class Result(Cost):
    """What a training took, and how its model and the linear probe of its draw compare.

    Attributes:
        compared: on validation; None: they were not compared.
    """

    compared: Compared | None


@dataclass
class Finetuner(Trainer):
    """Finetunes the encoders of one method on one draw after another.

    Attributes:
        kept: the last linear probe, by encoder and labelled images.
    """

    kept: dict[tuple[Path, bytes], Classifier] = field(default_factory=dict)

    def finetune(self, draw: Draw, bar: Bar) -> Result:
        """Train the classifier of one draw and write its file; of a trained encoder the probe's file too."""
        settings, file = self.settings, encoder_file(self.job.method, draw.run)
        labelled = self.given(torch.from_numpy(draw.rows))
        encoder = weights.read_encoder(file).to(self.machine.device)
        classifier = Classifier(encoder, len(self.classes)).to(self.machine.device)
        seconds = 0.0
        if draw.recipe.frozen:
            classifier = self.probe(encoder, labelled)
        else:
            checkpoint = self.checkpoint(
                str(draw), draw.stream.key, weights.read_digest(file), draw.rows.tolist(),
                labelled.labels.tolist(), draw.recipe.model_dump(),
            )  # fmt: skip
            if not checkpoint.saved:  # its weights include the head
                classifier = finetuning.initial_classifier(
                    encoder, labelled, len(self.classes), settings.probe.l2, self.machine
                )
            seconds = self.train(
                str(draw), classifier, labelled, settings.finetune.schedule, draw.recipe, draw.stream, bar,
                checkpoint,
            )  # fmt: skip
        write_classifier(self.job.folder / draw.file, classifier, self.classes)
        compared = None
        if draw.or_frozen and not draw.recipe.frozen and self.validation is not None:
            probe = self.frozen(file, labelled)
            write_classifier(self.job.folder / draw.probe_file, probe, self.classes)
            compared = self.compare(classifier, probe)
        return Result(seconds, peak_memory_mb(), compared)

    def frozen(self, file: Path, labelled: Labelled) -> Classifier:
        """The linear probe of an encoder's file. The draws of all labels have the same one, which is kept."""
        key = (file, labelled.rows.numpy().tobytes())
        if key not in self.kept:
            encoder = weights.read_encoder(file).to(self.machine.device)
            self.kept = {key: self.probe(encoder, labelled)}
        return self.kept[key]
