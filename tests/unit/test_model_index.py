"""The index of a folder of models, and the use that evaluate makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from stages.errors import InputError
from stages.evaluate import every_model as evaluate
from stages.evaluate.frozen import FrozenEncoder
from stages.files import weights
from stages.files.digests import TABLE
from stages.files.json_files import read_json, write_json
from stages.files.packs import write_array
from stages.files.paths import (
    CLASSIFIERS,
    DISTILLED,
    IMAGES,
    LABELS,
    METRICS,
    MODELS,
    PREDICTED_IMAGES,
    PREDICTIONS,
    TEST,
    encoder_file,
)  # fmt: skip
from stages.files.tables import read_table, write_table
from stages.settings import load
from stages.settings.pipeline import PIPELINE
from stages.tasks.classifier import Classifier, write_classifier
from stages.tasks.model_index import COLUMNS, INDEX, Model, read_index, write_index
from tests.conftest import ROOT, seal, tiny_encoder
from tests.pipeline.conftest import change

HEADER = "file,protocol,budget,draw,run,parent\n"
ROW = "n10-draw0.safetensors,finetuned,n10,0,0,models/encoders/simclr/run0.safetensors\n"


def model(budget: str, draw: int = 0, protocol: str = "finetuned") -> Model:
    return Model(f"{budget}-draw{draw}.safetensors", protocol, budget, draw, 0, "models/encoders/a")


# --- the file


def test_models_come_back_in_their_order(tmp_path: Path) -> None:
    models = [model("n1000", 12), model("n10"), Model("a, b.safetensors", "distilled", "nall", 0, 3, "")]
    write_index(tmp_path, models)
    assert read_index(tmp_path) == models
    assert list(read_table(tmp_path / INDEX).columns) == COLUMNS


def test_an_index_without_models_comes_back(tmp_path: Path) -> None:
    write_index(tmp_path, [])
    assert (tmp_path / INDEX).read_text() == HEADER
    assert read_index(tmp_path) == []


def test_further_columns_are_ignored(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(HEADER.strip() + ",note\n" + ROW.strip() + ",x\n")
    assert [row.file for row in read_index(tmp_path)] == ["n10-draw0.safetensors"]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    write_index(tmp_path, [model("n10")])
    write_table(tmp_path / INDEX, read_table(tmp_path / INDEX).drop(columns=column))
    with pytest.raises(InputError, match=rf"index\.csv: column {column} is missing; it has "):
        read_index(tmp_path)


@pytest.mark.parametrize("value", ["", "first", "-1", "1.0", "٣"])
@pytest.mark.parametrize("column", ["draw", "run"])
def test_a_draw_or_run_that_is_not_a_number_is_refused(tmp_path: Path, column: str, value: str) -> None:
    write_index(tmp_path, [model("n10"), model("n10", 1)])
    table = read_table(tmp_path / INDEX, text=True)
    table.loc[1, column] = value
    write_table(tmp_path / INDEX, table)
    with pytest.raises(
        InputError, match=rf"index\.csv: column {column}, row 2, is {value!r}; allowed: a num"
    ):
        read_index(tmp_path)


def test_a_folder_without_an_index_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_index(tmp_path)
    assert str(caught.value.filename) == str(tmp_path / INDEX)


# --- evaluate


def declare(*dependencies: Path) -> None:
    """Let the stage evaluate depend on further files or folders of models."""
    content: dict[str, Any] = load.read(PIPELINE)
    files = [
        path
        for path in content["stages"]["evaluate"]["deps"]
        if Path(path).parent not in (CLASSIFIERS, DISTILLED)
    ]
    change(PIPELINE, {"stages.evaluate.deps": files + [str(path) for path in dependencies]})


def test_the_models_are_those_of_all_declared_indexes_by_budget(in_copy: Path) -> None:
    assert Path.cwd() == in_copy
    first, second, other = MODELS / "first/scratch", MODELS / "second/scratch", MODELS / "other/scratch"
    write_index(first, [model("n100", 1), model("n10"), model("nall")])
    write_index(second, [model("n10", protocol="new"), model("n50", protocol="new"), model("n100", 1, "new")])
    write_index(other, [model("n10")])
    declare(first, second)
    found = [(task.path, task.model) for task in evaluate.indexed_models("scratch")]
    assert [(path.parent, row.budget, row.draw) for path, row in found] == [
        (first, "n100", 1), (second, "n100", 1), (first, "n10", 0), (second, "n10", 0), (first, "nall", 0),
        (second, "n50", 0),
    ]  # fmt: skip
    assert {row.protocol for path, row in found if path.parent == second} == {"new"}


def test_a_declared_folder_without_an_index_is_not_taken_for_an_empty_one(in_copy: Path) -> None:
    (in_copy / CLASSIFIERS / "scratch").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as caught:
        evaluate.indexed_models("scratch")
    assert str(caught.value.filename) == str(CLASSIFIERS / "scratch" / INDEX)


@pytest.fixture
def evaluated(in_copy: Path, digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A working directory with 100 labelled pool images, 100 test images and an encoder; the test images."""
    (in_copy / "stages").symlink_to(ROOT / "stages")
    change(
        in_copy / "params.yaml",
        {"methods": ["scratch"], "runtime.precision": "fp32", "runtime.device": "cpu"},
    )
    images, labels = digits
    write_array(IMAGES / "pool.npy", images[:100].numpy())
    pool = pd.DataFrame({"id": [f"p{row}" for row in range(100)], "label": labels[:100]})
    write_table(IMAGES / "pool.csv", pool)
    write_table(LABELS / "pool.csv", pool)
    write_json(LABELS / "classes.json", [str(digit) for digit in range(10)])
    write_array(TEST / "images.npy", images[100:200].numpy())
    test = pd.DataFrame({"id": [f"t{row}" for row in range(100)], "label": labels[100:200]})
    write_table(TEST / "index.csv", test)
    write_array(IMAGES / "validation.npy", images[200:320].numpy())
    validation = [str(label) if row < 100 else "" for row, label in enumerate(labels[200:320].tolist())]
    write_table(IMAGES / "validation.csv", pd.DataFrame({"id": range(120), "label": validation}))
    weights.write_encoder(encoder_file("scratch", 0), tiny_encoder())
    write_index(DISTILLED / "scratch", [])
    seal()
    return images[100:200], labels[100:200]


