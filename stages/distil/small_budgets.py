"""What distil@METHOD does: finetuned models of few labels become models that learnt from the pool too."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from stages.distil.distiller import Distiller, Job, Result, Student, images_of
from stages.files import provenance
from stages.files.json_files import write_json
from stages.files.locks import require_writable
from stages.files.model_index import Model, read_index, write_index
from stages.files.paths import CLASSIFIERS, DISTILLED, IMAGES, LABELS, METRICS
from stages.files.whole import whole_folder
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.draws import draw_labelled, parse_budget
from stages.tasks.labels import read_pool_labels
from stages.training.checkpoint import CHECKPOINTS, Origin, remove_unused
from stages.training.machine import Machine, set_up
from stages.training.progress import progress
from stages.training.randomness import Stream
from stages.training.workers import Workers, fitting

PROTOCOL = "distilled"
# The validation images are not read, but are in the same folder as the pool.
NOT_READ = tuple(str(IMAGES / name) for name in ("validation.csv", "validation.npy"))


def main(method: str) -> None:
    """Distil each finetuned model of a small budget; write the models, their index, and what was done."""
    raw = load.read(load.PARAMS)
    settings = load.parameters("distil", method, raw)
    threads = settings.runtime.threads.finetune
    machine = set_up(settings.runtime, threads)
    origin = Origin.of("distil", method, machine, raw)
    figures_file = METRICS / "distil" / f"{method}.json"
    timings_file = METRICS / "timings" / "distil" / f"{method}.json"
    checkpoints = CHECKPOINTS / "distil" / method
    require_writable(DISTILLED / method, figures_file, timings_file, checkpoints / "any")
    labels, classes = read_pool_labels()
    students = students_of(read_index(CLASSIFIERS / method), settings, labels, len(classes))
    remove_unused(checkpoints, {str(student) for student in students})
    count = min(fitting(threads), max(1, len(students)))
    title, images = f"distil {method}", len(students) * images_of(settings)
    # A model depends on its own parent and draw, not on the others, so its checkpoint remains valid when a
    # budget or a draw is added.
    key = origin.key(without=("distil.few", str(LABELS), str(CLASSIFIERS / method), *NOT_READ))
    with whole_folder(DISTILLED / method) as folder:
        job = Job(method, raw, key, checkpoints, folder)
        with progress(title, images) as bar, Workers(title, partial(Distiller.open, job), count) as workers:
            done = dict(workers.run(Distiller.distil, students, bar))
        results = [done[number] for number in range(len(students))]
        print_kept(method, students, results)
        write_index(folder, [model_of(student, job) for student in students])
        made_from = provenance.made_from("distil", method, hashed=origin.hashes)
        origin.require_unchanged()
    draws = [figures_of(student, result) for student, result in zip(students, results, strict=True)]
    write_json(figures_file, {**machine.describe(), "made_from": made_from, "draws": draws})
    write_json(timings_file, timings(machine, results, count, images_of(settings)))


def students_of(models: Sequence[Model], settings: Params, labels: Tensor, classes: int) -> list[Student]:
    """A student for each finetuned model with fewer than `distil.few` labels."""
    students = []
    for model in models:
        rows = draw_labelled(labels, classes, parse_budget(model.budget), model.draw, settings.seeds.draws)
        if len(rows) < settings.distil.few:
            stream = Stream.of(settings.seeds.training, "distil", model.budget, model.draw)
            students.append(Student(model, rows.numpy(), stream))
    return students


def model_of(student: Student, job: Job) -> Model:
    """The row of the index for a new model."""
    parent = student.parent
    return Model(parent.file, PROTOCOL, parent.budget, parent.draw, parent.run, str(job.parent(student)))


def figures_of(student: Student, result: Result) -> dict[str, Any]:
    """What was done with a draw, for the metrics; fractions of labels are None where none is counted."""
    check = result.check
    return {
        "budget": student.parent.budget,
        "draw": student.parent.draw,
        "run": student.parent.run,
        "spread": result.images > 0,
        "images": result.images,
        "leave_one_out": {
            "labels": check.labels,
            "spread": round(check.graph / check.labels, 4) if check.labels else None,
            "nearest": round(check.nearest / check.labels, 4) if check.labels else None,
        },
    }


def print_kept(method: str, students: Sequence[Student], results: Sequence[Result]) -> None:
    """Print for which draws the finetuned model stays, and why."""
    for student, result in zip(students, results, strict=True):
        check = result.check
        reason = (
            "no image is near enough to a labelled one"
            if check.helps
            else f"of {check.labels} labels, the graph of the pool finds {check.graph} without themselves, "
            f"the nearest labelled image {check.nearest}"
        )
        if result.images and not check.labels:
            print(f"distil {method} {student}: not checked, because no class has two labels", flush=True)
        if not result.images:
            print(f"distil {method} {student}: the finetuned model stays, because {reason}", flush=True)


def timings(
    machine: Machine, results: Sequence[Result], count: int, each: int
) -> dict[str, float | int | str]:
    """Time and memory of the stage; seconds are those of one of the `count` workers, on average.

    each: how many images a training sees.
    """
    images = each * sum(result.images > 0 for result in results)
    return machine.timings(sum(result.seconds for result in results) / count, images) | {
        "propagation_seconds": round(sum(result.spreading for result in results) / count, 1),
        "workers": count,
        "worker_memory_mb": max((result.memory_mb for result in results), default=0),
    }
