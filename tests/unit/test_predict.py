"""`stages.tools.predict`: from image files to a table of labels, with a real classifier file."""

import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.errors import InputError
from stages.files.paths import CLASSIFIERS, METRICS
from stages.images import pictures
from stages.networks.pixel_rule import Decoding
from stages.tasks.classifier import Classifier, probabilities, write_classifier
from stages.tools import predict
from stages.training.machine import Machine
from tests.conftest import put_metrics, seal, tiny_encoder
from tests.pipeline.conftest import change

Digits = tuple[Tensor, Tensor]
CLASSES = [f"digit {number}" for number in range(10)]


@pytest.fixture
def classifier(in_copy: Path) -> Classifier:
    """A classifier with random weights, written as simclr/n10, draw 0, in a copy of the project."""
    assert Path.cwd() == in_copy
    random = Classifier(tiny_encoder(), 10).eval()
    torch.nn.init.normal_(random.head.weight, generator=torch.Generator().manual_seed(0))
    write_classifier(CLASSIFIERS / "simclr/n10-draw0.safetensors", random, CLASSES)
    seal()
    return random


@pytest.fixture
def folder(digits: Digits, in_copy: Path) -> Path:
    """Twenty digits as PNG files, in two folders, one inside the other."""
    images = in_copy / "new images"
    (images / "more").mkdir(parents=True)
    for number, image in enumerate(digits[0][:20]):
        parent = images / "more" if number % 2 else images
        Image.fromarray(image[0].numpy()).save(parent / f"{number:02}.png")
    return images


