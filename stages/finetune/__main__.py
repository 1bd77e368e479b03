"""Stage finetune@METHOD: encoder and labels become classifiers, one for each budget and draw.

The test split is no input of this stage, so nothing here can see it.

    python -m stages.finetune METHOD
"""

import copy
import sys
from dataclasses import dataclass
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
from stages.finetune import train
from stages.finetune.propagation import Neighbourhood
from stages.finetune.train import Labelled
from stages.networks.encoder import Encoder
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.classifier import Classifier, write_classifier
from stages.tasks.draws import budget_name, draw_labelled, fitting
from stages.tasks.labels import read_pool_labels
from stages.training.checkpoint import CHECKPOINTS, Checkpoint, Origin, narrowed
from stages.training.machine import Machine, set_up
from stages.training.progress import Bar, progress
from stages.training.randomness import Stream

# A classifier depends on its own draw's labels, not on the other budgets and draws: the checkpoints of the
# others stay valid when one is added. Validation is not read here, but DVC's dependency is the whole folder.
OF_OTHER_DRAWS = (
    "finetune.budgets",
    "finetune.draws",
    str(LABELS),
    *(str(IMAGES / name) for name in ("validation.csv", "validation.npy")),
)
GRAPH = "neighbourhood"  # the checkpoint of the graph, which all draws share


@dataclass(frozen=True)
class Draw:
    """One training: the labelled rows of a budget and draw, and its random numbers."""

    budget: str
    number: int
    rows: Tensor
    stream: Stream

    @property
    def name(self) -> str:
        """The name in files: `n100-draw0`."""
        return f"{self.budget}-draw{self.number}"


def main(method: str) -> None:
    """Finetune the method's encoder on every draw of every budget; write the classifiers and their index."""
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
    # All draws are made before the first is trained on, so that a bad budget costs nothing.
    draws = drawn(settings, labels, classes)
    schedule, recipe = settings.finetune.schedule, settings.finetune.recipe[method]
    spread = {d.name for d in draws if train.propagates(len(d.rows), schedule, recipe)}
    remove_others(checkpoints, {d.name for d in draws} | ({GRAPH} if spread else set()))
    total = sum(train.steps_for(len(d.rows), schedule) for d in draws) * schedule.batch_size
    finetuning = DrawByDraw(method, encoder, pool, labels, classes, settings, machine, checkpoints, origin)
    with (
        whole_folder(CLASSIFIERS / method) as folder,
        progress(f"finetune {method}", total) as bar,
    ):
        for draw in draws:
            classifier = finetuning.train(draw, spread=draw.name in spread, bar=bar)
            write_classifier(folder / f"{draw.name}.safetensors", classifier, classes)
        write_index(
            folder,
            (
                Model(f"{d.name}.safetensors", "finetuned", d.budget, d.number, 0, str(encoder_file))
                for d in draws
            ),
        )
        made_from = provenance.made_from("finetune", method, hashed=origin.hashes)
        origin.require_unchanged()
    write_json(figures_file, {**machine.describe(), "made_from": made_from})
    timings = machine.timings(finetuning.seconds, total)
    write_json(timings_file, timings | {"propagation_seconds": finetuning.propagation_seconds})


def drawn(settings: Params, labels: Tensor, classes: list[str]) -> list[Draw]:
    """The draws of every budget that there are enough labels for."""
    budgets = fitting(settings.finetune.budgets, int((labels >= 0).sum()), len(classes))
    return [
        Draw(
            budget_name(budget),
            number,
            draw_labelled(labels, len(classes), budget, number, settings.seed),
            Stream.of(settings.seed, "finetune", budget_name(budget), number),
        )
        for budget in budgets
        for number in range(settings.finetune.draws)
    ]


def remove_others(checkpoints: Path, needed: set[str]) -> None:
    """Remove the checkpoints of draws that params.yaml no longer has."""
    for path in checkpoints.iterdir():
        if path.name in needed:
            continue
        if path.is_dir():
            print(f"{path}: is a folder that no stage has made; it stays", flush=True)
        else:
            path.unlink()


class DrawByDraw:
    """Finetunes one method's encoder on one draw after another.

    Attributes:
        seconds: spent in finetuning so far.
    """

    def __init__(
        self, method: str, encoder: Encoder, pool: np.ndarray, labels: Tensor, classes: list[str],
        settings: Params, machine: Machine, checkpoints: Path, origin: Origin,
    ) -> None:  # fmt: skip
        self.method, self.encoder, self.pool = method, encoder, pool
        self.labels, self.classes, self.settings, self.machine = labels, classes, settings, machine
        self.checkpoints, self.key = checkpoints, origin.key(without=OF_OTHER_DRAWS)
        self.neighbourhood: Neighbourhood | None = None
        self.seconds = 0.0

    def train(self, draw: Draw, spread: bool, bar: Bar) -> Classifier:
        """The classifier of one draw; `spread`: its labels are first spread over the pool."""
        settings, classes = self.settings, len(self.classes)
        labelled = Labelled(self.pool, draw.rows, self.labels[draw.rows], given=len(draw.rows))
        key = narrowed(self.key, draw.rows.tolist(), labelled.labels.tolist(), self.classes)
        checkpoint = Checkpoint(self.checkpoints / draw.name, key)
        encoder = copy.deepcopy(self.encoder)
        if spread:
            labelled = self._spread(labelled, encoder, checkpoint)
        if checkpoint.saved:  # it holds the head too
            classifier = Classifier(encoder, classes).to(self.machine.device)
        else:
            classifier = train.start(encoder, labelled, classes, settings.probe.l2, self.machine)
        views = settings.views.presets[settings.views.finetune]
        self.seconds += train.finetune(
            f"{self.method} {draw.name}", classifier, labelled, settings.finetune.schedule,
            settings.finetune.recipe[self.method], views, self.machine, draw.stream, bar, checkpoint,
        )  # fmt: skip
        return classifier

    def _spread(self, labelled: Labelled, encoder: Encoder, checkpoint: Checkpoint) -> Labelled:
        """The labelled images, and those of the pool that take over a label."""
        if not checkpoint.saved:
            if self.neighbourhood is None:
                graph = Checkpoint(self.checkpoints / GRAPH, self.key)
                self.neighbourhood = Neighbourhood(encoder, self.pool, self.machine, graph)
            more = self.neighbourhood.spread(labelled, len(self.classes), encoder, self.machine)
            checkpoint.beside = {"rows": more.rows, "labels": more.labels}
        elif checkpoint.saved.finished:  # nothing is trained any more
            return labelled
        rows, labels = (checkpoint.beside[name] for name in ("rows", "labels"))
        return Labelled(labelled.pack, rows, labels, given=labelled.given)

    @property
    def propagation_seconds(self) -> float:
        """Spent on spreading labels."""
        return round(self.neighbourhood.seconds if self.neighbourhood else 0.0, 1)


if __name__ == "__main__":
    with reported():
        main(load.named_method("finetune", sys.argv[1:]))
