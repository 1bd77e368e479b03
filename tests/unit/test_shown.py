"""The pictures and tables that stages write for the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.evaluate import cost
from stages.evaluate import diagnostics as of_tests
from stages.images import thumbnails
from stages.networks.build import build as build_encoder
from stages.networks.encoder import Declaration
from stages.pretrain import illustration
from stages.pretrain.learner import build
from stages.settings import load
from stages.settings.schema import Views
from stages.tasks.classifier import Classifier, write_classifier
from stages.tasks.scores import calibration_error
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
    size = 28 if channels == 1 else 30  # no whole number of patches
    pool = np.repeat(digits[0][:40].numpy(), channels, axis=1)
    pool = np.pad(pool, ((0, 0), (0, 0), (0, size - 28), (0, size - 28)))
    encoder = tiny_encoder("vit" if method == "mae" else "residual", channels=channels, image_size=size)
    section = load.method_params(method).model_validate(raw["pretrain"][method])
    learner = build(method, encoder, section, Views(**MOVING), Stream.of(1, "test"))  # type: ignore[arg-type]
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    rows = illustration.rows_of(learner, pool, cpu, Stream.of(1, "shown"))
    assert list(rows) == ["images of the pool", *ROWS[method]]
    for row in rows.values():
        assert row.shape == (10, channels, size, size)
        assert row.isfinite().all()
        assert 0 <= row.min() <= row.max() <= 1
    assert torch.equal(rows["images of the pool"][0], torch.from_numpy(pool[0]).float() / 255)
    for first, second in zip(rows.values(), list(rows.values())[1:], strict=False):
        assert not torch.equal(first, second)
    # To look changes nothing.
    assert all(torch.equal(value, state[name]) for name, value in learner.state_dict().items())
    again = illustration.rows_of(learner, pool, cpu, Stream.of(1, "shown"))
    assert all(torch.equal(again[name], row) for name, row in rows.items())
    illustration.write(tmp_path / "shown.png", rows)
    with Image.open(tmp_path / "shown.png") as whole:
        tiles = thumbnails.tiles(whole, 10 * len(rows), 10)
    assert np.array_equal(np.asarray(tiles[0]), pool[0][0] if channels == 1 else pool[0].transpose(1, 2, 0))


def test_what_trains_nothing_shows_the_images(cpu: Machine) -> None:
    pool = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 1, 28, 28)
    rows = illustration.rows_of(None, pool, cpu, Stream.of(1, "shown"))
    assert {name: len(row) for name, row in rows.items()} == {"images of the pool": 3}


def test_masked_patches_alone_are_painted(
    raw: dict[str, Any], cpu: Machine, digits: tuple[Tensor, Tensor]
) -> None:
    section = load.method_params("mae").model_validate(raw["pretrain"]["mae"])
    learner = build("mae", tiny_encoder("vit"), section, Views(**MOVING), Stream.of(1, "test"))  # type: ignore[arg-type]
    rows = illustration.rows_of(learner, digits[0].numpy(), cpu, Stream.of(1, "shown"))
    images, painted = rows["images of the pool"], rows["masked patches painted"]
    patch = learner.encoder.patch
    changed = torch.nn.functional.max_pool2d((images - painted).abs(), patch)[:, 0] > 1e-5
    side = learner.encoder.side
    expected = side**2 - round(side**2 * (1 - section.masked))  # type: ignore[attr-defined]
    assert (changed.flatten(1).sum(1) == expected).all()


def made_up(n: int = 500, classes: int = 5, draws: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=n)
    logits = [random.normal(size=(n, classes)) * 2 + 2 * np.eye(classes)[labels] for _ in range(draws)]
    return [(np.exp(x) / np.exp(x).sum(1, keepdims=True)).astype(np.float32) for x in logits], labels


def test_reliability_is_what_the_calibration_error_sums() -> None:
    draws, labels = made_up()
    table = of_tests.reliability_table(draws, labels, "n10")
    pooled = calibration_error(np.concatenate(draws), np.tile(labels, len(draws)))
    gap = (table["share"] * (table["accuracy"] - table["confidence"]).abs()).sum()
    assert gap == pytest.approx(pooled, abs=2e-4)
    assert table["share"].sum() == pytest.approx(1, abs=1e-3)
    assert ((table["low"] < table["confidence"]) & (table["confidence"] <= table["high"] + 1e-4)).all()


def test_mistakes_are_the_surest_wrong_ones() -> None:
    draws, labels = made_up()
    classes = list("abcde")
    table, rows = of_tests.mistakes_table(draws, labels, classes, [f"id{i}" for i in range(500)], "n10")
    mean = np.mean([d.astype(float) for d in draws], axis=0)
    wrong = np.flatnonzero(mean.argmax(1) != labels)
    assert len(rows) == min(of_tests.WORST, len(wrong))
    assert set(rows) <= set(wrong)
    assert min(mean[rows].max(1)) >= max(mean[list(set(wrong) - set(rows))].max(1))
    assert list(table["probability"]) == sorted(table["probability"], reverse=True)
    for line, row in zip(table.itertuples(), rows, strict=True):
        assert (line.id, line.actual) == (f"id{row}", classes[labels[row]])
        assert line.predicted == classes[mean[row].argmax()]
        assert line.draws_wrong == sum(d[row].argmax() != labels[row] for d in draws)


def test_map_is_the_first_two_principal_components() -> None:
    random = np.random.default_rng(0)
    plane = random.normal(size=(300, 2)) * [5, 2]
    features = plane @ np.linalg.qr(random.normal(size=(12, 12)))[0][:2] + 7
    labels = random.integers(3, size=300)
    table, explained = of_tests.feature_map(features, labels, ["a", "b", "c"])
    assert len(table) == 300
    assert sum(explained) == pytest.approx(1, abs=1e-3)
    centred = plane - plane.mean(0)
    _, singular, axes = np.linalg.svd(centred)
    expected = centred @ axes.T / (singular[0] / np.sqrt(300))
    for column, name in enumerate(("x", "y")):
        close = [np.allclose(sign * table[name], expected[:, column], atol=2e-3) for sign in (1, -1)]
        assert any(close)
    assert list(table["class"]) == [["a", "b", "c"][label] for label in labels]
    again, _ = of_tests.feature_map(features, labels, ["a", "b", "c"])
    assert again.equals(table)


def test_map_has_a_limited_number_of_points() -> None:
    table, explained = of_tests.feature_map(np.zeros((5000, 4)), np.zeros(5000, dtype=int), ["a"])
    assert len(table) == of_tests.POINTS
    assert table[["x", "y"]].eq(0).all().all()
    assert explained == [0, 0]


def test_costs_are_counted(tmp_path: Path, cpu: Machine, digits: tuple[Tensor, Tensor]) -> None:
    classifier = Classifier(tiny_encoder("cnn"), 10)
    file = tmp_path / "c.safetensors"
    write_classifier(file, classifier, [str(i) for i in range(10)])
    found = cost.size(classifier, file)
    # conv 26² · 8 · 9, conv 24² · 16 · 8 · 9, dense 16 · 12² · 32, head 32 · 10
    assert found["multiply_adds"] == 26**2 * 8 * 9 + 24**2 * 16 * 8 * 9 + 16 * 12**2 * 32 + 320
    assert found["parameters"] == sum(p.numel() for p in classifier.parameters())
    assert found["file_bytes"] == file.stat().st_size
    assert (found["encoder"], found["image_size"]) == ("cnn", 28)
    speed = cost.latency(classifier, digits[0][:1], cpu)
    assert 0 < speed["latency_ms_p50"] <= speed["latency_ms_p95"]


def test_fused_attention_is_counted_too(tmp_path: Path) -> None:
    declaration = Declaration(name="vit_b_16", width=8, channels=3, image_size=32)
    classifier = Classifier(build_encoder(declaration, torch.Generator()), 10)
    (tmp_path / "c.safetensors").touch()
    tokens, wide = (32 // 16) ** 2 + 1, 768
    layer = tokens * wide * (3 * wide + wide + 2 * 4 * wide) + 2 * tokens**2 * wide
    patches = (tokens - 1) * wide * 3 * 16**2
    found = cost.size(classifier, tmp_path / "c.safetensors")
    assert found["multiply_adds"] == patches + 12 * layer + wide * 10