def run(*arguments: object) -> tuple[int, pd.DataFrame]:
    """Run the command; the number of paths that could not be used, and the table."""
    failures = predict.main([*map(str, arguments), "--output", "out.csv"])
    return failures, pd.read_csv("out.csv")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_probabilities_are_those_of_evaluate(
    classifier: Classifier, folder: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate` gives the decoded images to `probabilities`; `predict` decodes and classifies in batches."""
    files = sorted(folder.rglob("*.png"))
    machine = Machine(torch.device("cpu"), precision)
    decoded = torch.from_numpy(np.stack([pictures.read(file, size=28, channels=1) for file in files]))
    monkeypatch.setattr(predict, "BATCH", 7)  # 20 is not a multiple of it
    readable, predicted, unreadable = predict.classify(files, classifier, machine)
    assert (readable, unreadable) == (files, [])
    assert torch.equal(predicted, probabilities(classifier, decoded, machine))  # to the last bit


def test_files_are_classified_as_their_pixels_are(
    classifier: Classifier, folder: Path, digits: Digits, in_copy: Path
) -> None:
    change(in_copy / "params.yaml", {"runtime.device": "cpu", "runtime.precision": "fp32"})
    failures, table = run(folder, "--model", "simclr/n10")
    assert failures == 0
    assert list(table["file"]) == [str(file) for file in sorted(folder.rglob("*.png"))]
    numbers = [int(Path(file).stem) for file in table["file"]]
    with torch.no_grad():
        expected = classifier(digits[0][numbers].float() / 255).softmax(1)
    values, index = expected.topk(3, dim=1)
    for rank, suffix in enumerate(["", "_2", "_3"]):  # the table has four decimals
        np.testing.assert_allclose(table[f"probability{suffix}"], values[:, rank], rtol=0, atol=6e-5)
    distinct = (values[:, 0] - values[:, 1] > 1e-3).numpy()
    assert distinct.sum() > 15
    labels = np.array([CLASSES[number] for number in index[:, 0].tolist()])
    assert list(table["label"][distinct]) == list(labels[distinct])


@pytest.mark.parametrize(
    ("rule", "other", "image"),
    [
        (Decoding(fit="stretch"), Decoding(), "ink"),
        (Decoding(fit="pad"), Decoding(), "ink"),
        (Decoding(ground="black"), Decoding(), "ink"),
        (Decoding(uint16=4095), Decoding(uint16=65535), "deep"),
    ],
)
def test_images_become_pixels_by_the_rule_that_the_model_was_trained_with(
    in_copy: Path, rule: Decoding, other: Decoding, image: str
) -> None:
    random, file = np.random.default_rng(0), in_copy / "image.png"
    if image == "ink":
        Image.fromarray(random.integers(0, 256, (20, 50, 2), dtype=np.uint8), "LA").save(file)
    else:
        Image.fromarray(random.integers(0, 4096, (20, 50)).astype(np.uint16)).save(file)
    trained = Classifier(tiny_encoder(decoding=rule), 10).eval()
    torch.nn.init.normal_(trained.head.weight, 0, 0.2, generator=torch.Generator().manual_seed(0))
    write_classifier(CLASSIFIERS / "simclr/n10-draw0.safetensors", trained, CLASSES)
    seal()
    change(in_copy / "params.yaml", {"runtime.device": "cpu", "runtime.precision": "fp32"})
    cpu = Machine(torch.device("cpu"), "fp32")
    expected, wrong = (
        probabilities(trained, torch.tensor(pictures.read(file, 28, 1, one))[None], cpu).max().item()
        for one in (rule, other)
    )
    assert abs(expected - wrong) > 1e-3
    _, table = run(file, "--model", "simclr/n10")
    assert table["probability"][0] == pytest.approx(expected, abs=6e-5)


@pytest.mark.usefixtures("classifier")
def test_it_has_the_threads_of_evaluate_because_their_number_changes_the_last_bits(
    folder: Path, in_copy: Path
) -> None:
    change(in_copy / "params.yaml", {"runtime.threads.evaluate": 3})
    run(folder, "--model", "simclr/n10")
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("classifier")
def test_bad_images_are_reported_and_the_others_classified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "05 broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    empty = folder.parent / "empty"
    empty.mkdir()
    long = folder.parent / ("x" * 300)
    failures, table = run(folder, folder.parent / "gone.png", empty, long, "--model", "simclr/n10")
    assert failures == 4
    assert len(table) == 20
    passed, *lines = capsys.readouterr().err.splitlines()
    assert passed.startswith(f"note: {folder}: 1 files are passed over, because they are no images")
    assert passed.endswith(": 1 .txt (such as notes.txt)")
    assert [line.split(":")[1].strip() for line in lines] == [
        str(empty), str(folder / "05 broken.png"), str(folder.parent / "gone.png"), str(long)
    ]  # fmt: skip


@pytest.mark.usefixtures("classifier")
def test_folders_are_searched_as_by_prepare(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "._00.png").write_bytes(b"as macOS writes it beside 00.png")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "00.png").rename(str(folder / "caf") + "\udce9.png")
    elsewhere = folder.rename(folder.parent / "elsewhere")
    folder.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    failures, table = run(folder, "--model", "simclr/n10")
    assert (failures, len(table)) == (2, 19)
    assert capsys.readouterr().err.splitlines() == [
        f"error: {folder}/'linked/caf\\udce9.png': has a name that is not valid UTF-8",
        f"error: {folder}/linked/gone.png: is a broken link",
    ]


@pytest.mark.usefixtures("classifier")
def test_a_path_that_is_not_utf8_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = str(folder / "caf") + "\udce9.png"
    (folder / "00.png").rename(bad)
    failures, table = run(bad, folder / "01.png", folder / "02.png", "--model", "simclr/n10")
    assert (failures, len(table)) == (2, 1)  # 01.png is in the other folder
    assert "caf\\udce9.png': has a name that is not valid UTF-8" in capsys.readouterr().err


@pytest.mark.usefixtures("classifier")
@pytest.mark.parametrize("summary", [{}, {"scratch": {}, "simclr": {}}])
def test_without_labels_there_is_no_classifier_yet(summary: dict[str, dict[str, float]]) -> None:
    put_metrics(METRICS / "summary.json", summary)
    with pytest.raises(InputError, match=r"^metrics/summary\.json: there is no classifier yet"):
        predict.model_file(None)


@pytest.mark.usefixtures("classifier")
def test_without_a_readable_image_nothing_is_written(
    in_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(in_copy / "gone.png"), "--model", "simclr/n10", "--output", "out.csv"]
    assert predict.main(arguments) == 1
    assert not Path("out.csv").exists()
    Path("out.csv").write_text("an older table")
    assert predict.main(arguments) == 1
    assert Path("out.csv").read_text() == "an older table"
    assert "out.csv: not changed, because no image could be read" in capsys.readouterr().err


@pytest.mark.usefixtures("classifier")
def test_a_model_has_several_names() -> None:
    file = Path("models/classifiers/simclr/n10-draw0.safetensors")
    for name in ("simclr/n10", "simclr/n10-draw0", str(file)):
        assert predict.model_file(name) == file
    with pytest.raises(InputError, match=r"^--model simclr/n7: there is no file \S+; available: simclr/n10$"):
        predict.model_file("simclr/n7")


@pytest.mark.usefixtures("in_copy")
def test_without_classifiers_the_message_says_what_to_run() -> None:
    with pytest.raises(InputError, match=r"there are no classifiers yet; run `dvc repro`$"):
        predict.model_file("simclr/n10")


@pytest.mark.usefixtures("classifier")
def test_the_default_model_is_the_best_on_validation_whatever_the_test_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = {
        "scratch": {"n10": {"accuracy": 0.99}},
        "simclr": {"n10": {"accuracy": 0.2}, "n5": {"accuracy": 0.98}},
    }
    validation = {
        "scratch": {"n10": {"finetuned": 0.7}},
        "simclr": {"n10": {"finetuned": 0.9}, "n5": {"finetuned": 0.1}},
    }
    put_metrics(METRICS / "summary.json", summary)
    for method, accuracies in validation.items():
        put_metrics(METRICS / "evaluate" / f"{method}_model.json", {"validation": accuracies})
    put_metrics(METRICS / "data.json", {"validation_labelled": 100})
    assert predict.model_file(None) == Path("models/classifiers/simclr/n10-draw0.safetensors")
    assert capsys.readouterr().err == ""
    of_distilled = {"n10": {"finetuned": 0.9, "distilled": 0.95}, "n5": {"finetuned": 0.1}}
    put_metrics(METRICS / "evaluate" / "simclr_model.json", {"validation": of_distilled})
    distilled = Path("models/distilled/simclr/n10-draw0.safetensors")
    distilled.parent.mkdir(parents=True)
    distilled.write_bytes(b"a model")
    seal()
    assert predict.model_file(None) == predict.model_file("simclr/n10/distilled") == distilled
    put_metrics(METRICS / "evaluate" / "simclr_model.json", {})
    with pytest.raises(InputError, match=r"simclr_model.json: has no accuracy on validation of n10, n5; run"):
        predict.model_file(None)
    # Too few labels to choose by: the first pretrained method, with the most labels.
    put_metrics(METRICS / "data.json", {"validation_labelled": 99})
    put_metrics(METRICS / "evaluate" / "simclr_model.json", {"validation": {"n5": {"finetuned": 1.0}}})
    assert predict.model_file(None) == Path("models/classifiers/simclr/n10-draw0.safetensors")
    assert "validation has 99 labels, too few to choose a model by; taking simclr/n10" in (
        capsys.readouterr().err
    )


@pytest.mark.usefixtures("classifier")
def test_predicting_does_not_need_the_training_images(in_copy: Path, folder: Path) -> None:
    yaml = (in_copy / "params.yaml").read_text()
    yaml = yaml.replace("source: mnist", "source: folder").replace("path: data/raw", "path: data/images")
    (in_copy / "params.yaml").write_text(yaml)
    assert not Path("data/images").exists()
    failures, table = run(folder, "--model", "models/classifiers/simclr/n10-draw0.safetensors")
    assert (failures, len(table)) == (0, 20)


def test_the_table_of_two_classes() -> None:
    table = predict.prediction_table([Path("a")], torch.tensor([[0.25, 0.75]]), ["cat", "dog"])
    assert table.to_dict("records") == [
        {"file": "a", "label": "dog", "probability": 0.75, "label_2": "cat", "probability_2": 0.25}
    ]


def test_a_control_character_in_a_path_reaches_neither_table_nor_terminal(
    classifier: Classifier, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = folder / "a\x1b[2J\r.png"
    bad.write_bytes((folder / "00.png").read_bytes())
    failures, table = run(bad, folder / "00.png", "--model", "simclr/n10")
    assert (failures, len(table)) == (1, 1)
    errors = capsys.readouterr().err
    assert "a\\x1b[2J\\r.png': has a control character in its name" in errors
    assert "\x1b" not in errors


def test_a_name_that_turns_the_text_around_is_printed_with_escapes(
    classifier: Classifier, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gnp.\u202eb.png").write_bytes(b"no image")
    failures, _ = run(folder / "gnp.\u202eb.png", folder / "00.png", "--model", "simclr/n10")
    assert failures == 1
    errors = capsys.readouterr().err
    assert "gnp.\\u202eb.png" in errors
    assert "\u202e" not in errors


def test_the_path_of_the_table_may_be_long(classifier: Classifier, folder: Path) -> None:
    output = folder.joinpath(*["o" * 100] * 5, "out.csv")
    assert predict.main([str(folder / "00.png"), "--model", "simclr/n10", "--output", str(output)]) == 0
    assert output.is_file()


@pytest.mark.parametrize("letters", [250, 300])
def test_a_name_that_is_too_long_is_refused_before_the_work(
    classifier: Classifier, folder: Path, letters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "classify", lambda *_: pytest.fail("images were classified"))
    with pytest.raises(InputError, match=r"^--output o+: cannot be written \(File name too long: "):
        predict.main([str(folder / "00.png"), "--model", "simclr/n10", "--output", "o" * letters])


@pytest.mark.usefixtures("classifier")
def test_another_model_under_the_name_of_this_one_is_refused() -> None:
    file = CLASSIFIERS / "simclr/n10-draw0.safetensors"
    write_classifier(file, Classifier(tiny_encoder(seed=7), 10), CLASSES)
    with pytest.raises(InputError, match=f"^{file}: is not as its stage wrote it"):
        predict.model_file("simclr/n10")
    assert predict.model_file(str(file)) == file  # a file that the user names may be anybody's


@pytest.mark.usefixtures("classifier")
def test_an_output_that_is_no_file_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "classify", lambda *_: pytest.fail("images were classified"))
    os.mkfifo("pipe")
    before = Path("params.yaml").read_bytes()
    for output in ("params.yaml", "dvc.lock", "models/../data/prepared/labels/pool.csv", "metrics"):
        with pytest.raises(InputError, match=f"--output {output}: belongs to the project; name another"):
            predict.main([str(folder / "00.png"), "--model", "simclr/n10", "--output", output])
    assert Path("params.yaml").read_bytes() == before
    for output in ("pipe", str(folder)):
        with pytest.raises(InputError, match=f"--output {output}: is no file"):
            predict.main([str(folder / "00.png"), "--model", "simclr/n10", "--output", output])
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)
