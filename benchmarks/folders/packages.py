"""Packages of public registries: a known file, fetched by the registry's own program."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from stages.errors import InputError


class Package(NamedTuple):
    """A file of a package registry.

    Attributes:
        file: its name.
        sha256: of its content.
        command: what fetches it into the working directory.
    """

    file: str
    sha256: str
    command: list[str]


def npm(name: str, version: str, sha256: str) -> Package:
    """A package of npm's registry."""
    command = ["npm", "pack", f"{name}@{version}", "--silent"]
    return Package(f"{name}-{version}.tgz", sha256, command)


def wheel(name: str, version: str, sha256: str) -> Package:
    """A package of the Python package index."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{name}=={version}"]
    return Package(f"{name.replace('-', '_')}-{version}-py3-none-any.whl", sha256, command)


def debian(name: str, version: str, sha256: str) -> Package:
    """A package of Debian for all architectures."""
    file = f"{name}_{version.replace(':', '%3a')}_all.deb"
    return Package(file, sha256, ["apt-get", "download", "--quiet", f"{name}={version}"])


def fetched(package: Package, folder: Path) -> Path:
    """The file of a package in a folder; it is fetched if it is not there.

    Raises:
        InputError: it cannot be fetched, or its content is not the one that is known.
    """
    file = folder / package.file
    if not file.exists():
        program, *arguments = package.command
        if shutil.which(program) is None:
            raise InputError(f"{program}: is not installed; it fetches {package.file}")
        result = subprocess.run(  # noqa: S603 (no shell)
            [program, *arguments], cwd=folder, check=False, capture_output=True, text=True
        )
        if result.returncode or not file.exists():
            raise InputError(f"{package.file}: could not be fetched", *result.stderr.splitlines()[-5:])
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise InputError(f"{file}: its SHA-256 is {digest}; {package.sha256} is expected")
    return file