def evaluated_on_validation() -> tuple[Tensor, Tensor]:
    """The labelled validation images and their labels."""
    labels = pd.read_csv(IMAGES / "validation.csv")["label"].dropna().astype(int)
    return torch.from_numpy(np.load(IMAGES / "validation.npy")[labels.index]), torch.tensor(labels.tolist())


def write_models(folder: Path, models: list[Model], seed: int) -> list[Classifier]:
    """Classifiers with random heads, and their index."""
    generator, classifiers = torch.Generator().manual_seed(seed), []
    for row in models:
        classifier = Classifier(tiny_encoder(), 10).eval()
        torch.nn.init.normal_(classifier.head.weight, generator=generator)
        write_classifier(folder / row.file, classifier, [str(digit) for digit in range(10)])
        classifiers.append(classifier)
    write_index(folder, models)
    seal(folder)
    return classifiers


def test_evaluate_measures_models_of_a_stage_that_it_does_not_know(
    evaluated: tuple[Tensor, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = evaluated
    declare(CLASSIFIERS / "scratch", MODELS / "someday/scratch")
    known = write_models(CLASSIFIERS / "scratch", [model("n10"), model("n20")], seed=1)
    new = write_models(MODELS / "someday/scratch", [model("n20", protocol="taught")], seed=2)
    evaluate.main("scratch")
    figures = read_json(METRICS / "evaluate" / "scratch.json")
    assert {budget: set(protocols) for budget, protocols in figures.items()} == {
        "n10": {"finetuned", "linear", "knn"},
        "n20": {"finetuned", "taught", "linear", "knn"},
    }
    for name, classifier, protocol in (
        ("n10-draw0-finetuned", known[0], "finetuned"),
        ("n20-draw0-finetuned", known[1], "finetuned"),
        ("n20-draw0-taught", new[0], "taught"),
    ):
        with torch.no_grad():
            expected = classifier(images.float() / 255).softmax(1)
        predicted = np.load(PREDICTIONS / "scratch" / f"{name}.npy")
        np.testing.assert_allclose(predicted, expected.numpy(), atol=1e-6)
        accuracy = float((expected.argmax(1) == labels).float().mean())
        (of_draw,) = figures[name.split("-")[0]][protocol]
        assert of_draw["accuracy"] == pytest.approx(accuracy, abs=1e-4)
    validation = read_json(METRICS / "evaluate" / "scratch_model.json")["validation"]
    assert {budget: set(protocols) for budget, protocols in validation.items()} == {
        "n10": {"finetuned"},
        "n20": {"finetuned", "taught"},
    }
    with torch.no_grad():
        guesses = known[0](evaluated_on_validation()[0].float() / 255).argmax(1)
    right = float((guesses == evaluated_on_validation()[1]).float().mean())
    assert validation["n10"]["finetuned"] == pytest.approx(right, abs=1e-4)  # of the labelled ones
    lines = capsys.readouterr().out.splitlines()
    title = lines.index("evaluate scratch: test accuracy in %, by number of labels")
    assert lines[title + 1].split() == ["10", "20"]
    table = {line.split()[0]: line.split()[1:] for line in lines[title + 2 : title + 6]}
    assert table["taught"] == [f"{100 * figures['n20']['taught'][0]['accuracy']:.1f}"]  # none at n10
    for protocol in ("finetuned", "linear", "knn"):
        shown = [f"{100 * figures[budget][protocol][0]['accuracy']:.1f}" for budget in ("n10", "n20")]
        assert table[protocol] == shown


def test_equal_draws_of_the_frozen_encoder_are_measured_once(
    evaluated: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(evaluated[0]) == 100
    write_models(CLASSIFIERS / "scratch", [model("n10"), model("nall"), model("nall", 1)], seed=1)
    calls: list[tuple[str, int]] = []
    predict = FrozenEncoder.predict

    def counted(frozen: FrozenEncoder, budget: str, draw: int) -> dict[str, np.ndarray]:
        calls.append((budget, draw))
        return predict(frozen, budget, draw)

    monkeypatch.setattr(FrozenEncoder, "predict", counted)
    evaluate.main("scratch")
    assert calls == [("n10", 0), ("nall", 0)]
    first, second = read_json(METRICS / "evaluate" / "scratch.json")["nall"]["linear"]
    assert first == second
    folder = PREDICTIONS / "scratch"
    files = [(folder / f"nall-draw{draw}-linear.npy").read_bytes() for draw in (0, 1)]
    assert files[0] == files[1]
    index = read_index(folder)
    others = {INDEX, PREDICTED_IMAGES, TABLE}
    assert {model.file for model in index} | others == {p.name for p in folder.iterdir()}
    assert {(model.protocol, model.parent) for model in index if model.budget == "nall"} == {
        ("finetuned", str(CLASSIFIERS / "scratch/nall-draw0.safetensors")),
        ("finetuned", str(CLASSIFIERS / "scratch/nall-draw1.safetensors")),
        *((protocol, str(encoder_file("scratch", 0))) for protocol in ("linear", "knn")),
    }
    images = read_table(folder / PREDICTED_IMAGES, "id", "label", "unit", text=True)
    assert images["id"].tolist() == [f"t{row}" for row in range(100)]
    assert images["unit"].tolist() == [str(row) for row in range(100)]


def test_without_models_the_results_are_empty_and_the_test_split_is_not_read(
    evaluated: tuple[Tensor, Tensor],
) -> None:
    assert len(evaluated[0]) == 100
    write_index(CLASSIFIERS / "scratch", [])
    (TEST / "images.npy").write_bytes(b"damaged")
    seal()
    evaluate.main("scratch")
    assert read_json(METRICS / "evaluate" / "scratch.json") == {}
    assert {path.name for path in (PREDICTIONS / "scratch").iterdir()} == {INDEX, TABLE}
    assert read_index(PREDICTIONS / "scratch") == []


def test_a_model_of_other_classes_is_refused(evaluated: tuple[Tensor, Tensor]) -> None:
    assert len(evaluated[0]) == 100
    write_models(CLASSIFIERS / "scratch", [model("n10")], seed=1)
    write_json(LABELS / "classes.json", [f"digit {digit}" for digit in range(10)])
    seal()
    with pytest.raises(InputError, match=r"n10-draw0\.safetensors: its classes are \['0', .*\['digit 0', "):
        evaluate.main("scratch")


def test_a_budget_without_finetuned_models_is_refused() -> None:
    def tasks(*protocols: str) -> list[evaluate.OfModel]:
        return [
            evaluate.OfModel(DISTILLED / "simclr" / "a", model("n10", protocol=name)) for name in protocols
        ]

    evaluate.require_headline([])
    evaluate.require_headline(tasks("distilled", "finetuned"))
    with pytest.raises(InputError, match=r"distilled/simclr/index\.csv: has models of n10, which has no"):
        evaluate.require_headline(tasks("distilled"))
