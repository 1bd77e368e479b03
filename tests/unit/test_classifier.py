"""Classifiers: predictions that do not depend on the images beside, class weights, and the file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.tasks.classifier import (
    Classifier,
    class_weights,
    classification_loss,
    probabilities,
    read_classifier,
    write_classifier,
)
from stages.tasks.features import apply_head, encode, encode_rows
from stages.training.machine import Machine
from tests.conftest import tiny_encoder

CPU = torch.device("cpu")


def classifier(name: str = "residual") -> Classifier:
    """A classifier with a random head, whose predictions differ from image to image."""
    result = Classifier(tiny_encoder(name), 10)
    generator = torch.Generator().manual_seed(0)
    nn.init.normal_(result.head.weight, std=0.1, generator=generator)
    nn.init.normal_(result.head.bias, generator=generator)
    return result


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["cnn", "residual", "vit"])
def test_probabilities_do_not_depend_on_the_images_beside_to_the_last_bit(
    name: str, precision: str, digits: tuple[Tensor, Tensor]
) -> None:
    model, images, machine = classifier(name), digits[0][:264], Machine(CPU, precision)
    together = probabilities(model, images, machine)
    assert together.std(0).max() > 0.01  # they differ from image to image
    for size in (1, 7, 256):
        count = 8 if size == 1 else 14 if size == 7 else len(images)
        parts = torch.cat([probabilities(model, part, machine) for part in images[:count].split(size)])
        assert torch.equal(parts, together[:count])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.equal(probabilities(model, images[order], machine), together[order])
    assert torch.equal(probabilities(model, images.numpy(), machine), together)  # a pack


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_head_on_features_gives_the_bits_that_it_gives_behind_the_encoder(
    precision: str, digits: tuple[Tensor, Tensor]
) -> None:
    model, images, machine = classifier(), digits[0][:300], Machine(CPU, precision)
    features = encode(model.encoder, images, machine)
    assert torch.equal(
        apply_head(model.head, features, machine).softmax(1), probabilities(model, images, machine)
    )
    rows = np.array([299, 5, 7, *range(100, 250)])
    assert torch.equal(encode_rows(model.encoder, images.numpy(), rows, machine), features[rows])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_probabilities_are_the_softmax_of_the_head_on_features_in_evaluation_mode(
    precision: str, floats: Tensor, digits: tuple[Tensor, Tensor]
) -> None:
    model = classifier().train()
    predicted = probabilities(model, digits[0][:64], Machine(CPU, precision))
    assert predicted.dtype == torch.float32
    assert not predicted.requires_grad
    torch.testing.assert_close(predicted.sum(1), torch.ones(64), rtol=0, atol=1e-6)  # so the head is in fp32
    model.eval()
    with torch.no_grad():
        expected = model(floats[:64]).softmax(1)
    torch.testing.assert_close(predicted, expected, rtol=0, atol=1e-6 if precision == "fp32" else 0.01)


def test_class_weights_make_classes_contribute_equally() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights(labels, 4)
    torch.testing.assert_close(weights, torch.tensor([10 / 24, 10 / 12, 0.0, 10 / 4]))
    sums = torch.zeros(4).index_add(0, labels, weights[labels])
    torch.testing.assert_close(sums, torch.tensor([2.5, 2.5, 0.0, 2.5]))
    torch.testing.assert_close(class_weights(torch.arange(4), 4), torch.ones(4))


def test_the_loss_is_the_weighted_cross_entropy_in_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(8, 3, generator=generator), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])
    each = -logits.log_softmax(1)[torch.arange(8), labels]
    torch.testing.assert_close(classification_loss(logits, labels), each.mean())
    weights = class_weights(labels, 3)
    expected = (each * weights[labels]).sum() / weights[labels].sum()
    torch.testing.assert_close(classification_loss(logits, labels, weights), expected)
    rough = classification_loss(logits.bfloat16(), labels)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, F.cross_entropy(logits.bfloat16().float(), labels))


@pytest.mark.parametrize("name", ["cnn", "residual", "vit"])
def test_a_classifier_comes_back_from_its_file(
    name: str, tmp_path: Path, digits: tuple[Tensor, Tensor], cpu: Machine
) -> None:
    model, classes = classifier(name), [f"digit {number}" for number in range(9)] + ["é, ß"]
    model(digits[0][:64].float() / 255)  # so that the running statistics are not the initial ones
    write_classifier(tmp_path / "a.safetensors", model, classes)
    restored, names = read_classifier(tmp_path / "a.safetensors")
    assert names == classes
    assert restored.encoder.declaration == model.encoder.declaration
    before, after = model.state_dict(), restored.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    images = digits[0][:20]
    assert torch.equal(probabilities(restored, images, cpu), probabilities(model, images, cpu))
    write_classifier(tmp_path / "b.safetensors", restored, names)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
