"""Mutated files: reading one gives a clear error or the content of the file, never a traceback."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.errors import InputError
from stages.files import weights
from stages.files.json_files import write_json
from stages.files.packs import read_pack, write_array
from stages.files.paths import IMAGES, LABELS
from stages.tasks.classifier import Classifier, read_classifier, write_classifier
from stages.tasks.labels import read_labels, read_pool_labels
from tests.conftest import tiny_encoder

MUTATIONS = 200


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Make one to three random changes: to a bit or byte, or remove, insert, repeat or truncate bytes."""
    for _ in range(rng.randint(1, 3)):
        # Half of the changes are in the header, where the format is most sensitive.
        end = len(content) if rng.random() < 0.5 else min(len(content), 400)
        at = rng.randrange(max(1, end))
        size = rng.choice([1, 1, 2, 8, 100])
        kind = rng.choice(["bit", "byte", "remove", "insert", "repeat", "cut", "digit"])
        piece = content[at : at + size]
        if kind == "bit":
            piece = bytes([piece[0] ^ 1 << rng.randrange(8)]) + piece[1:] if piece else piece
        elif kind == "byte":
            piece = rng.randbytes(len(piece))
        elif kind == "remove":
            piece = b""
        elif kind == "insert":
            piece += rng.choice([b",", b"\n", b'"', b".", b"-1", b"\0", b"\xff", b"1e3", b"nan", b" "])
        elif kind == "repeat":
            piece *= 2
        elif kind == "digit":
            piece = str(rng.randrange(10**size if size < 9 else 10**30)).encode()
        content = content[:at] + piece + (b"" if kind == "cut" else content[at + size :])
    return content


def outcomes(path: Path, name: str, check: Callable[[Path], bool]) -> tuple[int, int]:
    """The numbers of mutations that raise an `InputError`, and that are read correctly.

    Args:
        path: the file to mutate; it is restored at the end.
        name: of the random stream.
        check: reads the file and returns whether the result is correct.
    """
    original, refused, read = path.read_bytes(), 0, 0
    for number in range(MUTATIONS):
        content = mutate(original, random.Random(f"{name} {number}"))  # noqa: S311
        path.write_bytes(content)
        try:
            assert check(path), f"mutation {number} of {name} gives a wrong result"
            read += 1
        except InputError as error:
            refused += 1
            for line in error.args:
                assert str(path) in line, f"mutation {number}: {line}"
                assert "\n" not in line
        except OSError as error:
            raise AssertionError(f"mutation {number}: {error!r}") from error
    path.write_bytes(original)
    return refused, read


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", ["cnn", "residual", "vit"])
def test_mutated_weights(name: str, tmp_path: Path) -> None:
    path, encoder = tmp_path / "simclr.safetensors", tiny_encoder(name)
    weights.write_encoder(path, encoder)
    state = encoder.state_dict()

    def check(path: Path) -> bool:
        restored = weights.read_encoder(path)
        same = restored.declaration == encoder.declaration
        return same and all(torch.equal(value, state[key]) for key, value in restored.state_dict().items())

    refused, _ = outcomes(path, name, check)
    assert refused > 0.9 * MUTATIONS


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_mutated_classifiers(tmp_path: Path) -> None:
    path, classes = tmp_path / "n10-draw0.safetensors", ["cat", "dog", "hen"]
    classifier = Classifier(tiny_encoder(), 3)
    write_classifier(path, classifier, classes)
    state = classifier.state_dict()

    def check(path: Path) -> bool:
        restored, names = read_classifier(path)
        same = restored.encoder.declaration == classifier.encoder.declaration and names == classes
        return same and all(torch.equal(value, state[key]) for key, value in restored.state_dict().items())

    refused, _ = outcomes(path, "classifier", check)
    assert refused > 0.9 * MUTATIONS


