"""The simple baselines: descriptions against scikit-image, fits against scikit-learn, the stage on digits."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from skimage.feature import hog
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from torch import Tensor

from stages.errors import InputError
from stages.evaluate.baselines import classifiers, descriptors, every_baseline, public
from stages.evaluate.baselines.classifiers import FITTED, fitted, majority, probabilities
from stages.evaluate.baselines.descriptors import colours, described, shapes, shapes_and_colours
from stages.files.json_files import read_json, write_json
from stages.files.packs import read_probabilities
from stages.files.paths import BASELINES, IMAGES, LABELS, PREDICTED_IMAGES, TEST
from stages.files.tables import read_table, write_table
from stages.networks import imagenet
from stages.settings import load, values
from stages.tasks.draws import draw_labelled
from stages.tasks.model_index import read_index
from stages.tasks.probe import fit_linear
from tests.conftest import ROOT, seal
from tests.pipeline.conftest import SMALL, change
from tests.unit.test_stages import write_part

RANDOM = np.random.default_rng(0)


def noise(count: int, channels: int, side: int) -> np.ndarray:
    images = RANDOM.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    images[0] = 0  # no gradient anywhere
    images[1] = images[1] // 64 * 64  # gradients of equal length and of length 0
    return images


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 64), (1, 8), (3, 45)])
def test_shapes_are_those_of_scikit_image(channels: int, side: int) -> None:
    images, cell = noise(12, channels, side), max(1, round(side / 8))
    expected = [
        hog(
            image if channels > 1 else image[0], orientations=9, pixels_per_cell=(cell, cell),
            cells_per_block=(2, 2), channel_axis=0 if channels > 1 else None,
        )
        for image in images
    ]  # fmt: skip
    np.testing.assert_allclose(shapes(images), np.stack(expected), atol=1e-6)


def test_a_description_does_not_depend_on_the_images_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(40, 3, 16)
    together = shapes_and_colours(images)
    monkeypatch.setattr(descriptors, "part_size", lambda shape: 48)  # parts of 4
    rows = np.array([39, 3, 4, 17, 0, 8])
    assert described(images, rows, shapes_and_colours).tobytes() == together[rows].tobytes()


def test_colours_tell_what_gradients_do_not() -> None:
    flat = np.zeros((2, 3, 16, 16), dtype=np.uint8)
    flat[0, 0], flat[1, 2] = 200, 200  # red, blue
    assert (shapes(flat) == 0).all()
    of_red, of_blue = colours(flat)
    assert np.flatnonzero(of_red[:64]).tolist() == [3]  # red is 200 >> 6 = 3, the others 0
    assert np.flatnonzero(of_blue[:64]).tolist() == [3 * 16]
    assert of_red[:64].sum() == pytest.approx(1)
    assert np.abs(of_red[64:] - of_blue[64:]).max() == pytest.approx(200 / 255)
    grey = noise(3, 1, 16)
    assert shapes_and_colours(grey).tobytes() == shapes(grey).tobytes()


def planted(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour images whose class is the place of a bright square, and their labels."""
    labels = np.arange(count) % classes
    images = RANDOM.integers(0, 60, (count, 3, 16, 16), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4, 3:9] += 150
    return images, labels


@pytest.mark.parametrize("name", FITTED)
def test_every_baseline_finds_a_planted_class(name: str) -> None:
    images, labels = planted(90, 3)
    x = FITTED[name].describe(images)
    predicted = probabilities(fitted(FITTED[name].make, x[:45], labels[:45], 0), x[45:], 3)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted.sum(1), 1, atol=1e-6)
    assert (predicted.argmax(1) == labels[45:]).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_predictions_are_those_of_scikit_learn(digits: tuple[Tensor, Tensor], classes: int) -> None:
    images, labels = (part.numpy() for part in digits)
    rows = np.flatnonzero(labels < classes)
    y = labels[rows]
    theirs: dict[str, Any] = {
        "pixels_1nn": KNeighborsClassifier(1),
        "hog_svm": LinearSVC(C=classifiers.C, max_iter=classifiers.ITERATIONS, random_state=7),
        "hog_forest": RandomForestClassifier(classifiers.TREES, random_state=7),
    }
    assert theirs.keys() == FITTED.keys() - {values.PUBLIC}
    for name, model in theirs.items():
        x = FITTED[name].describe(images[rows])
        expected = model.fit(x[:40], y[:40]).predict(x[40:])
        predicted = probabilities(fitted(FITTED[name].make, x[:40], y[:40], 7), x[40:], classes)
        assert predicted.argmax(1).tolist() == expected.tolist(), name


