"""Stage finetune@METHOD: an encoder and labels become classifiers, one for each budget and draw.

The test split is not an input of this stage, so nothing here can depend on it.

    python -m stages.finetune METHOD
"""

import copy
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from stages.errors import reported
from stages.files import provenance, weights
from stages.files.json_files import write_json
from stages.files.locks import require_writable
from stages.files.model_index import Model, write_index
from stages.files.packs import read_pack
from stages.files.paths import CLASSIFIERS, ENCODERS, IMAGES, LABELS, METRICS
from stages.files.whole import whole_folder
from stages.finetune import finetuning
from stages.finetune.finetuning import Labelled
from stages.finetune.propagation import NeighbourGraph
from stages.networks.encoder import Encoder
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.classifier import Classifier, write_classifier
from stages.tasks.draws import budget_name, draw_labelled, usable_budgets
from stages.tasks.labels import read_pool_labels
from stages.training.checkpoint import CHECKPOINTS, Checkpoint, Origin, narrowed
from stages.training.machine import Machine, set_up
from stages.training.progress import Bar, progress
from stages.training.randomness import Stream

# A classifier depends on the labels of its own draw, not on other budgets and draws, so its checkpoint
# remains valid when one of those is added. The validation images are not read, but are in the same folder as
# the pool.
NOT_IN_KEY = (
    "finetune.budgets",
    "finetune.draws",
    str(LABELS),
    *(str(IMAGES / name) for name in ("validation.csv", "validation.npy")),
)
GRAPH = "neighbourhood"  # name of the checkpoint of the graph, which all draws share


@dataclass(frozen=True)
class Draw:
    """The labelled images of one training.

    Attributes:
        budget: name of the budget.
        number: of the draw.
        rows: (n,) int64, rows of the pool.
        spread: whether their labels are spread over the pool.
        stream: the random numbers of the training, the same for every method.
    """

    budget: str
    number: int
    rows: Tensor
    spread: bool
    stream: Stream

    @property
    def name(self) -> str:
        """The name of the draw in files, such as `n100-draw0`."""
        return f"{self.budget}-draw{self.number}"


@dataclass
class Finetuner:
    """Finetunes the encoder of one method on one draw after another.

    Attributes:
        encoder: on the machine's device; it is not changed.
        pool: uint8 (N, C, H, W), memory-mapped.
        labels: (N,) int64, -1: none.
        classes: their names.
        checkpoints: the folder of the checkpoints.
        key: of the checkpoints, without what only one draw depends on.
        graph: the pool as a graph; None: no labels have been spread.
        seconds: spent in training so far.
    """

    method: str
    encoder: Encoder
    pool: np.ndarray
    labels: Tensor
    classes: list[str]
    settings: Params
    machine: Machine
    checkpoints: Path
    key: str
    graph: NeighbourGraph | None = None
    seconds: float = 0.0

    def train(self, draw: Draw, bar: Bar) -> Classifier:
        """The classifier of one draw."""
        settings, classes, l2 = self.settings, len(self.classes), self.settings.probe.l2
        labelled = Labelled(self.pool, draw.rows, self.labels[draw.rows], given=len(draw.rows))
        key = narrowed(self.key, draw.rows.tolist(), labelled.labels.tolist(), self.classes)
        checkpoint = Checkpoint(self.checkpoints / draw.name, key)
        if draw.spread:
            labelled = self._spread(labelled, checkpoint)
        encoder = copy.deepcopy(self.encoder)
        if checkpoint.saved:  # its weights include the head
            classifier = Classifier(encoder, classes).to(self.machine.device)
        else:
            classifier = finetuning.initial_classifier(encoder, labelled, classes, l2, self.machine)
        self.seconds += finetuning.finetune(
            f"{self.method} {draw.name}", classifier, labelled, settings.finetune.schedule,
            settings.finetune.recipe[self.method], settings.views.presets[settings.views.finetune],
            self.machine, draw.stream, bar, checkpoint,
        )  # fmt: skip
        return classifier

    def _spread(self, labelled: Labelled, checkpoint: Checkpoint) -> Labelled:
        """The labelled images, and those of the pool that take over a label."""
        if not checkpoint.saved:
            if self.graph is None:
                graph_checkpoint = Checkpoint(self.checkpoints / GRAPH, self.key)
                self.graph = NeighbourGraph(self.encoder, self.pool, self.machine, graph_checkpoint)
            spread = self.graph.spread(labelled, len(self.classes), self.encoder, self.machine)
            checkpoint.beside = {"rows": spread.rows, "labels": spread.labels}
        rows, labels = checkpoint.beside["rows"], checkpoint.beside["labels"]
        return replace(labelled, rows=rows, labels=labels)


