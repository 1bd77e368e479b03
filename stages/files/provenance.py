"""What a stage's results were made from: parameters, code and inputs, for the report.

DVC knows the same from `dvc.lock`; but a page that is opened from disk must say it by itself.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.settings import load

DIGITS = 12  # of each hash; enough to tell two apart


def hashes(stage: str, method: str | None = None) -> dict[str, str]:
    """The SHA-256 of each file that a stage declares, also below a folder that it declares, by path."""
    found = {}
    for dependency in load.declared_files(stage, method):
        for file in _files(Path(dependency)):
            with file.open("rb") as opened:
                found[str(file)] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def made_from(
    stage: str, method: str | None = None, *, inputs: bool = True, hashed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The declared parameters, one hash of all code and one of each input of a stage.

    Args:
        inputs: whether they are hashed, which reads them all.
        hashed: their `hashes`, where they were taken before.

    Returns:
        `parameters` (dotted key → value), `code` (hash), `inputs` (path → hash).
    """
    if hashed is None:
        hashed = hashes(stage, method) if inputs else {}
    code, found = hashlib.sha256(), {}
    for dependency in sorted(load.declared_files(stage, method)):
        if dependency.startswith("stages/"):
            code.update(f"{dependency}\0".encode() + Path(dependency).read_bytes())
        elif inputs:
            found[dependency] = _whole(Path(dependency), hashed)
    return {
        "parameters": load.declared_values(stage, method),
        "code": code.hexdigest()[:DIGITS],
        "inputs": found,
    }


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _whole(path: Path, hashed: Mapping[str, str]) -> str:
    """One hash of a file, or of all names and files below a folder."""
    whole = hashlib.sha256()
    for name, digest in hashed.items():
        file = Path(name)
        if file == path or path in file.parents:
            inside = "" if file == path else str(file.relative_to(path))
            whole.update(f"{inside}\0".encode() + bytes.fromhex(digest))
    return whole.hexdigest()[:DIGITS]
