"""The seconds that a stage needs to hash what it reads of other stages: the price of not trusting a disk."""

import hashlib
import time
from pathlib import Path

from ruamel.yaml import YAML

from stages.files.digests import files_in

LOCK = Path("dvc.lock")
OF_STAGES = ("data/prepared", "data/baselines", "data/predictions", "models", "metrics")


def hashing_seconds(stage: str) -> float | None:
    """Hash each file once, as the stage does; None: it reads nothing of another stage, or is no stage.

    Args:
        stage: its name in dvc.lock.
    """
    files = read_files(stage)
    started = time.perf_counter()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    return time.perf_counter() - started if files else None


def read_files(stage: str) -> list[Path]:
    """The files of other stages that a stage reads, by dvc.lock."""
    stages = YAML(typ="safe").load(LOCK)["stages"] if LOCK.exists() else {}
    paths = [Path(dep["path"]) for dep in stages.get(stage, {}).get("deps", [])]
    of_stages = [path for path in paths if path.as_posix().startswith(OF_STAGES)]
    return [file for path in of_stages for file in ([path] if path.is_file() else files_in(path))]
