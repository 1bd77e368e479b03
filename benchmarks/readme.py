"""The README's table of results, written from metrics/summary.json.

    python -m benchmarks.readme            writes the table of the working tree
    python -m benchmarks.readme --check    exits 1 if the committed README does not have the committed figures

The check reads both files from git's HEAD, because a run on another machine changes the figures in the
working tree.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.compare.figures import control_first, in_percent
from stages.compare.written_figures import Summary
from stages.errors import InputError, reported
from stages.files.paths import COMPARED, SUMMARY
from stages.files.records import read_recorded
from stages.files.whole import whole_file

README = Path("README.md")
HEADING = """| labels | method | finetuned, % | gain over scratch, points | distilled, % | linear probe, % |
|---:|---|---:|---:|---:|---:|
"""


def main(arguments: Sequence[str]) -> int:
    """Write or check the table; the exit status."""
    if arguments not in ([], ["--check"]):
        raise InputError("usage: python -m benchmarks.readme [--check]")
    if arguments:
        current = is_current(committed(README), json.loads(committed(SUMMARY)))
        if not current:
            print(
                f"{README}: the committed table does not have the figures of the committed {SUMMARY}; "
                "run `make readme` and commit both",
                file=sys.stderr,
            )
        return 0 if current else 1
    text = updated(README.read_text(encoding="utf-8"), read_recorded(SUMMARY, COMPARED, Summary))
    with whole_file(README) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0


def table(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown, by budget and then by method, in percent."""
    lines = []
    for budget in next(iter(summary.values())):
        for method in control_first(summary):
            row = summary[method][budget]
            labels = budget[1:] if budget == "nall" else f"{int(budget[1:]):,}"
            accuracy = in_percent(row, "accuracy")
            gain = in_percent(row, "gain", sign="+")
            distilled = in_percent(row, "distilled")
            probe = in_percent(row, "linear_probe")
            cells = (labels, method, accuracy, gain, distilled, probe)
            lines.append((budget, f"| {' | '.join(cells)} |\n"))
    lines.sort(key=lambda line: (line[0] == "nall", len(line[0]), line[0]))
    return HEADING + "".join(line for _, line in lines)


def updated(text: str, summary: Mapping[str, Any]) -> str:
    """The README's text with the table replaced.

    Raises:
        InputError: the text has no such table.
    """
    if HEADING not in text:
        raise InputError(f"{README}: has no table that begins with {HEADING.splitlines()[0]!r}")
    return re.sub(re.escape(HEADING) + r"(\|.*\n)*", lambda _: table(summary), text)


def is_current(text: str, summary: Mapping[str, Any]) -> bool:
    """Whether the table in the README's text has the figures of the summary."""
    return updated(text, summary) == text


def committed(path: Path) -> str:
    """A file's content in git's HEAD.

    Raises:
        InputError: git has no such file.
    """
    command = ["git", "show", f"HEAD:./{path.as_posix()}"]
    result = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 (no shell)
    if result.returncode:
        reason = " ".join(result.stderr.decode(errors="replace").split())
        raise InputError(f"{path}: cannot be read from git ({reason})")
    return result.stdout.decode()


if __name__ == "__main__":
    with reported():
        raise SystemExit(main(sys.argv[1:]))
