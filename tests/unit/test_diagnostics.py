"""Tables and costs that `evaluate` writes for the report."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from stages.evaluate import cost, diagnostics
from stages.networks.build import build
from stages.networks.encoder import Declaration
from stages.tasks.classifier import Classifier, write_classifier
from stages.tasks.scores import calibration_error
from stages.training.machine import Machine
from tests.conftest import tiny_encoder


def random_probabilities(
    n: int = 500, classes: int = 5, draws: int = 3
) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities of each draw, (n, classes), and labels, (n,)."""
    random = np.random.default_rng(0)
    labels = random.integers(classes, size=n)
    logits = [random.normal(size=(n, classes)) * 2 + 2 * np.eye(classes)[labels] for _ in range(draws)]
    return [(np.exp(x) / np.exp(x).sum(1, keepdims=True)).astype(np.float32) for x in logits], labels


def test_reliability_is_what_the_calibration_error_sums() -> None:
    draws, labels = random_probabilities()
    table = diagnostics.reliability_table(draws, labels, "n10")
    pooled = calibration_error(np.concatenate(draws), np.tile(labels, len(draws)))
    gap = (table["share"] * (table["accuracy"] - table["confidence"]).abs()).sum()
    assert gap == pytest.approx(pooled, abs=2e-4)
    assert table["share"].sum() == pytest.approx(1, abs=1e-3)
    assert ((table["low"] < table["confidence"]) & (table["confidence"] <= table["high"] + 1e-4)).all()


def test_mistakes_are_those_with_the_highest_confidence() -> None:
    draws, labels = random_probabilities()
    classes = list("abcde")
    names = pd.DataFrame({"id": [f"id{i}" for i in range(500)], "file": [f"{i}.png" for i in range(500)]})
    table, rows = diagnostics.mistakes_table(draws, labels, classes, names, "n10")
    mean = np.mean([d.astype(float) for d in draws], axis=0)
    wrong = np.flatnonzero(mean.argmax(1) != labels)
    assert len(rows) == min(diagnostics.WORST, len(wrong))
    assert set(rows) <= set(wrong)
    assert min(mean[rows].max(1)) >= max(mean[list(set(wrong) - set(rows))].max(1))
    assert list(table["probability"]) == sorted(table["probability"], reverse=True)
    for line, row in zip(table.itertuples(), rows, strict=True):
        assert (line.id, line.file) == (f"id{row}", f"{row}.png")
        assert line.actual == classes[labels[row]]
        assert line.predicted == classes[mean[row].argmax()]
        assert line.draws_wrong == sum(d[row].argmax() != labels[row] for d in draws)


def test_map_is_the_first_two_principal_components() -> None:
    random = np.random.default_rng(0)
    plane = random.normal(size=(300, 2)) * [5, 2]
    features = plane @ np.linalg.qr(random.normal(size=(12, 12)))[0][:2] + 7
    labels = random.integers(3, size=300)
    table, explained = diagnostics.feature_map(features, labels, ["a", "b", "c"])
    assert len(table) == 300
    assert sum(explained) == pytest.approx(1, abs=1e-3)
    centred = plane - plane.mean(0)
    _, singular, axes = np.linalg.svd(centred)
    expected = centred @ axes.T / (singular[0] / np.sqrt(300))
    for column, name in enumerate(("x", "y")):
        matches = [np.allclose(sign * table[name], expected[:, column], atol=2e-3) for sign in (1, -1)]
        assert any(matches)
    assert list(table["class"]) == [["a", "b", "c"][label] for label in labels]
    again, _ = diagnostics.feature_map(features, labels, ["a", "b", "c"])
    assert again.equals(table)


def test_map_has_a_limited_number_of_points() -> None:
    table, explained = diagnostics.feature_map(np.zeros((5000, 4)), np.zeros(5000, dtype=int), ["a"])
    assert len(table) == diagnostics.POINTS
    assert table[["x", "y"]].eq(0).all().all()
    assert explained == [0, 0]


def test_size_operations_and_latency_of_a_classifier(
    tmp_path: Path, cpu: Machine, digits: tuple[Tensor, Tensor]
) -> None:
    classifier = Classifier(tiny_encoder("cnn"), 10)
    file = tmp_path / "c.safetensors"
    write_classifier(file, classifier, [str(i) for i in range(10)])
    figures = cost.size(classifier, file)
    # conv 26² · 8 · 9, conv 24² · 16 · 8 · 9, dense 16 · 12² · 32, head 32 · 10
    assert figures["multiply_adds"] == 26**2 * 8 * 9 + 24**2 * 16 * 8 * 9 + 16 * 12**2 * 32 + 320
    assert figures["parameters"] == sum(p.numel() for p in classifier.parameters())
    assert figures["file_bytes"] == file.stat().st_size
    assert (figures["encoder"], figures["image_size"]) == ("cnn", 28)
    speed = cost.latency(classifier, digits[0][:1], cpu)
    assert 0 < speed["latency_ms_p50"] <= speed["latency_ms_p95"]


def test_fused_attention_is_counted(tmp_path: Path) -> None:
    declaration = Declaration(name="timm/vit_tiny_patch16_224", width=8, channels=3, image_size=32)
    classifier = Classifier(build(declaration, torch.Generator()), 10)
    (tmp_path / "c.safetensors").touch()
    tokens, wide = (32 // 4) ** 2 + 1, 192
    layer = tokens * wide * (3 * wide + wide + 2 * 4 * wide) + 2 * tokens**2 * wide
    patches = (tokens - 1) * wide * 3 * 4**2
    figures = cost.size(classifier, tmp_path / "c.safetensors")
    assert figures["multiply_adds"] == patches + 12 * layer + wide * 10