def main(method: str) -> None:
    """Finetune the encoder of a method on each draw of each budget; write the classifiers and their index."""
    raw = load.read(load.PARAMS)
    settings = load.parameters("finetune", method, raw)
    machine = set_up(settings.runtime)
    origin = Origin.of("finetune", method, machine, raw)
    figures_file = METRICS / "finetune" / f"{method}.json"
    timings_file = METRICS / "timings" / "finetune" / f"{method}.json"
    checkpoints = CHECKPOINTS / "finetune" / method
    require_writable(CLASSIFIERS / method, figures_file, timings_file, checkpoints / "any")
    encoder_file = ENCODERS / f"{method}.safetensors"
    encoder = weights.read_encoder(encoder_file).to(machine.device)
    labels, classes = read_pool_labels()
    pool = read_pack(IMAGES / "pool.npy", rows=len(labels))
    # All draws are made before the first training, so that an invalid budget fails at once.
    draws = make_draws(method, settings, labels, len(classes))
    remove_unused(checkpoints, {draw.name for draw in draws} | {GRAPH for draw in draws if draw.spread})
    schedule = settings.finetune.schedule
    images = sum(finetuning.steps_for(len(draw.rows), schedule) for draw in draws) * schedule.batch_size
    finetuner = Finetuner(
        method, encoder, pool, labels, classes, settings, machine, checkpoints, origin.key(without=NOT_IN_KEY)
    )
    with whole_folder(CLASSIFIERS / method) as folder, progress(f"finetune {method}", images) as bar:
        models = []
        for draw in draws:
            file = f"{draw.name}.safetensors"
            write_classifier(folder / file, finetuner.train(draw, bar), classes)
            models.append(Model(file, "finetuned", draw.budget, draw.number, 0, str(encoder_file)))
        write_index(folder, models)
        made_from = provenance.made_from("finetune", method, hashed=origin.hashes)
        origin.require_unchanged()
    write_json(figures_file, {**machine.describe(), "made_from": made_from})
    propagation_seconds = round(finetuner.graph.seconds if finetuner.graph else 0.0, 1)
    timings = machine.timings(finetuner.seconds, images)
    write_json(timings_file, timings | {"propagation_seconds": propagation_seconds})


def make_draws(method: str, settings: Params, labels: Tensor, classes: int) -> list[Draw]:
    """The draws of every budget that has enough labels."""
    schedule, recipe = settings.finetune.schedule, settings.finetune.recipe[method]
    draws = []
    for budget in usable_budgets(settings.finetune.budgets, int((labels >= 0).sum()), classes):
        name = budget_name(budget)
        for number in range(settings.finetune.draws):
            rows = draw_labelled(labels, classes, budget, number, settings.seed)
            spread = finetuning.propagates(len(rows), schedule, recipe)
            draws.append(Draw(name, number, rows, spread, Stream.of(settings.seed, "finetune", name, number)))
    return draws


def remove_unused(checkpoints: Path, used: set[str]) -> None:
    """Remove the checkpoints of draws that are no longer in params.yaml."""
    for path in checkpoints.iterdir():
        if path.name in used:
            continue
        if path.is_dir():
            print(f"{path}: is a folder, which no stage makes; it is not removed", flush=True)
        else:
            path.unlink()


if __name__ == "__main__":
    with reported():
        main(load.named_method("finetune", sys.argv[1:]))
