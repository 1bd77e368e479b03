"""Run a named experiment with DVC: `experiments/NAME.yaml` contains what differs from params.yaml.

    python -m stages.tools.experiment NAME [OPTION …]

For example `python -m stages.tools.experiment fashion-mnist --queue`. The file has dotted keys, such as
`data.source: fashion-mnist`. They are validated together with params.yaml and passed to `dvc exp run` as
`-S KEY=VALUE`, followed by the options. The command is printed before it runs. As always with `dvc exp run`,
the workspace has the experiment's parameters and results afterwards.
"""

import argparse
import copy
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.errors import InputError, reported
from stages.settings import load
from stages.settings.findings import unknown

FOLDER = Path("experiments")


def main(arguments: Sequence[str]) -> int:
    """Validate the experiment and run it; returns DVC's exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.experiment",
        description="Run a named experiment with `dvc exp run`.",
        epilog=f"experiments in {FOLDER}/: {', '.join(names()) or 'none'}",
    )
    parser.add_argument("name", metavar="NAME", help=f"the experiment in {FOLDER}/NAME.yaml")
    parser.add_argument(
        "options",
        metavar="OPTION",
        nargs=argparse.REMAINDER,
        help="options for `dvc exp run`, such as --queue",
    )
    parsed = parser.parse_args(arguments)
    raw = load.read(load.PARAMS)
    changes = read(parsed.name)
    checked(parsed.name, raw, changes)
    command = ["dvc", "exp", "run", *overrides(raw, changes), *parsed.options]
    print(shlex.join(command), flush=True)
    return subprocess.run(command, check=False, env=environment()).returncode  # noqa: S603 (no shell)


def names() -> list[str]:
    """The names of all experiments."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def file_of(name: str) -> Path:
    """The file of an experiment."""
    return FOLDER / f"{name}.yaml"


def read(name: str) -> dict[str, Any]:
    """An experiment's values by their dotted keys, not validated.

    Raises:
        InputError: there is no such experiment, or its file does not contain dotted keys and values.
    """
    if name not in names():
        raise InputError(f"{FOLDER}: {unknown(name, names())}")
    changes = load.read(file_of(name))
    if not isinstance(changes, dict):
        raise InputError(f"{file_of(name)}: should contain dotted keys and values, such as 'seeds.draws: 2'")
    for key, value in changes.items():
        if not isinstance(key, str) or isinstance(value, dict):
            raise InputError(f"{file_of(name)}: {key} is {value!r}; allowed: one value per dotted key")
    return changes


def checked(name: str, raw: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The content of params.yaml with an experiment's changes, validated.

    Args:
        raw: the content of params.yaml.
        changes: values by their dotted keys.

    Raises:
        InputError: params.yaml is invalid without the changes, or with them; the second kind of finding
            names the experiment's file.
    """
    load.validated(raw)
    changed = applied(raw, changes)
    try:
        load.validated(changed)
    except InputError as error:
        lines = (line.removeprefix(f"{load.PARAMS}: ") for line in error.args)
        raise InputError(*(f"{file_of(name)}: {line}" for line in lines)) from None
    return changed


def applied(raw: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of a nested mapping with values set by their dotted keys; missing sections are created."""
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


def overrides(raw: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    """The changes as arguments of DVC, `-S KEY=VALUE`; a key that params.yaml does not have gets a `++`."""
    arguments = []
    for key, value in changes.items():
        section: Any = raw
        for part in key.split("."):
            section = section.get(part, ...) if isinstance(section, dict) else ...
        arguments += ["-S", f"{'++' if section is ... else ''}{key}={literal(value)}"]
    return arguments


def literal(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, which DVC uses for `-S`."""
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value)
    reserved = str(value).lower() in ("null", "true", "false", "nan", "inf")
    return str(value) if plain and not reserved else json.dumps(value, ensure_ascii=False)


def environment() -> dict[str, str]:
    """The environment, with the `dvc` and `python` of this Python's installation first on PATH."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


if __name__ == "__main__":
    with reported():
        raise SystemExit(main(sys.argv[1:]))
