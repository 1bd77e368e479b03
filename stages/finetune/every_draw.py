"""What finetune@METHOD does: an encoder and labels become classifiers, one for each budget and draw."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.files import provenance, weights
from stages.files.json_files import write_json
from stages.files.locks import require_writable
from stages.files.model_index import Model, write_index
from stages.files.paths import CLASSIFIERS, ENCODERS, IMAGES, LABELS, METRICS, encoder_file
from stages.files.whole import whole_folder
from stages.finetune import finetuning
from stages.finetune.trainings import Cost, Draw, Finetuner, Job, graph_name
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.draws import budget_name, draw_labelled, usable_budgets
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
    draws = make_draws(method, settings, labels, len(classes))
    spread = sorted({draw.run for draw in draws if draw.spread})
    remove_unused(checkpoints, {*map(str, draws), *map(graph_name, spread)})
    count = min(fitting(threads), max(1, len(draws)))
    title, images = f"finetune {method}", sum(images_of(draw, settings) for draw in draws)
    keys = origin.key(without=NOT_IN_KEY), origin.key(without=not_in_graph_key(origin, raw))
    encoders = {draw.run: encoder_file(method, draw.run) for draw in draws}
    digests = {run: weights.read_digest(file) for run, file in encoders.items()}
    with whole_folder(CLASSIFIERS / method) as folder:
        job = Job(method, raw, *keys, digests, checkpoints, folder)
        started = time.perf_counter()
        for run in spread:
            Finetuner.open(job, 0).build_graph(run, parallel=count if machine.device.type == "cpu" else 1)
            torch.cuda.empty_cache()  # the workers need the GPU's memory
        graph_seconds = time.perf_counter() - started
        by_run = sorted(draws, key=lambda draw: draw.run)  # so that a worker seldom changes the graph
        with progress(title, images) as bar, Workers(title, partial(Finetuner.open, job), count) as workers:
            costs = [cost for _, cost in workers.run(Finetuner.train, by_run, bar)]
        write_index(folder, [indexed(draw, encoders[draw.run]) for draw in draws])
        made_from = provenance.made_from("finetune", method, hashed=origin.hashes)
        origin.require_unchanged()
    write_json(figures_file, {**machine.describe(), "made_from": made_from})
    write_json(timings_file, timings(machine, costs, count, images, graph_seconds))


def make_draws(method: str, settings: Params, labels: Tensor, classes: int) -> list[Draw]:
    """The draws of every budget that has enough labels."""
    schedule, recipe = settings.finetune.schedule, settings.finetune.recipe[method]
    draws = []
    for budget in usable_budgets(settings.finetune.budgets, int((labels >= 0).sum()), classes):
        name = budget_name(budget)
        for number in range(settings.finetune.draws):
            rows = draw_labelled(labels, classes, budget, number, settings.seeds.draws)
            spread = finetuning.propagates(len(rows), schedule, recipe)
            stream = Stream.of(settings.seeds.training, "finetune", name, number)
            run = number % settings.pretrain.runs
            draws.append(Draw(name, number, run, rows.numpy(), spread, stream))
    return draws


def indexed(draw: Draw, encoder: Path) -> Model:
    """The row of the index for the classifier of a draw."""
    return Model(draw.file, "finetuned", draw.budget, draw.number, draw.run, str(encoder))


def images_of(draw: Draw, settings: Params) -> int:
    """How many images the training of a draw sees."""
    schedule = settings.finetune.schedule
    return finetuning.steps_for(len(draw.rows), schedule) * schedule.batch_size


def not_in_graph_key(origin: Origin, raw: Any) -> list[str]:
    """What the graphs of the pool do not depend on: labels, and all parameters but those of the machine.

    The encoders are left out as well: the key of a graph has the digest of its own one.
    """
    keys = load.declared_keys(origin.stage, origin.method, raw)
    parameters = [key for key in keys if not key.startswith("runtime.")]
    return [str(ENCODERS), str(LABELS), *NOT_READ, *parameters]


def timings(
    machine: Machine, costs: Sequence[Cost], count: int, images: int, graph_seconds: float
) -> dict[str, float | int | str]:
    """Time and memory of the stage; seconds are those of one of the `count` workers, on average."""
    spreading = sum(cost.spreading for cost in costs) / count
    return machine.timings(sum(cost.seconds for cost in costs) / count, images) | {
        "propagation_seconds": round(graph_seconds + spreading, 1),
        "workers": count,
        "worker_memory_mb": max((cost.memory_mb for cost in costs), default=0),
    }
