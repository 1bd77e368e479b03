"""A named experiment, run by DVC: `experiments/NAME.yaml` holds what differs from params.yaml.

    python -m benchmarks.experiment NAME [OPTION …]

such as `python -m benchmarks.experiment fashion-mnist --queue`. The file has dotted keys, such as
`data.source: fashion-mnist`. They are checked together with params.yaml, then handed to
`dvc exp run` as `-S KEY=VALUE`, with the options behind them; the command is printed first. As always with
`dvc exp run`, the workspace is left with the experiment's parameters and results.
"""

import copy
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.errors import InputError, reported
from stages.settings import load
from stages.settings.findings import unknown

FOLDER = Path("experiments")


def main(name: str, options: list[str]) -> int:
    """Check the experiment and run it; DVC's exit status."""
    raw = load.read(load.PARAMS)
    changes = read(name)
    checked(name, raw, changes)
    command = ["dvc", "exp", "run", *arguments(raw, changes), *options]
    print(shlex.join(command), flush=True)
    return subprocess.run(command, check=False, env=environment()).returncode  # noqa: S603 (no shell)


def names() -> list[str]:
    """The experiments that there are."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def file_of(name: str) -> Path:
    """Where an experiment stands."""
    return FOLDER / f"{name}.yaml"


def read(name: str) -> dict[str, Any]:
    """An experiment's values by their dotted keys, not validated.

    Raises:
        InputError: there is no such experiment, or its file holds something else.
    """
    if name not in names():
        raise InputError(f"{FOLDER}: {unknown(name, names())}")
    changes = load.read(file_of(name))
    if not isinstance(changes, dict):
        raise InputError(f"{file_of(name)}: should hold dotted keys and values, such as 'seed: 2'")
    for key, value in changes.items():
        if not isinstance(key, str) or isinstance(value, dict):
            raise InputError(f"{file_of(name)}: {key} is {value!r}; allowed: one value for a dotted key")
    return changes


def checked(name: str, raw: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The content of params.yaml with the changes, after validating it without and with them."""
    load.validated(raw)
    changed = applied(raw, changes)
    try:
        load.validated(changed)
    except InputError as error:
        lines = (line.removeprefix(f"{load.PARAMS}: ") for line in error.args)
        raise InputError(*(f"{file_of(name)}: {line}" for line in lines)) from None
    return changed


def applied(raw: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of a nested mapping with values set by their dotted keys, missing sections made."""
    changed = copy.deepcopy(raw)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = changed
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
            section = section[parent]
        section[last] = value
    return changed


def arguments(raw: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    """The changes as DVC's `-S KEY=VALUE`; `++` before a key that params.yaml does not have yet."""
    found = []
    for key, value in changes.items():
        section: Any = raw
        for part in key.split("."):
            section = section.get(part, ...) if isinstance(section, dict) else ...
        found += ["-S", f"{'++' if section is ... else ''}{key}={literal(value)}"]
    return found


def literal(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, which is DVC's for `-S`."""
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value)
    reserved = str(value).lower() in ("null", "true", "false", "nan", "inf")
    return str(value) if plain and not reserved else json.dumps(value, ensure_ascii=False)


def environment() -> dict[str, str]:
    """The environment with this Python's own `dvc` and `python` first on PATH."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


if __name__ == "__main__":
    with reported():
        if len(sys.argv) < 2:
            raise InputError(
                f"usage: python -m benchmarks.experiment NAME [OPTION …]; NAME: {', '.join(names())}"
            )
        raise SystemExit(main(sys.argv[1], sys.argv[2:]))
