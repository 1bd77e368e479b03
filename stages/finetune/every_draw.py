"""What finetune@METHOD does: an encoder and labels become classifiers, one for each budget and draw."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from stages.files import provenance, weights
from stages.files.json_files import write_json
from stages.files.locks import require_writable
from stages.files.model_index import Model, write_index
from stages.files.paths import CLASSIFIERS, ENCODERS, IMAGES, LABELS, METRICS, encoder_file
from stages.files.whole import whole_folder
from stages.finetune.trainings import Cost, Draw, Finetuner, Job
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.draws import budget_name, draw_labelled, usable_budgets
from stages.tasks.finetuning import steps_for
from stages.tasks.labels import read_pool_labels
from stages.training.checkpoint import CHECKPOINTS, Origin, remove_unused
from stages.training.machine import Machine, set_up
from stages.training.progress import progress
from stages.training.randomness import Stream
from stages.training.workers import Workers, fitting

# The validation images are not read, but are in the same folder as the pool.
NOT_READ = tuple(str(IMAGES / name) for name in ("validation.csv", "validation.npy"))
# A classifier depends on the labels of its own draw and the encoder of its own run, not on others, so its
# checkpoint remains valid when a budget, a draw or a run is added.
NOT_IN_KEY = ("pretrain.runs", "finetune.budgets", "finetune.draws", str(ENCODERS), str(LABELS), *NOT_READ)


def main(method: str) -> None:
    """Finetune a method's encoders on each draw of each budget; write the classifiers and their index."""
    raw = load.read(load.PARAMS)
    settings = load.parameters("finetune", method, raw)
    threads = settings.runtime.threads.finetune
    machine = set_up(settings.runtime, threads)
    origin = Origin.of("finetune", method, machine, raw)
    figures_file = METRICS / "finetune" / f"{method}.json"
    timings_file = METRICS / "timings" / "finetune" / f"{method}.json"
    checkpoints = CHECKPOINTS / "finetune" / method
    require_writable(CLASSIFIERS / method, figures_file, timings_file, checkpoints / "any")
    labels, classes = read_pool_labels()
    # All draws are made before the first training, so that an invalid budget fails at once.
    draws = make_draws(settings, labels, len(classes))
    remove_unused(checkpoints, {str(draw) for draw in draws})
    count = min(fitting(threads), max(1, len(draws)))
    title, images = f"finetune {method}", sum(images_of(draw, settings) for draw in draws)
    encoders = {draw.run: encoder_file(method, draw.run) for draw in draws}
    digests = {run: weights.read_digest(file) for run, file in encoders.items()}
    with whole_folder(CLASSIFIERS / method) as folder:
        job = Job(method, raw, origin.key(without=NOT_IN_KEY), digests, checkpoints, folder)
        with progress(title, images) as bar, Workers(title, partial(Finetuner.open, job), count) as workers:
            costs = [cost for _, cost in workers.run(Finetuner.train, draws, bar)]
        write_index(folder, [indexed(draw, encoders[draw.run]) for draw in draws])
        made_from = provenance.made_from("finetune", method, hashed=origin.hashes)
        origin.require_unchanged()
    write_json(figures_file, {**machine.describe(), "made_from": made_from})
    write_json(timings_file, timings(machine, costs, count, images))


def make_draws(settings: Params, labels: Tensor, classes: int) -> list[Draw]:
    """The draws of every budget that has enough labels."""
    draws = []
    for budget in usable_budgets(settings.finetune.budgets, int((labels >= 0).sum()), classes):
        name = budget_name(budget)
        for number in range(settings.finetune.draws):
            rows = draw_labelled(labels, classes, budget, number, settings.seeds.draws)
            stream = Stream.of(settings.seeds.training, "finetune", name, number)
            draws.append(Draw(name, number, number % settings.pretrain.runs, rows.numpy(), stream))
    return draws


def indexed(draw: Draw, encoder: Path) -> Model:
    """The row of the index for the classifier of a draw."""
    return Model(draw.file, "finetuned", draw.budget, draw.number, draw.run, str(encoder))


def images_of(draw: Draw, settings: Params) -> int:
    """How many images the training of a draw sees."""
    schedule = settings.finetune.schedule
    return steps_for(len(draw.rows), schedule) * schedule.batch_size


def timings(machine: Machine, costs: Sequence[Cost], count: int, images: int) -> dict[str, float | int | str]:
    """Time and memory of the stage; seconds are those of one of the `count` workers, on average."""
    return machine.timings(sum(cost.seconds for cost in costs) / count, images) | {
        "workers": count,
        "worker_memory_mb": max((cost.memory_mb for cost in costs), default=0),
    }
