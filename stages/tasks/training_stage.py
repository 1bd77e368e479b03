"""A stage that trains classifiers of one method in workers, from its start to its metrics."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from stages.files import provenance
from stages.files.locks import require_writable
from stages.files.paths import IMAGES, METRICS
from stages.files.records import write_record
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.finetuning import RandomViews
from stages.tasks.labels import read_pool_labels
from stages.tasks.trainer import Cost, Job, Trainer
from stages.training.checkpoint import CHECKPOINTS, Origin, remove_unused
from stages.training.machine import Machine, set_up
from stages.training.progress import Bar, progress
from stages.training.workers import Workers, fitting

# No training depends on validation, which is in the same folder as the pool.
VALIDATION = tuple(str(IMAGES / name) for name in ("validation.csv", "validation.npy"))
R = TypeVar("R")
S = TypeVar("S", bound=Trainer)
T = TypeVar("T")


@dataclass(frozen=True)
class TrainingStage:
    """The process of a stage; its workers are `Trainer`s.

    Attributes:
        name: of the stage.
        raw: the content of params.yaml.
        settings: what the stage declares of it.
        origin: everything that the results depend on, as it was before the stage read anything.
        labels: of the pool, (N,) int64; -1: none.
        classes: their names.
    """

    name: str
    method: str
    raw: Any
    settings: Params
    machine: Machine
    origin: Origin
    labels: Tensor
    classes: list[str]

    @staticmethod
    def open(name: str, method: str, output: Path) -> "TrainingStage":
        """Read parameters and labels, and check that all outputs can be written.

        Args:
            output: the file or folder that the stage writes beside its metrics.
        """
        raw = load.read(load.PARAMS)
        settings = load.parameters(name, method, raw)
        machine = set_up(settings.runtime, settings.runtime.threads.finetune)
        origin = Origin.of(name, method, machine, raw)
        figures, timings = metrics_files(name, method)
        require_writable(output, figures, timings, CHECKPOINTS / name / method / "any")
        return TrainingStage(name, method, raw, settings, machine, origin, *read_pool_labels())

    @property
    def title(self) -> str:
        """Names the stage in messages, such as `finetune simclr`."""
        return f"{self.name} {self.method}"

    def job(self, views: RandomViews, folder: Path, not_in_key: Collection[str]) -> Job:
        """What the workers are told.

        Args:
            folder: where they write their models.
            not_in_key: what a single training does not depend on (`Origin.key`).
        """
        key, checkpoints = self.origin.key(without=not_in_key), CHECKPOINTS / self.name / self.method
        return Job(self.name, self.method, self.raw, key, checkpoints, folder, views)

    def run(
        self,
        opener: type[S],
        work: Callable[[S, T, Bar], R],
        job: Job,
        tasks: Sequence[T],
        images: int,
        later: Collection[str] = (),
    ) -> list[R]:
        """The result of each task, in their order; the tasks run side by side.

        Args:
            tasks: each has its checkpoint under its name, `str(task)`; other checkpoints are removed.
            images: how many images all trainings see.
            later: names of tasks that may follow, whose checkpoints stay.
        """
        remove_unused(job.checkpoints, {*map(str, tasks), *later})
        workers = Workers(self.title, partial(opener.open, job), self.workers(len(tasks)))
        with progress(self.title, images) as bar, workers:
            done = dict(workers.run(work, tasks, bar))
        return [done[number] for number in range(len(tasks))]

    def workers(self, tasks: int) -> int:
        """How many workers run side by side for so many tasks."""
        return min(self.most_workers, max(1, tasks))

    @cached_property
    def most_workers(self) -> int:
        """How many workers fit. It is asked once: later there may be more memory free, or less."""
        return fitting(self.settings.runtime.threads.finetune)

    def made_from(self) -> dict[str, Any]:
        """What the results were made from; an InputError if it has changed since the stage began."""
        made_from = provenance.made_from(self.name, self.method, hashed=self.origin.hashes)
        self.origin.require_unchanged()
        return made_from

    def write_metrics(
        self,
        made_from: dict[str, Any],
        costs: Sequence[Cost],
        images: int,
        further: Mapping[str, float] | None = None,
        **figures: Any,
    ) -> None:
        """Write the figures and, in a file of their own, the timings.

        Seconds are those of one of the workers, on average.

        Args:
            images: how many images all trainings saw.
            further: timings of this stage alone.
        """
        count = self.workers(len(costs))
        figures_file, timings_file = metrics_files(self.name, self.method)
        spent = self.machine.timings(sum(cost.seconds for cost in costs) / count, images)
        memory = max((cost.memory_mb for cost in costs), default=0)
        write_record(figures_file, {**self.machine.describe(), "made_from": made_from, **figures})
        write_record(timings_file, {**spent, **(further or {}), "workers": count, "worker_memory_mb": memory})


def metrics_files(stage: str, method: str) -> tuple[Path, Path]:
    """The files of a stage's figures and timings."""
    return METRICS / stage / f"{method}.json", METRICS / "timings" / stage / f"{method}.json"
