"""Stage finetune@METHOD: encoder and labels become classifiers, one for each budget and draw.

The test split is no input of this stage: nothing here can see it.

    python -m stages.finetune METHOD
"""

import sys
import time

from stages import artifacts, params, weights
from stages.draws import budget_name, draw_labelled
from stages.errors import reported
from stages.finetune import train
from stages.finetune.train import Labelled
from stages.randomness import Stream
from stages.runtime import machine, progress


def main(method: str) -> None:
    """Finetune the method's encoder on every draw of every budget; write the classifiers."""
    settings = params.load("finetune", method)
    here, started = machine(settings.runtime), time.perf_counter()
    finetune = settings.finetune
    timings_file = artifacts.METRICS / "timings" / "finetune" / f"{method}.json"
    artifacts.require_writable(artifacts.CLASSIFIERS / method, timings_file)
    images = artifacts.read_images(artifacts.IMAGES / "pool.npy")
    labels, classes = artifacts.read_pool_labels()
    drawn = {  # all draws are made before the first is trained on, so that a bad budget costs nothing
        (budget, draw): draw_labelled(labels, len(classes), budget, draw, settings.seed)
        for budget in finetune.budgets
        for draw in range(finetune.draws)
    }
    schedule, recipe = finetune.schedule, finetune.recipe[method]
    strengths = settings.views.presets[settings.views.finetune]
    total = sum(train.steps_for(len(rows), schedule) for rows in drawn.values()) * schedule.batch_size
    with (
        artifacts.whole_folder(artifacts.CLASSIFIERS / method) as folder,
        progress(f"finetune {method}", total) as bar,
    ):
        for (budget, draw), rows in drawn.items():
            name = f"{budget_name(budget)}-draw{draw}"
            stream = Stream.of(settings.seed, "finetune", budget_name(budget), draw)
            labelled = Labelled(images, rows, labels[rows])
            encoder = weights.read_encoder(artifacts.ENCODERS / f"{method}.safetensors").to(here.device)
            classifier = train.start(encoder, labelled, len(classes), recipe, settings.probe.l2, here)
            train.finetune(
                f"{method} {name}", classifier, labelled, schedule, recipe, strengths, here, stream, bar
            )
            weights.write_classifier(folder / f"{name}.safetensors", classifier, classes)
    timings = here.timings(time.perf_counter() - started, total)
    artifacts.write_json(timings_file, timings)


if __name__ == "__main__":
    with reported():
        main(params.named_method("finetune", sys.argv[1:]))
