"""Trained models stay where validation confirms them over all draws; else their linear probes do."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.files import weights
from stages.files.paths import CLASSIFIERS, IMAGES, encoder_file
from stages.files.tables import read_table, write_table
from stages.finetune import every_draw
from stages.settings.recipes import Recipe
from stages.tasks.chosen import read_used, recipes_file, write_recipes
from stages.tasks.classifier import read_classifier
from stages.tasks.confirmation import Compared, confirmations
from tests.conftest import seal
from tests.pipeline.conftest import change
from tests.unit.test_stages import project  # noqa: F401 (a fixture)

RECIPE = Recipe(encoder_learning_rate=0.001, head_learning_rate=0.001, weight_decay=0.5)
RUINED = RECIPE.model_copy(update={"encoder_learning_rate": 3.0, "head_learning_rate": 3.0})
FOLDER = CLASSIFIERS / "scratch"


def finetuned(recipe: Recipe, *, or_frozen: bool = True) -> dict[str, Any]:
    """Finetune two draws of ten labels; the confirmation in the metrics."""
    change(Path("params.yaml"), {"finetune.draws": 2})
    write_recipes(recipes_file("scratch"), {"n10": recipe}, or_frozen=or_frozen)
    every_draw.main("scratch")
    content: dict[str, Any] = json.loads(Path("metrics/finetune/scratch.json").read_text())
    return content["confirmation"]


def is_frozen(draw: int) -> bool:
    """Whether the encoder of a classifier is the pretrained one."""
    classifier, _ = read_classifier(FOLDER / f"n10-draw{draw}.safetensors")
    trained = classifier.encoder.state_dict()
    pretrained = weights.read_encoder(encoder_file("scratch", 0)).state_dict()
    return all(torch.equal(trained[name], pretrained[name]) for name in pretrained)


@pytest.mark.usefixtures("project")
def test_where_training_ruins_the_encoder_its_linear_probes_are_the_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (of_budget,) = finetuned(RUINED).values()
    assert of_budget["frozen"] > of_budget["trained"]
    assert not of_budget["holds"]
    assert "finetune scratch n10: the frozen models are taken: on validation, over 2 draws, " in (
        capsys.readouterr().out
    )
    assert is_frozen(0)
    assert is_frozen(1)
    used = read_used(FOLDER)
    assert used == {"n10": RUINED.model_copy(update={"encoder_learning_rate": 0.0})}
    models = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert not [name for name in models if "probe" in name]
    # A frozen recipe gives the same probes.
    assert finetuned(used["n10"]) == {}
    assert {path.name: path.read_bytes() for path in FOLDER.glob("*.safetensors")} == {
        name: content for name, content in models.items() if name.endswith(".safetensors")
    }


@pytest.mark.usefixtures("project")
def test_a_fixed_recipe_is_not_compared_and_neither_is_any_without_labels_of_validation() -> None:
    assert finetuned(RUINED, or_frozen=False) == {}
    assert not is_frozen(0)
    table = read_table(IMAGES / "validation.csv")
    labels = table["label"].where(table.index < 99).astype("Int64")
    write_table(IMAGES / "validation.csv", table.assign(label=labels))
    seal()
    assert finetuned(RUINED) == {}
    assert not is_frozen(0)
    assert read_used(FOLDER) == {"n10": RUINED}


@pytest.mark.usefixtures("project")
def test_where_training_helps_on_validation_the_trained_models_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    # Labels that the trained models give themselves: no probe is better.
    finetuned(RECIPE, or_frozen=False)
    classifier, _ = read_classifier(FOLDER / "n10-draw0.safetensors")
    images = torch.from_numpy(np.load(IMAGES / "validation.npy")) / 255
    with torch.no_grad():
        labels: Tensor = classifier.eval()(images).argmax(1)
    table = read_table(IMAGES / "validation.csv")
    write_table(IMAGES / "validation.csv", table.assign(label=labels.numpy()))
    seal()
    (of_budget,) = finetuned(RECIPE).values()
    assert of_budget["holds"]
    assert of_budget["trained"] > of_budget["frozen"]
    assert not is_frozen(0)
    assert not list(FOLDER.glob("*-probe*"))
    assert read_used(FOLDER) == {"n10": RECIPE}


def compared(new: Sequence[int], old: Sequence[int], labels: Sequence[int]) -> Compared:
    return Compared(np.array(new, dtype=bool), np.array(old, dtype=bool), np.array(labels))


def test_classes_count_alike_and_all_draws_of_a_budget_together() -> None:
    first = compared([1, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 1])
    second = compared([1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1])
    found = confirmations(["n10", "n10", "n20"], [first, second, None])
    assert found.keys() == {"n10"}
    assert found["n10"].new == pytest.approx((6 / 6 + 0 / 2) / 2)
    assert found["n10"].old == pytest.approx((3 / 6 + 1 / 2) / 2)
    assert found["n10"].holds
    assert found["n10"].in_words("trained", "frozen") == (
        "the trained models are taken: on validation, over 2 draws, 50.0 % trained, 50.0 % frozen"
    )
    assert confirmations(["n20", "n20"], [first, compared([0], [1], [1])])["n20"].figures("a", "b") == {
        "a": 0.5, "b": 0.8333, "holds": False,
    }  # fmt: skip
