import math
import re
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.errors import InputError
from stages.networks.encoder import Encoder
from stages.settings.recipes import FixedRecipe, Recipe, Schedule
from stages.tasks import finetuning, probe
from stages.tasks.classifier import Classifier, class_weights
from stages.tasks.features import encode
from stages.training.machine import Machine
from stages.training.progress import Bar
from stages.training.randomness import Stream
from stages.views.augment import random_views
from tests.conftest import strengths, tiny_encoder

Labelled = tuple[Tensor, Tensor]
CPU = Machine(torch.device("cpu"), "fp32")


def schedule(**changes: Any) -> Schedule:
    return Schedule(
        **(
            {"steps": 30, "epochs": 1, "batch_size": 32, "warmup": 0.1, "many": 1000}
            | {"class_weights": "equal"}
            | changes
        )
    )


def recipe(**changes: Any) -> Recipe:
    plain = {"encoder_learning_rate": 0.01, "head_learning_rate": 0.01, "weight_decay": 0.0}
    return Recipe(**(plain | changes))


def views(**changes: Any) -> finetuning.RandomViews:
    return partial(random_views, strengths=strengths(**changes))


def in_pack(labelled: Labelled) -> finetuning.Labelled:
    """The images and labels as the second half of a pack; the first half is other images."""
    images, labels = labelled
    pack = torch.cat([torch.zeros_like(images), images]).numpy()
    return finetuning.Labelled(pack, torch.arange(len(images), 2 * len(images)), labels, given=len(images))


def fit(
    classifier: Classifier, labelled: Labelled, seed: int = 1, bar: Bar | None = None, **changes: Any
) -> Classifier:
    """Finetune in place; `changes` are values of the schedule or of the recipe."""
    fields = Schedule.model_fields
    finetuning.finetune(
        "simclr n100-draw0",
        classifier,
        in_pack(labelled),
        schedule(**{k: v for k, v in changes.items() if k in fields}),
        recipe(**{k: v for k, v in changes.items() if k not in fields}),
        views(shift=0.05, rotate=5),
        CPU,
        Stream.of(seed, "finetune"),
        bar or Bar("test", 1, "images"),
    )
    return classifier


def loss_of(classifier: Classifier, labelled: Labelled) -> float:
    classifier.eval()
    with torch.no_grad():
        return F.cross_entropy(classifier(labelled[0].float() / 255), labelled[1]).item()


@pytest.fixture
def labelled(digits: Labelled) -> Labelled:
    return digits[0][:100], digits[1][:100]


# --- length and rates


@pytest.mark.parametrize(
    ("labels", "epochs", "expected"),
    [(10, 2, 200), (6400, 2, 200), (6401, 2, 201), (64_000, 3, 3000)],
)
def test_steps_are_a_minimum_or_epochs(labels: int, epochs: int, expected: int) -> None:
    assert finetuning.steps_for(labels, schedule(steps=200, epochs=epochs, batch_size=64)) == expected


@pytest.mark.parametrize(("steps", "expected"), [(3, 7), (9, 9)])
def test_training_takes_this_number_of_steps(labelled: Labelled, steps: int, expected: int) -> None:
    bar = Bar("test", 1, "images")
    classifier = fit(Classifier(tiny_encoder(), 10), labelled, bar=bar, steps=steps, epochs=2)
    assert bar.done == expected * 32
    assert classifier.encoder.norm.num_batches_tracked == expected


@pytest.mark.parametrize(
    ("labels", "expected"), [(10, (0.01, 0)), (999, (0.01, 0)), (1000, (0.02, 0.1)), (50_000, (0.02, 0.1))]
)
def test_many_labels_have_another_rate_and_decay(labels: int, expected: tuple[float, float]) -> None:
    many = {"encoder_learning_rate_many": 0.02, "weight_decay_many": 0.1}
    of_budget = FixedRecipe(**recipe().model_dump(), **many).of(labels, many=1000)
    assert (of_budget.encoder_learning_rate, of_budget.weight_decay) == expected
    assert type(of_budget) is Recipe


def test_weights_shrink_by_the_weight_decay_of_the_recipe(labelled: Labelled) -> None:
    decayed, plain = (
        fit(Classifier(tiny_encoder(), 10), labelled, steps=30, weight_decay=decay) for decay in (10.0, 0.0)
    )
    assert norm(decayed.encoder) < 0.5 * norm(plain.encoder)


def norm(encoder: Encoder) -> float:
    """The norm of all weights that decay."""
    return sum(float(p.detach().square().sum()) for p in encoder.parameters() if p.ndim > 1) ** 0.5


def test_spread_labels_do_not_change_the_length(labelled: Labelled) -> None:
    spread = replace(in_pack(labelled), given=10)
    bar, classifier = Bar("test", 1, "images"), Classifier(tiny_encoder(), 10)
    before = classifier.encoder.state_dict()["stem.weight"].clone()
    finetuning.finetune(
        "simclr n10-draw0", classifier, spread, schedule(steps=3, epochs=5),
        recipe(encoder_learning_rate=0.0), views(), CPU, Stream.of(1, "finetune"), bar,
    )  # fmt: skip
    assert bar.done == 3 * 32
    assert torch.equal(classifier.encoder.state_dict()["stem.weight"], before)


# --- initial classifier


