"""How long a pretraining is for pools of any size, and what is doubtful about one that has ended."""

from typing import Any

import pytest
import torch

from stages.errors import InputError
from stages.pretrain.doubts import doubts, late_fall
from stages.pretrain.length import as_text, length_of
from stages.settings.schema import Training
from stages.training.loop import Length, Row
from stages.training.optimisation import batch_indices
from stages.training.randomness import Stream


def params(**changes: Any) -> Training:
    common = {"batch_size": 128, "learning_rate": 0.1, "weight_decay": 0.0, "warmup": 0.1}
    return Training(**{"images": 220_000, "steps": 1500, **common, **changes})


@pytest.mark.parametrize(
    ("pool", "steps", "batch", "text"),
    [
        (500, 1719, 128, "1,719 steps of 128 images: 440 passes through 500 images"),
        (5_000, 1719, 128, "1,719 steps of 128 images: 44 passes through 5,000 images"),
        (55_000, 1719, 128, "1,719 steps of 128 images: 4.0 passes through 55,000 images"),
        (500_000, 1719, 128, "1,719 steps of 128 images: 0.4 passes through 500,000 images"),
        (60, 3667, 60, "3,667 steps of 60 images: 3,667 passes through 60 images"),
    ],
)
def test_a_pool_of_any_size_gets_a_training(pool: int, steps: int, batch: int, text: str) -> None:
    length = length_of("simclr", params(), pool)
    assert (length.steps, length.batch_size, length.warmup) == (steps, batch, 0.1)
    assert as_text(length, pool) == text


def test_steps_are_a_floor() -> None:
    assert length_of("simclr", params(images=1000), 5000).steps == 1500
    assert length_of("simclr", params(images=1000, steps=3), 5000).steps == 8  # no image is cut off


def test_a_pool_must_have_the_images_of_the_smallest_batch() -> None:
    with pytest.raises(
        InputError, match=r"^pretrain simclr: the pool has 1 image\(s\); allowed: at least 2$"
    ):
        length_of("simclr", params(), 1)


def test_the_order_depends_on_the_step_alone_and_uses_a_small_pool_evenly() -> None:
    length, stream = length_of("simclr", params(images=6000, steps=1), 60), Stream.of(1, "order")
    batches = [batch_indices(step, length.batch_size, 60, stream) for step in range(length.steps)]
    assert torch.bincount(torch.cat(batches)).tolist() == [length.steps] * 60
    assert torch.equal(batches[7], batch_indices(7, 60, 60, stream))


# --- doubts


def curve_of(losses: list[float], knn: tuple[float | None, float | None] = (0.3, 0.5)) -> list[Row]:
    rows: list[Row] = [{"step": 0, "loss": None, "knn": knn[0]}]
    rows += [{"step": 10 * number, "loss": loss} for number, loss in enumerate(losses, start=1)]
    rows[-1]["knn"] = knn[1]
    return rows


FLAT = [5.0 - min(number, 30) / 30 for number in range(100)]  # all of the fall is in the first third
FALLING = [5.0 - number / 100 for number in range(100)]


def found(losses: list[float] = FLAT, steps: int = 1000, pool: int = 5000, **knn: Any) -> list[str]:
    return doubts("simclr", curve_of(losses, **knn), Length(steps, 128, 0.1), pool, 1000, 60)


def test_a_training_worth_the_name_has_no_doubts() -> None:
    assert found() == []
    assert found(knn=(None, None)) == []  # validation has no labels
    assert found(knn=(0.5, 0.5)) == []


def test_a_short_training_is_named_with_what_the_method_needs() -> None:
    assert found(steps=213) == [
        "213 steps are few: simclr needs 1,000 or more; raise pretrain.simclr.images or steps"
    ]


def test_a_loss_that_still_falls_is_named() -> None:
    (line,) = found(FALLING)
    assert line.startswith("the loss was still falling when the training ended (56% of its fall came in the")
    assert late_fall(curve_of(FLAT)) == 0
    assert late_fall(curve_of([1.0, 0.5])) == 0  # too few rows to tell
    assert late_fall(curve_of(FALLING[::-1])) == 0  # it rises


def test_images_that_were_never_seen_are_named() -> None:
    (line,) = found(pool=512_000)
    assert line.startswith("75% of the pool's images were never seen")


def test_a_knn_accuracy_below_the_untrained_encoders_is_named_with_its_labels() -> None:
    (line,) = found(knn=(0.5, 0.4))
    assert line.startswith(
        "the kNN accuracy is below that of the untrained encoder, 40.0% after 50.0% (on 60 "
    )
    assert "too few to choose anything by" in line
