import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_figures_in_the_readme_are_the_committed_ones() -> None:
    summary = json.loads((ROOT / "metrics" / "summary.json").read_text())
    expected = set()
    for method, budgets in summary.items():
        for budget, row in budgets.items():
            gain = f"{100 * row['gain']:+.1f} ± {100 * row['gain_ci95']:.1f}" if "gain" in row else ""
            accuracy = f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_ci95']:.1f}"
            labels = f"{int(budget[1:]):,}"
            expected.add(f"| {labels} | {method} | {accuracy} | {gain} | {100 * row['linear_probe']:.1f} |")
    shown = re.findall(r"^\| [\d,]+ \|.*\|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert set(shown) == expected