@pytest.mark.parametrize("name", FITTED)
def test_a_class_without_labels_is_never_predicted(name: str) -> None:
    images, labels = planted(60, 3)
    x = FITTED[name].describe(images)
    rows = np.flatnonzero(labels != 1)
    some = probabilities(fitted(FITTED[name].make, x[rows], labels[rows], 0), x, 3)
    assert (some[:, 1] == 0).all()
    assert (some[rows].argmax(1) == labels[rows]).all()
    one = np.flatnonzero(labels == 2)
    assert (probabilities(fitted(FITTED[name].make, x[one], labels[one], 0), x, 3) == [0, 0, 1]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_public_features_are_those_of_the_encoder_with_imagenets_weights(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, channels, 32, 32), dtype=np.uint8)
    features = public.imagenet(images)
    assert (features.shape, features.dtype) == ((70, 1280), np.float32)
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(torch.load(imagenet._file(), weights_only=True))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    large = F.interpolate(torch.from_numpy(images[:8]) / 255, (96, 96), mode="bilinear")
    if channels == 1:  # grey: the mean of the statistics, and the sum over the first layer's channels
        mean, std = mean.mean().expand(3), std.mean().expand(3)
        large = large.expand(-1, 3, -1, -1)
    normalised = (large - mean[:, None, None]) / std[:, None, None]
    with torch.inference_mode():
        expected = network.eval().features(normalised).mean((2, 3))
    np.testing.assert_allclose(features[:8], expected.numpy(), atol=2e-4)


def test_the_probe_of_public_weights_is_that_of_the_methods() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    described = (random.normal(size=(90, 20)) + 2 * np.eye(3, 20)[labels]).astype(np.float32)
    fitted_probe = public.Probe().fit(described, 5 * labels)  # the numbers of classes may have gaps
    head = fit_linear(torch.from_numpy(described), torch.from_numpy(labels), 3, public.L2)
    expected = head(torch.from_numpy(described)).softmax(1).detach().numpy()
    np.testing.assert_allclose(fitted_probe.predict_proba(described), expected, atol=1e-6)
    assert fitted_probe.classes_.tolist() == [0, 5, 10]


def test_majority_is_the_share_of_each_class_in_the_pool() -> None:
    predicted = majority(np.array([2, -1, 0, 2, 2, -1]), 4, 3)
    assert predicted.tolist() == [[0.25, 0, 0.75, 0]] * 3
    assert values.BASELINES.keys() == {values.MAJORITY, *FITTED}


POOL, VALIDATION = 240, 120


@pytest.fixture
def project(in_copy: Path, digits: tuple[Tensor, Tensor]) -> Path:
    """A working directory with a pool, validation and test of digits."""
    (in_copy / "stages").symlink_to(ROOT / "stages")
    changes = SMALL | {"finetune.budgets": [10, 50, "all"], "finetune.draws": 3}
    del changes["baselines"]
    change(in_copy / "params.yaml", changes)
    text = (in_copy / "params.yaml").read_text()
    (in_copy / "params.yaml").write_text(text.replace("hog_forest]", f"hog_forest, {values.PUBLIC}]"))
    images, labels = (part.numpy() for part in digits)
    end = POOL + VALIDATION
    write_part(IMAGES, "pool", images[:POOL], labels[:POOL])
    write_part(IMAGES, "validation", images[POOL:end], labels[POOL:end])
    write_part(TEST, "images", images[end:], labels[end:])
    (TEST / "images.csv").rename(TEST / "index.csv")
    write_table(LABELS / "pool.csv", read_table(IMAGES / "pool.csv")[["id", "label"]])
    write_json(LABELS / "classes.json", [str(digit) for digit in range(10)])
    seal()
    return in_copy


def outputs() -> dict[str, bytes]:
    files = [*sorted(BASELINES.rglob("*.*")), every_baseline.FIGURES]
    return {str(path): path.read_bytes() for path in files}


def test_the_stage_measures_the_draws_of_the_methods(project: Path, digits: tuple[Tensor, Tensor]) -> None:
    every_baseline.main()
    images, labels = (part.numpy() for part in digits)
    test = slice(POOL + VALIDATION, None)
    assert {path.name for path in BASELINES.iterdir()} == set(values.BASELINES)
    content = read_json(every_baseline.FIGURES)
    for name in values.BASELINES:
        models = read_index(BASELINES / name)
        assert [(m.budget, m.draw, m.run, m.protocol) for m in models] == [
            (budget, draw, 0, "baseline") for budget in ("n10", "n50", "nall") for draw in range(3)
        ]
        assert len(read_table(BASELINES / name / PREDICTED_IMAGES, "id", "label", "unit")) == 512 - test.start
        for model in models:
            predicted = read_probabilities(BASELINES / name / model.file, rows=512 - test.start)
            right = (predicted.argmax(1) == labels[test]).mean()
            figure = content["figures"][model.budget][name][model.draw]
            assert figure["accuracy"] == pytest.approx(right, abs=1e-4)
            assert "nll" not in figure
    # The labels are those of the draw, and no others.
    rows = draw_labelled(torch.from_numpy(labels[:POOL]), 10, 50, 2, seed=1).numpy()
    own = LinearSVC(C=classifiers.C, max_iter=classifiers.ITERATIONS, random_state=2)
    own.fit(shapes(images[rows]), labels[rows])
    predicted = read_probabilities(BASELINES / "hog_svm" / "n50-draw2-baseline.npy", rows=152)
    assert predicted.argmax(1).tolist() == own.predict(shapes(images[test])).tolist()
    on_validation = own.predict(shapes(images[POOL : test.start])) == labels[POOL : test.start]
    assert set(content["validation"]["n50"]) == set(values.BASELINES)
    assert abs(content["validation"]["n50"]["hog_svm"] - on_validation.mean()) < 0.1  # of three draws


