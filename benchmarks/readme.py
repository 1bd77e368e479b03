"""The README's table of results, written from metrics/summary.json.

python -m benchmarks.readme
"""

import re
from pathlib import Path
from typing import Any

from stages.compare.__main__ import SUMMARY
from stages.compare.figures import control_first, in_percent
from stages.errors import reported
from stages.files.json_files import read_json
from stages.files.whole import whole_file

README = Path("README.md")
HEADING = """| labels | method | finetuned, % | gain over scratch, points | linear probe, % |
|---:|---|---:|---:|---:|
"""


def table(summary: dict[str, Any]) -> str:
    """The summary as Markdown, by budget and then by method, in percent."""
    lines = []
    for budget in next(iter(summary.values())):
        for method in control_first(summary):
            row = summary[method][budget]
            labels = budget[1:] if budget == "nall" else f"{int(budget[1:]):,}"
            accuracy = in_percent(row, "accuracy", digits=1)
            gain = in_percent(row, "gain", sign="+", digits=1)
            probe = in_percent(row, "linear_probe", digits=1)
            lines.append((budget, f"| {labels} | {method} | {accuracy} | {gain} | {probe} |\n"))
    lines.sort(key=lambda line: (line[0] == "nall", len(line[0]), line[0]))
    return HEADING + "".join(line for _, line in lines)


def updated(text: str, summary: dict[str, Any]) -> str:
    """The README's text with the table replaced."""
    return re.sub(re.escape(HEADING) + r"(\|.*\n)*", lambda _: table(summary), text)


if __name__ == "__main__":
    with reported():
        text = updated(README.read_text(encoding="utf-8"), read_json(SUMMARY))
        with whole_file(README) as temporary:
            temporary.write_text(text, encoding="utf-8")
