"""Records: JSON files that state their own SHA-256, and those of small files written with them.

Results in metrics/ are files for git, not folders (`digests`). DVC goes by their size, time and inode, so a
reader that trusted them would write a wrong report from figures that were altered on the disk, or swapped.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.errors import InputError
from stages.files import digests
from stages.files.digests import AGAIN
from stages.files.json_files import read_json, write_json

FILES, OWN = "files", "own_sha256"  # keys of a record


def write_record(path: Path, content: Mapping[str, Any], *files: Path) -> None:
    """Write JSON with its own SHA-256, and with those of `files`, which are complete."""
    of_files = {FILES: {file.as_posix(): digests.sha256(file) for file in files}} if files else {}
    recorded = {**content, **of_files}
    write_json(path, {**recorded, OWN: _digest(path, recorded)})


def read_record(path: Path, model: type[BaseModel] | None = None) -> Any:
    """Read a record; its SHA-256 is in the content no more.

    Args:
        model: as for `read_json`.

    Raises:
        InputError: it is not valid JSON, does not fit the model, or is not as its stage wrote it.
    """
    content = read_json(path, model)
    stated = content.pop(OWN, None) if isinstance(content, dict) else None
    if stated is None:
        raise InputError(
            f"{path}: has no {OWN}, as where an earlier version of the code wrote it; "
            f"run `rm {path} && dvc repro` {AGAIN}"
        )
    if stated != _digest(path, content):
        raise _altered(path, f"path and content have another SHA-256 than its key {OWN} says")
    return content


def read_recorded(path: Path, record: Path, model: type[BaseModel]) -> Any:
    """Read a JSON file that a record names; raises as `read_json` and `require_recorded`."""
    content = read_json(path, model)
    require_recorded(record, path)
    return content


def require_recorded(record: Path, *files: Path) -> None:
    """Compare files with the record of the stage that wrote them.

    Args:
        files: those that are read; none: all that the record names.

    Raises:
        InputError: the record or a file is not as its stage wrote it.
        FileNotFoundError: a file is missing.
    """
    stated = read_record(record).get(FILES, {})
    for name in [file.as_posix() for file in files] or stated:
        if stated.get(name) != digests.sha256(Path(name)):
            raise _altered(Path(name), f"its SHA-256 is not that in {record}")


def _digest(path: Path, content: Mapping[str, Any]) -> str:
    """The path is part of it, so that one method's figures are never taken for another's."""
    return hashlib.sha256(json.dumps([path.as_posix(), content], sort_keys=True).encode()).hexdigest()


def _altered(path: Path, how: str) -> InputError:
    return InputError(f"{path}: is not as its stage wrote it ({how}); run `rm {path} && dvc repro` {AGAIN}")
