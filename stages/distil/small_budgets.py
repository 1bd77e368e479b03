"""What distil@METHOD does: finetuned models of few labels become models that learnt from the pool too."""

import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from stages.distil.distiller import Distiller, Result, Student, parent_file
from stages.files.digests import write_digests
from stages.files.paths import CLASSIFIERS, DISTILLED, IMAGES, LABELS
from stages.files.whole import whole_folder
from stages.settings.recipes import Recipe
from stages.settings.schema import Params
from stages.tasks.chosen import read_used
from stages.tasks.confirmation import confirmations, print_confirmations
from stages.tasks.draws import draw_labelled, parse_budget
from stages.tasks.labels import read_groups
from stages.tasks.model_index import Model, read_index, write_index
from stages.tasks.training_stage import VALIDATION, TrainingStage
from stages.training.randomness import Stream
from stages.views.augment import random_views

PROTOCOL = "distilled"
NEW_AND_OLD = "distilled", "finetuned"


def main(method: str) -> None:
    """Distil each finetuned model of a small budget; write the models, their index, and what was done."""
    stage = TrainingStage.open("distil", method, DISTILLED / method)
    settings = stage.settings
    models = read_index(CLASSIFIERS / method)
    used = read_used(CLASSIFIERS / method, {model.budget: None for model in models})
    students = students_of(models, used, settings, stage.labels, len(stage.classes))
    views = partial(random_views, strengths=settings.views.presets[settings.views.finetune])
    # A model depends on its own parent, draw and recipe, not on the others, so its checkpoint remains valid
    # when a budget or a draw is added.
    others = ("distil.few", str(LABELS), str(CLASSIFIERS / method))
    with whole_folder(DISTILLED / method) as folder:
        job = stage.job(views, folder, (*others, *VALIDATION))
        images = sum(student.images(settings) for student in students)
        results = stage.run(Distiller, Distiller.distil, job, students, images)
        print_not_spread(method, students, results)
        budgets = [student.parent.budget for student in students]
        confirmed = confirmations(budgets, [result.compared for result in results])
        print_confirmations(stage.title, confirmed, *NEW_AND_OLD)
        for student in students:
            if student.parent.budget in confirmed and not confirmed[student.parent.budget].holds:
                shutil.copyfile(parent_file(method, student.parent), folder / student.parent.file)
        write_index(folder, [model_of(student, method) for student in students])
        write_digests(folder, DISTILLED / method)
        made_from = stage.made_from()
    draws = [figures_of(student, result) for student, result in zip(students, results, strict=True)]
    trained = sum(
        student.images(settings) for student, result in zip(students, results, strict=True) if result.images
    )
    spreading = round(sum(result.spreading for result in results) / stage.workers(len(students)), 1)
    figures = {budget: confirmation.figures(*NEW_AND_OLD) for budget, confirmation in confirmed.items()}
    further = {"propagation_seconds": spreading}
    stage.write_metrics(made_from, results, trained, further, draws=draws, confirmation=figures)


def students_of(
    models: Sequence[Model], recipes: dict[str, Recipe], settings: Params, labels: Tensor, classes: int
) -> list[Student]:
    """A student for each finetuned model with fewer than `distil.few` labels."""
    students, groups = [], read_groups(IMAGES / "pool.csv").numpy()
    for model in models:
        rows = draw_labelled(labels, classes, parse_budget(model.budget), model.draw, settings.seeds.draws)
        if len(rows) < settings.distil.few:
            stream = Stream.of(settings.seeds.training, "distil", model.budget, model.draw)
            students.append(Student(model, rows.numpy(), groups[rows.numpy()], recipes[model.budget], stream))
    return students


def model_of(student: Student, method: str) -> Model:
    """The row of the index for a new model."""
    parent = student.parent
    path = parent_file(method, parent)
    return Model(parent.file, PROTOCOL, parent.budget, parent.draw, parent.run, str(path))


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


def print_not_spread(method: str, students: Sequence[Student], results: Sequence[Result]) -> None:
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
