"""Record what the README's lines for own images gave in a project: `make init`, `make views`, `make repro`.

    python -m benchmarks.own_lines NAME PROJECT

PROJECT is a clone in which they were run to the end. Its figures become rows of the quality tables (see
`benchmarks.quality`) with the dataset `NAME, by init`, and the four statements are printed.
"""

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality import RESULTS, record, state, tables_of
from stages.errors import InputError, reported
from stages.settings import load
from stages.settings.values import FOLDER


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the project's metrics and replace the rows of its dataset."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_lines")
    parser.add_argument("name", metavar="NAME", help="of the images, such as satellite")
    parser.add_argument("project", metavar="PROJECT", type=Path, help="a clone in which the lines were run")
    options = parser.parse_args(arguments)
    results, name = RESULTS.absolute(), f"{options.name}, by init"
    with contextlib.chdir(options.project):
        settings = load.validated(load.read(load.PARAMS))
        if settings.data.source != FOLDER:
            raise InputError(f"{options.project}: its images are {settings.data.source}, no folder")
        tables = tables_of(name, settings)
    record(results, tables)
    state(name, tables)


if __name__ == "__main__":
    with reported():
        main()
