"""The picture that `pretrain` writes for the report: what a method sees and makes of some images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.images import thumbnails
from stages.pretrain import illustration
from stages.pretrain.learner import build
from stages.settings import load
from stages.settings.schema import Views
from stages.training.machine import Machine
from stages.training.randomness import Stream
from tests.conftest import MOVING, tiny_encoder

TWO_VIEWS = ["simclr", "vicreg", "barlow_twins", "byol", "dino", "lejepa"]
ROWS = {
    "autoencoder": ["corrupted", "reconstructed"],
    "gan": ["generated"],
    "mae": ["masked", "masked patches painted"],
} | {method: ["one view of each", "another view"] for method in TWO_VIEWS}


@pytest.mark.parametrize("method", ROWS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_method_shows_what_it_sees_and_makes(
    method: str,
    channels: int,
    raw: dict[str, Any],
    cpu: Machine,
    digits: tuple[Tensor, Tensor],
    tmp_path: Path,
) -> None:
    size = 28 if channels == 1 else 30  # not a whole number of patches
    pool = np.repeat(digits[0][:40].numpy(), channels, axis=1)
    pool = np.pad(pool, ((0, 0), (0, 0), (0, size - 28), (0, size - 28)))
    encoder = tiny_encoder("vit" if method == "mae" else "residual", channels=channels, image_size=size)
    params = load.method_params(method).model_validate(raw["pretrain"][method])
    learner = build(method, encoder, params, Views(**MOVING), Stream.of(1, "test"))  # type: ignore[arg-type]
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    rows = illustration.make_rows(learner, pool, cpu, Stream.of(1, "shown"))
    assert list(rows) == ["images of the pool", *ROWS[method]]
    for row in rows.values():
        assert row.shape == (10, channels, size, size)
        assert row.isfinite().all()
        assert 0 <= row.min() <= row.max() <= 1
    assert torch.equal(rows["images of the pool"][0], torch.from_numpy(pool[0]).float() / 255)
    for first, second in zip(rows.values(), list(rows.values())[1:], strict=False):
        assert not torch.equal(first, second)
    # The picture changes nothing in the learner.
    assert all(torch.equal(value, state[name]) for name, value in learner.state_dict().items())
    again = illustration.make_rows(learner, pool, cpu, Stream.of(1, "shown"))
    assert all(torch.equal(again[name], row) for name, row in rows.items())
    illustration.write(tmp_path / "shown.png", rows)
    with Image.open(tmp_path / "shown.png") as sheet:
        tiles = thumbnails.tiles(sheet, 10 * len(rows), 10)
    assert np.array_equal(np.asarray(tiles[0]), pool[0][0] if channels == 1 else pool[0].transpose(1, 2, 0))


def test_without_a_learner_the_picture_has_only_the_images(cpu: Machine) -> None:
    pool = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 1, 28, 28)
    rows = illustration.make_rows(None, pool, cpu, Stream.of(1, "shown"))
    assert {name: len(row) for name, row in rows.items()} == {"images of the pool": 3}


def test_mae_reconstructs_only_masked_patches(
    raw: dict[str, Any], cpu: Machine, digits: tuple[Tensor, Tensor]
) -> None:
    params = load.method_params("mae").model_validate(raw["pretrain"]["mae"])
    learner = build("mae", tiny_encoder("vit"), params, Views(**MOVING), Stream.of(1, "test"))  # type: ignore[arg-type]
    rows = illustration.make_rows(learner, digits[0].numpy(), cpu, Stream.of(1, "shown"))
    images, reconstructed = rows["images of the pool"], rows["masked patches painted"]
    patch = learner.encoder.patch
    changed = torch.nn.functional.max_pool2d((images - reconstructed).abs(), patch)[:, 0] > 1e-5
    side = learner.encoder.side
    expected = side**2 - round(side**2 * (1 - params.masked))  # type: ignore[attr-defined]
    assert (changed.flatten(1).sum(1) == expected).all()
