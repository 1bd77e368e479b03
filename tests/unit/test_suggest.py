"""`stages.tools.suggest`: the table and the contact sheet of images to label, from a small pool on disk."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.errors import InputError
from stages.files import weights
from stages.files.packs import write_array
from stages.files.paths import IMAGES, LABELS, METRICS, encoder_file
from stages.files.tables import read_table, write_table
from stages.prepare import labels_table
from stages.settings import load
from stages.tools import selection, suggest
from tests.conftest import put_metrics, seal, tiny_encoder
from tests.pipeline.conftest import change

LABELLED = 30
SEED = 1  # as in params.yaml


@pytest.fixture
def pool(in_copy: Path, digits: tuple[Tensor, Tensor]) -> Path:
    """Two hundred digits, of which the first thirty have a label, and three encoders."""
    images, labels = digits
    change(in_copy / "params.yaml", {"runtime.precision": "fp32"})  # the same on all CPUs
    write_array(IMAGES / "pool.npy", images[:200].numpy())
    index = pd.DataFrame({"id": [f"train-{row:05}" for row in range(200)], "source": "mnist/train"})
    write_table(IMAGES / "pool.csv", index)
    labelled = index[["id"]].assign(label=labels[:200].numpy()).iloc[:LABELLED]
    write_table(LABELS / "pool.csv", labelled)
    put_metrics(METRICS / "data.json", {"validation_labelled": 100})
    for method, knn in (("scratch", 0.7), ("autoencoder", 0.8), ("simclr", 0.9)):
        put_metrics(METRICS / "pretrain" / f"{method}.json", {"knn": knn})
        encoder = tiny_encoder(seed=round(10 * knn))
        weights.write_encoder(encoder_file(method, 0), encoder)
    seal()
    return in_copy


@pytest.mark.parametrize("strategy", selection.STRATEGIES)
@pytest.mark.usefixtures("pool")
def test_the_table_has_images_without_a_label_in_order(strategy: str, digits: tuple[Tensor, Tensor]) -> None:
    suggest.main(["--count", "12", "--strategy", strategy])
    table = pd.read_csv("suggestions.csv")
    assert list(table.columns) == ["rank", "id", "source"]
    assert list(table["rank"]) == list(range(1, 13))
    rows = [int(name.removeprefix("train-")) for name in table["id"]]
    assert min(rows) >= LABELLED
    encoder = tiny_encoder(seed=9).eval()  # that of simclr, the best by kNN
    with torch.no_grad():
        features = encoder(digits[0][:200].float() / 255).float()
    unit = torch.nn.functional.normalize(features - features.mean(0), dim=1).numpy()
    expected = selection.STRATEGIES[strategy](unit, np.arange(LABELLED), 12, SEED)
    assert len(set(rows) & set(expected.tolist())) >= 10  # the number of threads changes the last bits


@pytest.mark.usefixtures("pool")
def test_the_sheet_shows_the_images(digits: tuple[Tensor, Tensor]) -> None:
    suggest.main(["--count", "12"])
    sheet = np.asarray(Image.open("suggestions.png").convert("L"))
    row = int(pd.read_csv("suggestions.csv")["id"][11].removeprefix("train-"))
    left, top = suggest.GAP + (suggest.THUMBNAIL + suggest.GAP), 2 * suggest.GAP + suggest.THUMBNAIL
    top += 2 * suggest.CAPTION  # the twelfth: second row, second column
    thumbnail = sheet[top : top + suggest.THUMBNAIL, left : left + suggest.THUMBNAIL]
    picture = Image.fromarray(digits[0][row, 0].numpy()).resize((suggest.THUMBNAIL, suggest.THUMBNAIL))
    assert np.array_equal(thumbnail, np.asarray(picture))


@pytest.mark.usefixtures("pool")
def test_labels_can_be_ignored_and_a_method_chosen() -> None:
    suggest.main(["--count", "200", "--ignore-labels", "--method", "autoencoder", "--output", "all.csv"])
    assert len(pd.read_csv("all.csv")) == 200


@pytest.mark.parametrize("count", ["0", "-3", "171"])
@pytest.mark.usefixtures("pool")
def test_an_impossible_count_is_refused_before_anything_is_written(count: str) -> None:
    with pytest.raises(InputError, match=f"^--count is {count}; allowed: 1 to 170, the images without a"):
        suggest.main(["--count", count])
    assert not Path("suggestions.csv").exists()


@pytest.mark.parametrize("option", ["--output", "--sheet"])
@pytest.mark.usefixtures("pool")
def test_an_output_that_is_no_file_is_refused_before_the_work(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggest, "normalised_features", None)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InputError, match=f"^{option} {name}: is no file; name another$"):
            suggest.main(["--count", "3", option, name])
    with pytest.raises(InputError, match=f"^{option} x+: cannot be written .File name too long"):
        suggest.main(["--count", "3", option, "x" * 300])


@pytest.mark.usefixtures("pool")
def test_a_fully_labelled_pool_is_refused() -> None:
    index = read_table(IMAGES / "pool.csv", "id")
    write_table(LABELS / "pool.csv", index[["id"]].assign(label=1))
    seal()
    with pytest.raises(InputError, match=r"^all images of the pool have a label; --ignore-labels"):
        suggest.main(["--count", "5"])


@pytest.mark.usefixtures("pool")
def test_a_pool_that_does_not_match_its_table_is_refused(digits: tuple[Tensor, Tensor]) -> None:
    write_array(IMAGES / "pool.npy", digits[0][:201].numpy())
    seal()
    with pytest.raises(InputError, match=r"pool\.npy: holds 201 images; its table has 200 rows"):
        suggest.main(["--count", "5"])


@pytest.mark.usefixtures("pool")
def test_the_encoder_is_chosen_on_validation_only_where_it_has_enough_labels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = load.validated(load.read(load.PARAMS))
    put_metrics(METRICS / "pretrain" / "autoencoder.json", {"knn": 0.95})
    assert suggest.best_method(settings) == "autoencoder"
    assert capsys.readouterr().out == ""
    put_metrics(METRICS / "data.json", {"validation_labelled": 99})
    put_metrics(METRICS / "pretrain" / "autoencoder.json", {"knn": 0.1})
    assert suggest.best_method(settings) == "autoencoder"
    assert "validation has 99 labels, too few to choose an encoder by; taking that of autoencoder" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("pool")
def test_a_folder_that_is_not_the_prepared_one_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suggest, "normalised_features", None)
    change(Path("params.yaml"), {"data.source": "folder", "data.path": "other"})
    index = read_table(IMAGES / "pool.csv", "id", text=True)
    paths = [f"images/{number}.png" for number in range(200)]
    write_table(LABELS / "pool.csv", index[["id"]].assign(label="", file=paths))
    seal()
    with pytest.raises(InputError, match=r"has images/0\.png, which is not in data\.path, other; run `dvc"):
        suggest.main(["--count", "3"])


@pytest.mark.parametrize("table", [None, "File;Split;label\n", "label,file\ncat,kept.png\n"])
@pytest.mark.usefixtures("pool")
def test_suggestions_from_a_folder_can_be_appended_to_its_table_as_they_are(table: str | None) -> None:
    change(Path("params.yaml"), {"data.source": "folder", "data.path": "my images"})
    Path("my images/a, b").mkdir(parents=True)
    if table is not None:
        Path("my images/labels.csv").write_text(table)
    index = read_table(IMAGES / "pool.csv", "id", text=True)
    paths = [f"my images/a, b/{number}.png" for number in range(200)]
    write_table(LABELS / "pool.csv", index[["id"]].assign(label="", file=paths))
    seal()
    suggest.main(["--count", "3"])
    with Path("my images/labels.csv").open("a") as file:
        file.write(Path("suggestions.csv").read_text())
    files = [path.removeprefix("my images/") for path in paths]
    read = labels_table.read(Path("my images/labels.csv"), [*files, "kept.png"])
    assert read.errors == []
    assert sum(row is not None for row in read.rows[:200]) == 3
    # Filled in, and with a line of the same file already there.
    if table is None:
        filled = Path("suggestions.csv").read_text().replace('.png",', '.png",dog')
        Path("my images/labels.csv").write_text(Path("suggestions.csv").read_text() + filled)
        assert labels_table.read(Path("my images/labels.csv"), files).labels == {"dog"}


@pytest.mark.usefixtures("pool")
def test_an_encoder_of_another_method_is_refused() -> None:
    encoder_file("simclr", 0).write_bytes(encoder_file("scratch", 0).read_bytes())
    with pytest.raises(InputError, match=r"simclr/run0\.safetensors: is not as its stage wrote it"):
        suggest.main(["--count", "3", "--method", "simclr"])
    assert not Path("suggestions.csv").exists()
