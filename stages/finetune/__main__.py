"""Stage finetune@METHOD: encoder and labels become classifiers, one for each budget and draw.

The test split is no input of this stage: nothing here can see it.

    python -m stages.finetune METHOD
"""

import copy
import sys

from stages import artifacts, checkpoint, params, provenance, weights
from stages.checkpoint import CHECKPOINTS, Checkpoint, Origin
from stages.draws import budget_name, draw_labelled, fitting
from stages.encoders import Classifier
from stages.errors import reported
from stages.finetune import train
from stages.finetune.propagation import Neighbourhood
from stages.finetune.train import Labelled
from stages.randomness import Stream
from stages.runtime import machine, progress

# A classifier depends on its own draw's labels, not on which other budgets and draws there are: one
# more of them leaves the checkpoints of the others valid. Validation is not read here at all, but DVC's
# dependency is the folder.
OF_OTHER_DRAWS = (
    "finetune.budgets",
    "finetune.draws",
    str(artifacts.LABELS),
    *(str(artifacts.IMAGES / name) for name in ("validation.csv", "validation.npy")),
)
GRAPH = "neighbourhood"  # the file beside the draws' checkpoints; it depends on no draw


def main(method: str) -> None:
    """Finetune the method's encoder on every draw of every budget; write the classifiers."""
    raw = params.read(params.PARAMS)
    settings = params.load("finetune", method, raw)
    here, seconds = machine(settings.runtime), 0.0
    origin = Origin.of("finetune", method, here, raw)
    finetune = settings.finetune
    timings_file = artifacts.METRICS / "timings" / "finetune" / f"{method}.json"
    figures_file = artifacts.METRICS / "finetune" / f"{method}.json"
    checkpoints = CHECKPOINTS / "finetune" / method
    artifacts.require_writable(
        artifacts.CLASSIFIERS / method, figures_file, timings_file, checkpoints / "any"
    )
    pretrained = weights.read_encoder(artifacts.ENCODERS / f"{method}.safetensors").to(here.device)
    labels, classes = artifacts.read_pool_labels()
    images = artifacts.read_images(artifacts.IMAGES / "pool.npy", rows=len(labels))
    budgets = fitting(finetune.budgets, int((labels >= 0).sum()), len(classes))
    drawn = {  # all draws are made before the first is trained on, so that a bad budget costs nothing
        f"{budget_name(budget)}-draw{draw}": (
            Stream.of(settings.seed, "finetune", budget_name(budget), draw),
            draw_labelled(labels, len(classes), budget, draw, settings.seed),
        )
        for budget in budgets
        for draw in range(finetune.draws)
    }
    schedule, recipe, l2 = finetune.schedule, finetune.recipe[method], settings.probe.l2
    strengths = settings.views.presets[settings.views.finetune]
    total = sum(train.steps_for(len(rows), schedule) for _, rows in drawn.values()) * schedule.batch_size
    key = origin.key(without=OF_OTHER_DRAWS)
    propagates = {name for name, (_, rows) in drawn.items() if train.propagates(len(rows), schedule, recipe)}
    for path in checkpoints.iterdir():
        if path.name in drawn or (path.name == GRAPH and propagates):
            continue
        if path.is_dir():
            print(f"{path}: is a folder, which no stage has made; it is left alone", flush=True)
        else:
            path.unlink()
    neighbourhood: Neighbourhood | None = None
    with (
        artifacts.whole_folder(artifacts.CLASSIFIERS / method) as folder,
        progress(f"finetune {method}", total) as bar,
    ):
        for name, (stream, rows) in drawn.items():
            labelled = Labelled(images, rows, labels[rows], given=len(rows))
            own = checkpoint.narrowed(key, rows.tolist(), labelled.labels.tolist(), classes)
            kept = Checkpoint(checkpoints / name, own)
            encoder = copy.deepcopy(pretrained)
            finished = kept.saved is not None and kept.saved.finished
            if name in propagates and not finished:
                if not kept.saved:
                    neighbourhood = neighbourhood or Neighbourhood(
                        encoder, images, here, Checkpoint(checkpoints / GRAPH, key)
                    )
                    more = neighbourhood.spread(labelled, len(classes), encoder, here)
                    kept.beside = {"rows": more.rows, "labels": more.labels}
                labelled = Labelled(images, kept.beside["rows"], kept.beside["labels"], given=len(rows))
            if kept.saved:  # the head comes from there too
                classifier = Classifier(encoder, len(classes)).to(here.device)
            else:
                classifier = train.start(encoder, labelled, len(classes), l2, here)
            seconds += train.finetune(
                f"{method} {name}", classifier, labelled, schedule, recipe, strengths, here, stream, bar, kept
            )
            weights.write_classifier(folder / f"{name}.safetensors", classifier, classes)
        made_from = provenance.made_from("finetune", method, hashed=origin.hashes)
        origin.require_unchanged()
    propagation = {"propagation_seconds": round(neighbourhood.seconds if neighbourhood else 0.0, 1)}
    artifacts.write_json(figures_file, {**here.describe(), "made_from": made_from})
    artifacts.write_json(timings_file, here.timings(seconds, total) | propagation)


if __name__ == "__main__":
    with reported():
        main(params.named_method("finetune", sys.argv[1:]))
