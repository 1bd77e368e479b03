"""What the unit tests share: real digits, tiny encoders, parameters made from params.yaml."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.files.digests import write_digests
from stages.files.json_files import write_json
from stages.files.paths import (
    CLASSIFIERS,
    COMPARED,
    DATA,
    DATA_CLASSES,
    DETAILS,
    DISTILLED,
    ENCODERS,
    IMAGES,
    LABEL_EFFICIENCY,
    LABELS,
    PREPARED,
    SUMMARY,
    TEST,
)  # fmt: skip
from stages.files.records import read_record, write_record
from stages.networks.build import build
from stages.networks.encoder import Declaration, Encoder
from stages.prepare.mnist import Source
from stages.prepare.mnist import read as read_source
from stages.settings import load
from stages.settings.schema import Views
from stages.training.machine import Machine
from stages.training.randomness import Stream

ROOT = Path(__file__).parents[1]
torch.set_num_threads(1)
# Stages in the process of a test have no worker processes: what a test replaces is replaced in them too.
os.environ["HEADSTART_WORKERS"] = "1"

RECORDS = {PREPARED: (DATA, DATA_CLASSES), COMPARED: (SUMMARY, DETAILS, LABEL_EFFICIENCY)}
STILL: dict[str, Any] = dict.fromkeys(Views.model_fields, 0) | {
    "crop": (1, 1), "scale": (1, 1), "reflect": False,
}  # fmt: skip
MOVING: dict[str, Any] = {
    "crop": (0.4, 1.0), "flip": 0.5,
    "rotate": 25, "scale": (0.7, 1.4), "shear": 15, "shift": 0.15, "elastic": 2.0, "thickness": 0.5,
    "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grayscale": 0.2, "blur": 1.0,
    "gamma": 1.0, "dim": 0.4, "noise": 0.1, "erase": 0.4,
}  # fmt: skip


def impossible_shape() -> bytes:
    """A safetensors file of one tensor without values, a side of which is longer than a 64-bit integer."""
    header = b'{"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}'
    return len(header).to_bytes(8, "little") + header


def strengths(**changes: Any) -> Views:
    """Views that change nothing, but for `changes`."""
    return Views(**{**STILL, **changes})


def tiny_encoder(name: str = "residual", seed: int = 0, **changes: Any) -> Encoder:
    """A narrow encoder for 28 × 28 digits, normalised for them."""
    declaration = {"name": name, "width": 8, "channels": 1, "image_size": 28, **changes}
    encoder = build(Declaration(**declaration), Stream.of(seed, "tiny").generator())
    channels = encoder.declaration.channels
    encoder.set_statistics(torch.full((channels,), 0.13), torch.full((channels,), 0.31))
    return encoder


def assert_gradients_reach_every_parameter(learner: torch.nn.Module, images: Tensor, stream: Stream) -> None:
    """One batch through a pretraining method: no part of it is left out of the loss."""
    learner(images, torch.arange(len(images)), stream).backward()
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def finding_first(*folders: Path) -> dict[str, str]:
    """An environment in which Python finds modules in these folders first, then where it does here."""
    here = filter(None, [os.environ.get("PYTHONPATH")])  # an empty entry would be the working directory
    return os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, folders), *here])}


def seal(*folders: Path) -> None:
    """Write the digests of folders: what a test has put there counts as written by a stage.

    folders: by default all of prepared data and models, and the files that `prepare` and `compare` record.
    """
    models = [folder for kind in (ENCODERS, CLASSIFIERS, DISTILLED) for folder in kind.glob("*")]
    for folder in folders or (IMAGES, LABELS, TEST, *models):
        if folder.is_dir():
            write_digests(folder)
    if not folders:
        record_metrics()


def record_metrics() -> None:
    """Write the records of `prepare` and `compare` for those of their files that are there."""
    for record, files in RECORDS.items():
        if written := [file for file in files if file.exists()]:
            write_record(record, read_record(record) if record.exists() else {}, *written)


def put_metrics(path: Path, content: Any) -> None:
    """Write a JSON file of metrics with the digest that its readers want."""
    if path in {file for files in RECORDS.values() for file in files}:
        write_json(path, content)
        record_metrics()
    else:
        write_record(path, content)


def put(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key of a nested mapping."""
    *parents, last = dotted.split(".")
    for parent in parents:
        raw = raw[parent]
    raw[last] = value


def drop(raw: dict[str, Any], dotted: str) -> None:
    """Remove a dotted key of a nested mapping."""
    *parents, last = dotted.split(".")
    for parent in parents:
        raw = raw[parent]
    del raw[last]


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Source]:
    folder = tmp_path_factory.mktemp("mnist")
    return read_source("mnist", folder / "nothing here", folder)


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Source]:
    folder = tmp_path_factory.mktemp("fashion-mnist")
    return read_source("fashion-mnist", folder / "nothing here", folder)


@pytest.fixture(scope="session")
def digits(mnist: tuple[Source, Source]) -> tuple[Tensor, Tensor]:
    """The first 512 training digits: uint8 (512, 1, 28, 28) and their labels. Not to be written to."""
    train, _ = mnist
    return torch.from_numpy(train.images[:512].copy()), torch.from_numpy(train.labels[:512].copy())


@pytest.fixture(scope="session")
def floats(digits: tuple[Tensor, Tensor]) -> Tensor:
    """The digits as views and encoders take them: float in [0, 1]."""
    return digits[0].float() / 255


@pytest.fixture
def cpu() -> Machine:
    return Machine(torch.device("cpu"), "fp32")


def committed(path: str | Path) -> str:
    """A file as it is in git's HEAD: experiments and benchmarks change it in the working tree."""
    command = ["git", "show", f"HEAD:./{Path(path).as_posix()}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return (result.stdout if result.returncode == 0 else (ROOT / path).read_bytes()).decode()


def demonstration() -> dict[str, Any]:
    """The content of params.yaml, set to MNIST: the file may have been changed to somebody's own images."""
    content: dict[str, Any] = load.read(ROOT / "params.yaml")
    content["methods"] = ["scratch", "autoencoder", "simclr"]
    threads = {"pretrain": 2, "finetune": 1, "evaluate": 1}
    content["runtime"] = {"device": "auto", "precision": "auto", "threads": threads}
    content["data"] |= {"source": "mnist", "train_limit": None, "test_limit": None, "validation": 5000}
    content["encoder"] = {"name": "residual", "width": 32}
    content["views"] |= {"pretrain": "digits", "finetune": "digits"}
    content["finetune"] |= {"budgets": [10, 100, 1000], "draws": 4}
    return content


@pytest.fixture
def raw() -> dict[str, Any]:
    """The content of params.yaml, with three known methods, a small pool and budgets that fit it."""
    content = demonstration()
    content["data"] |= {"train_limit": 1000, "validation": 100}  # a pool of 900
    content["finetune"]["budgets"] = [10, 900, "all"]
    return content


@pytest.fixture
def in_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with copies of params.yaml and dvc.yaml."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:  # noqa: D105
        return (Path.touch, (self.path,))