def test_equal_inputs_give_equal_bytes(project: Path) -> None:
    every_baseline.main()
    before = outputs()
    shutil.rmtree(BASELINES)
    every_baseline.main()
    assert outputs() == before


def test_test_labels_and_other_labels_of_the_pool_change_no_prediction(project: Path) -> None:
    change(project / "params.yaml", {"finetune.budgets": [10], "finetune.draws": 1})
    every_baseline.main()

    def predictions() -> dict[str, bytes]:
        return {name: content for name, content in outputs().items() if name.endswith(".npy")}

    before = predictions()
    assert len(before) == len(values.BASELINES)
    table = read_table(TEST / "index.csv")
    write_table(TEST / "index.csv", table.assign(label=(table["label"] + 1) % 10))
    validation = read_table(IMAGES / "validation.csv")
    write_table(IMAGES / "validation.csv", validation.assign(label=(validation["label"] + 1) % 10))
    seal()
    every_baseline.main()
    assert predictions() == before


def test_a_label_that_changes_while_the_stage_runs_leaves_its_outputs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"finetune.budgets": [10], "finetune.draws": 1, "baselines": ["majority"]}
    change(project / "params.yaml", changes)
    every_baseline.main()
    before, original = outputs(), every_baseline.predicted

    def meanwhile(*arguments: Any) -> Any:
        table = read_table(LABELS / "pool.csv")
        write_table(LABELS / "pool.csv", table.assign(label=(table["label"] + 1) % 10))
        return original(*arguments)

    monkeypatch.setattr(every_baseline, "predicted", meanwhile)
    with pytest.raises(InputError, match=r"^baselines: .* changed .* \(data/prepared/labels/pool.csv\)"):
        every_baseline.main()
    assert outputs() == before


def test_too_few_validation_labels_choose_nothing(project: Path) -> None:
    table = read_table(IMAGES / "validation.csv", text=True)
    write_table(IMAGES / "validation.csv", table.assign(label=table["label"].where(table.index < 99, "")))
    seal()
    change(project / "params.yaml", {"finetune.budgets": [10], "finetune.draws": 1, "baselines": ["hog_svm"]})
    every_baseline.main()
    content = read_json(every_baseline.FIGURES)
    assert content["validation"] == {}
    assert content["names"] == ["hog_svm"]


@pytest.mark.parametrize("changes", [{"baselines": []}, {"finetune.budgets": [10_000]}])
def test_without_baselines_or_labels_nothing_is_measured(
    project: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(project / "params.yaml", {"data.source": "folder"} | changes)
    monkeypatch.setattr(every_baseline.HeldOut, "read", None)  # it is not read
    every_baseline.main()
    assert list(BASELINES.iterdir()) == []
    content = read_json(every_baseline.FIGURES)
    assert (content["figures"], content["validation"], content["names"]) == ({}, {}, [])


def test_of_very_many_labels_some_are_taken(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load.parameters("baselines")
    labels = torch.tensor(read_table(LABELS / "pool.csv")["label"].tolist())
    monkeypatch.setattr(every_baseline, "LARGEST", 100)
    draws = every_baseline.make_draws(settings, labels, 10)
    assert [(draw.budget, list(draw.numbers), len(draw.rows)) for draw in draws[-2:]] == [
        ("n50", [2], 50), ("nall", [0, 1, 2], 80),
    ]  # fmt: skip


def test_names_of_baselines_are_checked(raw: dict[str, Any]) -> None:
    for names, message in (
        (["hog_swm"], r"baselines\[0\]: unknown name 'hog_swm' \(did you mean hog_svm\?\)"),
        (["majority", "majority"], "allowed: each name once"),
    ):
        with pytest.raises(load.InputError, match=message):
            load.validated(raw | {"baselines": names})
    assert load.validated(raw | {"baselines": []}).baselines == ()
