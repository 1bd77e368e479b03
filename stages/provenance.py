"""What a stage's results were made from: parameters, code and inputs, for the report.

DVC knows the same from `dvc.lock`; but a page that is opened from disk must say it by itself.
"""

import hashlib
from pathlib import Path
from typing import Any

from stages import params

DIGITS = 12  # of each hash; enough to tell two apart


def made_from(stage: str, method: str | None = None, *, inputs: bool = True) -> dict[str, Any]:
    """The declared parameters, one hash of all code and one of each input of a stage.

    Args:
        inputs: whether they are hashed, which reads them all.

    Returns:
        `parameters` (dotted key → value), `code` (hash), `inputs` (path → hash).
    """
    code, found = hashlib.sha256(), {}
    for dependency in sorted(params.declared_files(stage, method)):
        if dependency.startswith("stages/"):
            code.update(f"{dependency}\0".encode() + Path(dependency).read_bytes())
        elif inputs:
            found[dependency] = _hash(Path(dependency))
    return {
        "parameters": params.declared_values(stage, method),
        "code": code.hexdigest()[:DIGITS],
        "inputs": found,
    }


def _hash(path: Path) -> str:
    """The SHA-256 of a file, or of all names and files below a folder."""
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                name = str(file.relative_to(path)) if path.is_dir() else ""
                whole.update(f"{name}\0".encode() + hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()[:DIGITS]
