"""What the results of a stage were made from (parameters, code and inputs), for the report.

`dvc.lock` holds the same facts, but a report that is opened from disk has to show them without it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages import changed_code
from stages.errors import InputError
from stages.files import digests
from stages.settings import load

DIGITS = 12  # of each hash in the report


def hashes(stage: str, method: str | None = None) -> dict[str, str]:
    """The SHA-256 by path of each file that a stage declares in dvc.yaml, and of all files in folders.

    Raises:
        InputError: a file in a folder is not as the stage that made it has written it.
    """
    hashed: dict[str, str] = {}
    for dependency in map(Path, load.declared_files(stage, method)):
        if dependency.is_dir():
            of_folder = {str(file): digests.sha256(file) for file in digests.files_in(dependency)}
            digests.require_as_written(dependency, of_folder)
            hashed |= of_folder
        else:
            hashed[str(dependency)] = digests.sha256(dependency)
    return hashed


def state(stage: str, method: str | None = None, raw: Any = None) -> dict[str, Any]:
    """The parameters that a stage declares, by dotted key, and the SHA-256 of the files, by path.

    Args:
        raw: the content of params.yaml that the stage uses; None: read the file.
    """
    files = {
        str(file): digests.sha256(file)
        for path in map(Path, load.declared_files(stage, method))
        for file in (digests.files_in(path) if path.is_dir() else [path])
    }
    return load.declared_values(stage, method, raw) | files


def require_unchanged(stage: str, method: str | None, before: Mapping[str, Any]) -> None:
    """Check that no parameter or file has changed since `before`, for DVC hashes the files after the stage.

    Raises:
        InputError: names what has changed.
    """
    now = state(stage, method)
    changed = sorted(
        {name for name in before.keys() | now if before.get(name) != now.get(name)}
        | (changed_code() & now.keys())  # written to between its import and `before`
    )
    if changed:
        named = f"{stage} {method}" if method else stage
        raise InputError(
            f"{named}: params.yaml, code or data changed while it ran ({', '.join(changed[:3])}); "
            "no result was written; run `dvc repro` again"
        )


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
    given = [name for name in sorted(load.declared_files(stage, method)) if not _is_code(name)]
    return {
        "parameters": load.declared_values(stage, method),
        "code": code(stage, method),
        "inputs": {name: _combined(Path(name), hashed) for name in given} if inputs else {},
    }


def code(stage: str, method: str | None = None) -> str:
    """One hash of all the code that a stage declares in dvc.yaml."""
    digest = hashlib.sha256()
    for name in filter(_is_code, sorted(load.declared_files(stage, method))):
        digest.update(f"{name}\0".encode() + Path(name).read_bytes())
    return digest.hexdigest()[:DIGITS]


def _is_code(name: str) -> bool:
    return name.startswith("stages/")


def _combined(path: Path, hashed: Mapping[str, str]) -> str:
    """One hash of a file, or of the names and contents of all files in a folder."""
    combined = hashlib.sha256()
    for name, digest in hashed.items():
        file = Path(name)
        if file == path or path in file.parents:
            relative = "" if file == path else str(file.relative_to(path))
            combined.update(f"{relative}\0".encode() + bytes.fromhex(digest))
    return combined.hexdigest()[:DIGITS]
