import json
from typing import Any

from benchmarks.readme import HEADING, README, table, updated
from tests.conftest import ROOT

SUMMARY = json.loads((ROOT / "metrics" / "summary.json").read_text())
ROW: dict[str, Any] = {"accuracy": 0.9, "accuracy_ci95": 0.01, "linear_probe": 0.8}


def test_the_figures_in_the_readme_are_the_committed_ones() -> None:
    text = (ROOT / README).read_text()
    assert HEADING in text
    assert updated(text, SUMMARY) == text, "run `make readme`"


def test_the_table_has_a_row_for_each_budget_and_method() -> None:
    gain = {"gain": 0.05, "gain_ci95": 0.02}
    summary = {"scratch": {"nall": ROW, "n10": ROW, "n1000": ROW}, "simclr": {"nall": ROW | gain}}
    summary["simclr"] |= {"n10": ROW, "n1000": ROW}
    rows = table(summary).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 10"] * 2 + ["| 1,000"] * 2 + ["| all"] * 2
    assert rows[0] == "| 10 | scratch | 90.0 ± 1.0 |  | 80.0 |"
    assert rows[-1] == "| all | simclr | 90.0 ± 1.0 | +5.0 ± 2.0 | 80.0 |"


def test_an_old_table_is_replaced_and_the_rest_kept() -> None:
    summary = {"scratch": {"n10": ROW}}
    old = f"before\n\n{HEADING}| 1 | old |\n| 2 | old |\n\nafter | x |\n"
    assert updated(old, summary) == f"before\n\n{table(summary)}\nafter | x |\n"
