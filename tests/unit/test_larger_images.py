"""A pool that is stored with more pixels than the encoder takes: views are made of it, all else is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.errors import InputError
from stages.files.packs import read_pack_if_any, write_array
from stages.pretrain.learner import Learner, build
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.classifier import Classifier
from stages.tasks.finetuning import Finetuning, Labelled
from stages.training.machine import Machine
from stages.training.randomness import Stream
from stages.views.augment import random_views
from tests.conftest import strengths, tiny_encoder


@pytest.fixture
def settings(raw: dict[str, Any]) -> Params:
    return load.validated(raw)


def learner_of(name: str, settings: Params) -> Learner:
    presets = settings.views.presets
    return build(name, tiny_encoder(), settings.pretrain[name], presets["photos_mild"], Stream.of(1))


def pool_and_larger(n: int = 16) -> tuple[np.ndarray, np.ndarray]:
    large = np.random.default_rng(0).integers(0, 256, (n, 1, 56, 56), dtype=np.uint8)
    return np.zeros((n, 1, 28, 28), dtype=np.uint8), large


@pytest.mark.parametrize("name", ["simclr", "byol", "dino"])
def test_methods_that_compare_views_train_on_the_larger_images(name: str, settings: Params) -> None:
    learner, (pool, large) = learner_of(name, settings), pool_and_larger()
    assert learner.pack(pool, None) is pool
    assert learner.side is None
    assert learner.pack(pool, large) is large
    images, positions = torch.from_numpy(large).float() / 255, torch.arange(16)
    assert learner(images, positions, Stream.of(2)).isfinite()
    shown = learner.illustrate(images, positions, Stream.of(2))
    assert all(row.shape == (16, 1, 28, 28) for row in shown.values())


def test_a_method_without_views_trains_on_the_pool(settings: Params) -> None:
    pool, large = pool_and_larger()
    assert learner_of("autoencoder", settings).pack(pool, large) is pool


def test_finetuning_makes_views_of_the_larger_images_and_takes_features_of_the_pool(settings: Params) -> None:
    pool, large = pool_and_larger()
    pool[4] = 200
    labelled = Labelled(pool, torch.tensor([4, 1]), torch.tensor([0, 1]), 2, large)
    assert (labelled.take(torch.tensor([0]))[0] == 200).all()
    seen: list[tuple[tuple[int, ...], int]] = []

    def watched(images: Tensor, positions: Tensor, *, stream: Stream, side: int) -> Tensor:
        seen.append((tuple(images.shape), side))
        return random_views(images, positions, strengths(), stream, side)

    schedule = settings.finetune.schedule.model_copy(update={"batch_size": 4})
    machine = Machine(torch.device("cpu"), "fp32")
    task = Finetuning(Classifier(tiny_encoder(), 2), labelled, schedule, watched, machine)
    assert task.loss(torch.tensor([0, 1, 0, 1]), Stream.of(1)).isfinite()
    assert seen == [((4, 1, 56, 56), 28)]


def test_the_larger_pool_may_be_missing_and_must_have_every_row(tmp_path: Path) -> None:
    file = tmp_path / "pool_large.npy"
    assert read_pack_if_any(file, rows=16) is None
    write_array(file, pool_and_larger()[1])
    pack = read_pack_if_any(file, rows=16)
    assert pack is not None
    assert pack.shape == (16, 1, 56, 56)
    with pytest.raises(InputError, match="holds 16 images; its table has 17 rows"):
        read_pack_if_any(file, rows=17)
