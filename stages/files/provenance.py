"""What the results of a stage were made from (parameters, code and inputs), for the report.

`dvc.lock` holds the same facts, but a report that is opened from disk has to show them without it.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from stages.settings import load

DIGITS = 12  # of each hash in the report


def hashes(stage: str, method: str | None = None) -> dict[str, str]:
    """The SHA-256 by path of each file that a stage declares in dvc.yaml, and of all files in folders.

    A process reads a file again only if it was written to since.
    """
    digests = {}
    for dependency in load.declared_files(stage, method):
        for path in _files(Path(dependency)):
            state = path.stat()
            written = state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino
            digests[str(path)] = _digest(path.absolute(), written)
    return digests


@cache
def _digest(path: Path, written: tuple[int, ...]) -> str:
    """The SHA-256 of a file; `written` changes when the file does (no program can set back its ctime)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made_from(
    stage: str, method: str | None = None, *, inputs: bool = True, hashed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The declared parameters of a stage, one hash of its code, and one hash of each input.

    Args:
        inputs: whether to hash the inputs, which reads all of them.
        hashed: the result of `hashes`, if it was computed before.

    Returns:
        `parameters` (dotted key → value), `code` (hash), `inputs` (path → hash).
    """
    if hashed is None:
        hashed = hashes(stage, method) if inputs else {}
    code, digests = hashlib.sha256(), {}
    for dependency in sorted(load.declared_files(stage, method)):
        if dependency.startswith("stages/"):
            code.update(f"{dependency}\0".encode() + Path(dependency).read_bytes())
        elif inputs:
            digests[dependency] = _combined(Path(dependency), hashed)
    return {
        "parameters": load.declared_values(stage, method),
        "code": code.hexdigest()[:DIGITS],
        "inputs": digests,
    }


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _combined(path: Path, hashed: Mapping[str, str]) -> str:
    """One hash of a file, or of the names and contents of all files in a folder."""
    combined = hashlib.sha256()
    for name, digest in hashed.items():
        file = Path(name)
        if file == path or path in file.parents:
            relative = "" if file == path else str(file.relative_to(path))
            combined.update(f"{relative}\0".encode() + bytes.fromhex(digest))
    return combined.hexdigest()[:DIGITS]
