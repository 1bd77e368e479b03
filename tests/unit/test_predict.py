"""From image files to labels, with a real classifier file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.errors import InputError
from stages.files.json_files import write_json
from stages.files.paths import CLASSIFIERS, METRICS
from stages.tasks.classifier import Classifier, write_classifier
from stages.tools import predict
from tests.conftest import tiny_encoder

Digits = tuple[Tensor, Tensor]
CLASSES = [f"digit {number}" for number in range(10)]


@pytest.fixture
def classifier(in_copy: Path) -> Classifier:
    """A classifier with random weights, written as simclr/n10, draw 0; the working directory is a copy's."""
    assert Path.cwd() == in_copy
    made = Classifier(tiny_encoder(), 10).eval()
    torch.nn.init.normal_(made.head.weight, generator=torch.Generator().manual_seed(0))
    write_classifier(CLASSIFIERS / "simclr/n10-draw0.safetensors", made, CLASSES)
    return made


@pytest.fixture
def folder(digits: Digits, in_copy: Path) -> Path:
    """Twenty digits as PNG files, in two folders, one inside the other."""
    images = in_copy / "new images"
    (images / "more").mkdir(parents=True)
    for number, image in enumerate(digits[0][:20]):
        place = images / "more" if number % 2 else images
        Image.fromarray(image[0].numpy()).save(place / f"{number:02}.png")
    return images


def predicted(*arguments: object) -> tuple[int, pd.DataFrame]:
    wrong = predict.main([*map(str, arguments), "--output", "out.csv"])
    return wrong, pd.read_csv("out.csv")


def test_files_are_classified_as_their_pixels_are(
    classifier: Classifier, folder: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "BATCH", 7)  # 20 is no multiple of it
    wrong, table = predicted(folder, "--model", "simclr/n10")
    assert wrong == 0
    assert list(table["file"]) == [str(file) for file in sorted(folder.rglob("*.png"))]
    numbers = [int(Path(file).stem) for file in table["file"]]
    with torch.no_grad():
        expected = classifier(digits[0][numbers].float() / 255).softmax(1)
    values, index = expected.topk(3, dim=1)
    for rank, end in enumerate(["", "_2", "_3"]):
        np.testing.assert_allclose(table[f"probability{end}"], values[:, rank], atol=0.02)  # bf16
    clear = values[:, 0] - values[:, 1] > 0.05
    assert clear.sum() > 5
    found = np.array(table["label"])[clear.numpy()]
    assert list(found) == [CLASSES[number] for number in index[clear][:, 0].tolist()]


@pytest.mark.usefixtures("classifier")
def test_bad_images_are_said_and_do_not_stop_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "05 broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not looked at")
    empty = folder.parent / "empty"
    empty.mkdir()
    wrong, table = predicted(folder, folder.parent / "gone.png", empty, "--model", "simclr/n10")
    assert wrong == 3
    assert len(table) == 20
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        str(empty), str(folder / "05 broken.png"), str(folder.parent / "gone.png")
    ]  # fmt: skip


@pytest.mark.usefixtures("classifier")
def test_folders_are_searched_as_prepare_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "._00.png").write_bytes(b"what macOS puts beside 00.png")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "00.png").rename(str(folder / "caf") + "\udce9.png")
    elsewhere = folder.rename(folder.parent / "elsewhere")
    folder.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    wrong, table = predicted(folder, "--model", "simclr/n10")
    assert (wrong, len(table)) == (2, 19)
    assert capsys.readouterr().err.splitlines() == [
        f"error: {folder}/'linked/caf\\udce9.png': has a name that is no valid UTF-8",
        f"error: {folder}/linked/gone.png: is a link to nothing",
    ]


@pytest.mark.usefixtures("classifier")
def test_a_path_that_is_no_utf8_is_a_bad_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = str(folder / "caf") + "\udce9.png"
    (folder / "00.png").rename(bad)
    wrong, table = predicted(bad, folder / "01.png", folder / "02.png", "--model", "simclr/n10")
    assert (wrong, len(table)) == (2, 1)  # 01.png is in the other folder
    assert "caf\\udce9.png': has a name that is no valid UTF-8" in capsys.readouterr().err


@pytest.mark.usefixtures("classifier")
@pytest.mark.parametrize("summary", [{}, {"scratch": {}, "simclr": {}}])
def test_without_any_label_there_is_no_classifier_yet(summary: dict[str, dict[str, float]]) -> None:
    write_json(METRICS / "summary.json", summary)
    with pytest.raises(InputError, match=r"^metrics/summary\.json: there is no classifier yet"):
        predict.model_file(None)


@pytest.mark.usefixtures("classifier")
def test_without_a_readable_image_nothing_is_written(in_copy: Path) -> None:
    assert predict.main([str(in_copy / "gone.png"), "--model", "simclr/n10", "--output", "out.csv"]) == 1
    assert not Path("out.csv").exists()


def test_a_model_is_found_by_its_names(classifier: Classifier) -> None:
    assert classifier is not None
    file = Path("models/classifiers/simclr/n10-draw0.safetensors")
    for name in ("simclr/n10", "simclr/n10-draw0", str(file)):
        assert predict.model_file(name) == file
    with pytest.raises(InputError, match=r"^--model simclr/n7: there is no \S+; there are: simclr/n10$"):
        predict.model_file("simclr/n7")


@pytest.mark.usefixtures("classifier")
def test_without_a_name_it_is_the_best_of_the_summary() -> None:
    summary = {
        "scratch": {"n10": {"accuracy": 0.7}},
        "simclr": {"n10": {"accuracy": 0.9}, "n5": {"accuracy": 0.1}},
    }
    write_json(METRICS / "summary.json", summary)
    assert predict.model_file(None) == Path("models/classifiers/simclr/n10-draw0.safetensors")


@pytest.mark.usefixtures("classifier")
def test_the_images_that_a_model_was_made_of_are_not_needed(in_copy: Path, folder: Path) -> None:
    yaml = (in_copy / "params.yaml").read_text()
    yaml = yaml.replace("source: mnist", "source: folder").replace("path: data/raw", "path: data/images")
    (in_copy / "params.yaml").write_text(yaml)
    assert not Path("data/images").exists()
    wrong, table = predicted(folder, "--model", "models/classifiers/simclr/n10-draw0.safetensors")
    assert (wrong, len(table)) == (0, 20)


def test_fewer_classes_than_places(classifier: Classifier) -> None:
    table = predict.table([Path("a")], torch.tensor([[0.25, 0.75]]), ["cat", "dog"])
    assert classifier.head.out_features == 10
    assert table.to_dict("records") == [
        {"file": "a", "label": "dog", "probability": 0.75, "label_2": "cat", "probability_2": 0.25}
    ]
