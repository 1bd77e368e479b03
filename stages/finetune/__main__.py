"""Stage finetune@METHOD: encoder and labels become classifiers, one for each budget and draw.

The test split is no input of this stage: nothing here can see it.

    python -m stages.finetune METHOD
"""

import sys
import time

from torch import Tensor, nn

from stages import artifacts, params, probe
from stages.draws import budget_name, draw_labelled
from stages.encoders import Classifier
from stages.errors import InputError, reported
from stages.finetune.train import finetune, steps_for
from stages.params import Params
from stages.randomness import Stream
from stages.runtime import Bar, Machine, machine, progress


def main(method: str) -> None:
    """Finetune the method's encoder on every draw of every budget; write the classifiers."""
    settings = params.load("finetune", method)
    here, started = machine(settings.runtime), time.perf_counter()
    images = artifacts.read_images(artifacts.IMAGES / "pool.npy")
    labels, classes = artifacts.read_labels(artifacts.LABELS / "pool.csv"), artifacts.read_classes()
    if len(images) != len(labels):
        raise InputError(f"{artifacts.LABELS / 'pool.csv'}: has {len(labels)} rows for {len(images)} images")
    drawn = {  # all draws are made before the first is trained on, so that a bad budget costs nothing
        (budget, draw): draw_labelled(labels, len(classes), budget, draw, settings.seed)
        for budget in settings.finetune.budgets
        for draw in range(settings.finetune.draws)
    }
    batch_size = settings.finetune.schedule.batch_size
    total = sum(steps_for(len(rows), settings.finetune.schedule) for rows in drawn.values()) * batch_size
    with progress(f"finetune {method}", total) as bar:
        for (budget, draw), rows in drawn.items():
            name = f"{budget_name(budget)}-draw{draw}"
            labelled = artifacts.as_tensor(images[rows.numpy()])
            stream = Stream.of(settings.seed, "finetune", budget_name(budget), draw)
            classifier = train_one(
                method, name, labelled, labels[rows], len(classes), settings, here, stream, bar
            )
            path = artifacts.CLASSIFIERS / method / f"{name}.safetensors"
            artifacts.write_classifier(path, classifier, classes)
    timings = here.timings(time.perf_counter() - started, total)
    artifacts.write_json(artifacts.METRICS / "timings" / "finetune" / f"{method}.json", timings)


def train_one(
    method: str, name: str, images: Tensor, labels: Tensor, classes: int,
    settings: Params, here: Machine, stream: Stream, bar: Bar,
) -> Classifier:  # fmt: skip
    """One classifier: the pretrained encoder, its head at zero or at the linear probe, trained on."""
    recipe = settings.finetune.recipe[method]
    encoder = artifacts.read_encoder(artifacts.ENCODERS / f"{method}.safetensors")
    classifier = Classifier(encoder, classes).to(here.device)
    if recipe.head == "probe":
        classifier.head = probe_head(classifier, images, labels, classes, settings, here)
    schedule, strengths = settings.finetune.schedule, settings.finetune.views
    try:
        finetune(
            classifier, images, labels, schedule, recipe, strengths, here, stream,
            lambda count: bar.advance(count, name),
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"finetune {method} {name}: {error}") from None
    return classifier


def probe_head(
    classifier: Classifier, images: Tensor, labels: Tensor, classes: int, settings: Params, here: Machine
) -> nn.Linear:
    """The optimal linear head on the frozen features.

    Finetuning from there keeps the features intact while the head is still wrong, which plain
    finetuning from few labels does not (Kumar et al. 2022, arXiv:2202.10054).
    """
    features = probe.encode(classifier.encoder, images, here)
    return probe.fit_linear(features, labels.to(here.device), classes, settings.probe.l2)


if __name__ == "__main__":
    with reported():
        main(sys.argv[1])
