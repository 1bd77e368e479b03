"""Downloads a dataset that is not on the machine: from Debian's package first, then by torchvision."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from stages.errors import InputError
from stages.files.whole import whole_file
from stages.prepare.mnist_files import DEBIAN, Dataset

TIMEOUT = 600  # seconds for one command


def fetch(dataset: Dataset, path: Path) -> None:
    """Download the files of a dataset into a subfolder of `path`.

    Raises:
        InputError: every download failed; the message has the reason of each failure.
    """
    failures = []
    for download in (from_debian, from_torchvision):
        try:
            download(dataset, path)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            failures.append(" ".join(_reason(error).split()))
        else:
            return
    package = dataset.python_package or f"{dataset.debian_package} (Debian)"
    raise InputError(
        f"{path}: {dataset.title}'s four .gz files are missing, and downloading them failed "
        f"({'; '.join(failures)}); install the package {package}, or copy the files into this folder"
    )


def from_debian(dataset: Dataset, path: Path) -> None:
    """Extract the files from Debian's package, without installing it.

    Raises:
        FileNotFoundError: the dataset has no Debian package, or the system is not Debian.
        subprocess.SubprocessError: a command failed.
    """
    apt_get, dpkg_deb = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if dataset.debian_package is None or apt_get is None or dpkg_deb is None:
        raise FileNotFoundError("no Debian package")
    with tempfile.TemporaryDirectory() as folder:
        download = [apt_get, "download", dataset.debian_package]
        try:
            _run(download, folder)
        except subprocess.SubprocessError:
            if os.geteuid() != 0:  # only root can update the package lists
                raise
            _run([apt_get, "update"], folder)
            _run(download, folder)
        for package in Path(folder).glob("*.deb"):
            _run([dpkg_deb, "-x", package.name, "."], folder)
        extracted = Path(folder) / DEBIAN.relative_to("/") / dataset.title.lower()
        for file in sorted(extracted.glob("*.gz")):
            with whole_file(path / extracted.name / file.name) as temporary:
                shutil.copyfile(file, temporary)


def from_torchvision(dataset: Dataset, path: Path) -> None:
    """Download the files from torchvision's mirrors.

    Raises:
        RuntimeError, OSError: no mirror has the files.
    """
    from torchvision import datasets  # imported late: it takes seconds and needs a writable temporary folder

    getattr(datasets, dataset.torchvision)(str(path), download=True)


def _run(command: list[str], folder: str) -> None:
    subprocess.run(  # noqa: S603 (a fixed command, without a shell)
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=TIMEOUT
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        message = error.stderr.strip() or f"exit status {error.returncode}"
        return f"{Path(error.cmd[0]).name} {error.cmd[1]}: {message}"
    return str(error)