def test_mutated_image_packs(tmp_path: Path) -> None:
    path = tmp_path / "pool.npy"
    write_array(path, np.random.default_rng(0).integers(0, 256, (7, 1, 9, 9), dtype=np.uint8))

    def check(path: Path) -> bool:
        images = read_pack(path)
        # The pixels are the last bytes of the file, as many as the shape says.
        return images.tobytes() == path.read_bytes()[-images.size :] and images.size > 0

    refused, read = outcomes(path, "pack", check)
    assert refused > 0.2 * MUTATIONS
    assert read > 0.1 * MUTATIONS  # a changed pixel cannot be detected


SHAPES: list[tuple[int, ...]] = [
    (), (0,), (0, 1, 9, 9), (7, 0, 9, 9), (7, 1, 9, 0), (7, 1, 9, 9), (567, 1, 1, 1), (1, 567), (6, 1, 9, 9),
    (8, 1, 9, 9), (-7, 1, 9, 9), (-7, -1, 9, 9), (2**40, 2**40, 1, 1), (7, 1, 9, 9, 1),
]  # fmt: skip
KINDS = ["|u1", "|i1", "|b1", "<u2", "<f4", "|S1", "|V1", "|O"]


@pytest.mark.filterwarnings("ignore:overflow")  # NumPy multiplies the sizes of the shape
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_pack_with_a_valid_header_that_does_not_fit_its_content(
    kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "pool.npy"
    body = np.random.default_rng(0).integers(0, 256, 567, dtype=np.uint8).tobytes()
    header = str({"descr": kind, "fortran_order": False, "shape": shape})
    with path.open("wb") as file:
        file.write(
            b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n" + body
        )
    if kind == "|u1" and shape in [(7, 1, 9, 9), (567, 1, 1, 1)]:
        images = read_pack(path)
        assert images.shape == shape
        assert images.tobytes() == body
    else:
        with pytest.raises(InputError, match=r"pool\.npy: ") as refused:
            read_pack(path)
        assert "\n" not in str(refused.value)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of a small pool, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    ids = [f"train-{number:05}" for number in range(40)]
    for folder, column in ((IMAGES, "source"), (LABELS, "label")):
        rows = [f"{name},{number % 10}" for number, name in enumerate(ids)]
        folder.mkdir(parents=True)
        (folder / "pool.csv").write_text("\n".join([f"id,{column}", *rows]) + "\n")
    write_json(LABELS / "classes.json", [str(number) for number in range(10)])


@pytest.mark.usefixtures("pool")
def test_mutated_label_tables() -> None:
    ids = [f"train-{number:05}" for number in range(40)]

    def check(path: Path) -> bool:
        labels, classes = read_pool_labels()
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if any(row.values())]
        expected = torch.tensor([int(row["label"] or -1) for row in rows])
        return torch.equal(labels, expected) and [row["id"] for row in rows] == ids and len(classes) == 10

    refused, read = outcomes(LABELS / "pool.csv", "table", check)
    assert refused > 0.5 * MUTATIONS
    assert read > 0  # such as a changed label


@pytest.mark.usefixtures("pool")
def test_mutated_class_names() -> None:
    def check(path: Path) -> bool:
        _, classes = read_pool_labels()
        return bool(classes == json.loads(path.read_text()))

    refused, read = outcomes(LABELS / "classes.json", "classes", check)
    assert refused > 0.2 * MUTATIONS
    assert read > 0  # such as a changed name


def test_mutated_validation_labels(tmp_path: Path) -> None:
    path = tmp_path / "validation.csv"
    path.write_text("id,split,label\n" + "".join(f"train-{n:05},validation,{n % 10}\n" for n in range(40)))

    def check(path: Path) -> bool:
        labels: Tensor = read_labels(path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if any(row.values())]
        return labels.tolist() == [int(row["label"] or -1) for row in rows]

    refused, read = outcomes(path, "validation", check)
    assert refused > 0.2 * MUTATIONS
    assert read > 0