def test_head_starts_at_the_linear_probe(labelled: Labelled) -> None:
    encoder = tiny_encoder()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    classifier = finetuning.initial_classifier(encoder, in_pack(labelled), 10, 0.3, CPU)
    expected = probe.fit_linear(encode(encoder, labelled[0], CPU), labelled[1], 10, 0.3)
    assert torch.equal(classifier.head.weight, expected.weight)
    assert torch.equal(classifier.head.bias, expected.bias)
    assert all(p.requires_grad for p in classifier.parameters())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    other = finetuning.initial_classifier(encoder, in_pack(labelled), 10, 3.0, CPU)
    assert other.head.weight.norm() < classifier.head.weight.norm()


# --- training


def test_the_loss_falls(labelled: Labelled) -> None:
    classifier = Classifier(tiny_encoder(), 10)
    before = loss_of(classifier, labelled)
    after = loss_of(fit(classifier, labelled, steps=60), labelled)
    assert after < 0.8 * before


def test_equal_streams_give_equal_weights(labelled: Labelled) -> None:
    results = []
    for torch_seed, seed in ((1, 1), (2, 1), (2, 7)):
        torch.manual_seed(torch_seed)
        results.append(fit(Classifier(tiny_encoder(), 10), labelled, seed=seed, steps=5).state_dict())
    first, same, other = results
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("frozen", ["encoder", "head"])
def test_encoder_and_head_have_separate_learning_rates(labelled: Labelled, frozen: str) -> None:
    # Decay is scaled by the rate, so a rate of zero leaves the weights as they are.
    classifier = Classifier(tiny_encoder(), 10)
    nn.init.normal_(classifier.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in classifier.named_parameters()}
    fit(classifier, labelled, steps=3, weight_decay=0.1, **{f"{frozen}_learning_rate": 0.0})
    for name, parameter in classifier.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith(frozen), name


def test_weights_decay_and_biases_and_norms_do_not(labelled: Labelled) -> None:
    class Constant(Classifier):
        """Constant logits: gradients are zero, so only weight decay changes the weights."""

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * 0

    classifier = Constant(tiny_encoder(), 10)
    for parameter in classifier.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in classifier.named_parameters()}
    fit(classifier, labelled, steps=4, weight_decay=1.0)
    for name, parameter in classifier.named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(parameter, before[name]), name
        else:
            ratio = parameter.norm() / before[name].norm()
            assert 0.96 < ratio < 0.98, name  # rates of 0.01 · (1 + 1 + 0.75 + 0.25)


class Breaking(Classifier):
    """A classifier whose logits are NaN from the k-th step on."""

    def __init__(self, step: int) -> None:
        super().__init__(tiny_encoder(), 10)
        self.remaining = step

    def forward(self, images: Tensor) -> Tensor:
        self.remaining -= 1
        return super().forward(images) * (math.nan if self.remaining <= 0 else 1)


@pytest.mark.parametrize(("step", "good"), [(1, False), (25, True), (45, True)])
def test_a_nan_loss_stops_with_model_step_and_last_finite_loss(
    labelled: Labelled, step: int, good: bool
) -> None:
    with pytest.raises(InputError) as caught:
        fit(Breaking(step), labelled, steps=45)
    (message,) = caught.value.args
    assert f"simclr n100-draw0: the loss is nan at step {step};" in message
    last = re.search(r"last good figures: step (\d+), loss ([\d.]+), ", message)
    assert bool(last) == good, message
    if last:
        assert 0 < float(last[2]) < 10
        assert step - 20 <= int(last[1]) < step  # the loss is checked every 20 steps
    assert "learning rate" in message


def test_divergence_stops_the_training(labelled: Labelled) -> None:
    classifier = Classifier(tiny_encoder(), 10)
    nn.init.constant_(classifier.head.weight, 1e38)  # as after a step with a huge rate
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d+"):
        fit(classifier, labelled, head_learning_rate=10.0, encoder_learning_rate=10.0)


def test_the_loss_is_weighted_by_class_if_the_schedule_asks_for_it(labelled: Labelled) -> None:
    for kind in ("equal", "balanced"):
        classifier = Classifier(tiny_encoder(), 10)
        nn.init.normal_(classifier.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        task = finetuning.Finetuning(
            classifier, in_pack(labelled), schedule(class_weights=kind, batch_size=100), views(), CPU
        ).eval()
        weights = class_weights(labelled[1], 10) if kind == "balanced" else None
        expected = F.cross_entropy(classifier(labelled[0].float() / 255), labelled[1], weights)
        torch.testing.assert_close(task.loss(torch.arange(100), Stream.of(1, "step")), expected)


def test_balanced_weights_raise_the_probability_of_a_rare_class(digits: Labelled) -> None:
    images, labels = digits
    chosen = labels != 3
    chosen[(labels == 3).nonzero()[:4, 0]] = True  # only four images of class 3
    shares = {}
    for kind in ("equal", "balanced"):
        classifier = finetuning.initial_classifier(
            tiny_encoder(), in_pack((images[chosen], labels[chosen])), 10, 1.0, CPU
        )
        fit(classifier, (images[chosen], labels[chosen]), class_weights=kind)
        threes = classifier.eval()(images[labels == 3].float() / 255).softmax(1)[:, 3]
        shares[kind] = float(threes.detach().mean())
    assert shares["balanced"] > 1.5 * shares["equal"]
