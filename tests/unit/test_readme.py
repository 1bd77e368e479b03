import json
import re
from typing import Any

import pandas as pd

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


def test_the_transfer_table_has_the_figures_of_its_file() -> None:
    text = (ROOT / README).read_text().partition("| used on | encoder |")[2].partition("\n\n")[0]
    said = [
        [float(number) for number in re.findall(r"[\d.]+", line.split("|", 3)[3])]
        for line in text.splitlines()[2:]
    ]
    rows = pd.read_csv(ROOT / "benchmarks/results/transfer.csv").set_index(["dataset", "method", "labels"])
    finetuned, linear = (rows[rows["protocol"] == name] for name in ("finetuned", "linear"))
    expected = [
        [
            float(f"{100 * figure:.1f}")
            for labels in (10, 100, 1000)
            for figure in (
                *finetuned.loc[(dataset, method, labels), ["accuracy", "ci95"]],
                linear.loc[(dataset, method, labels), "accuracy"],
            )
        ]
        for dataset in ("mnist", "fashion-mnist")
        for method in ("scratch", "imported", "imported, then 1 epoch", "simclr")
    ]
    assert said == expected


def test_the_rates_on_a_gpu_are_those_of_their_file() -> None:
    measured = pd.read_csv(ROOT / "benchmarks/results/encoders.csv")
    expected = {
        (row.image_size, row.batch_size, row.images_per_second, int(row.memory_mb), f"{row.gemm_share:.1%}")
        for row in measured[measured["memory_mb"].notna()].itertuples()
    }
    lines = (ROOT / README).read_text().partition("| encoder | images | batch |")[2].partition("\n\n")[0]
    for line in lines.splitlines()[2:]:
        _, size, batch, rate, memory, share = (cell.strip() for cell in line.strip("|").split("|"))
        numbers = (int(text.replace(",", "")) for text in (size.split()[0], batch, rate, memory))
        assert (*numbers, share.replace(" ", "")) in expected, line


def test_the_large_experiments_figures_are_those_of_their_files() -> None:
    text = (ROOT / README).read_text().partition("| | 10 labels | 100 | 1,000 |")[2].partition("\n\n")[0]
    keys = ["experiment", "labels", "protocol", "method"]
    accuracies, gains = (
        pd.read_csv(ROOT / f"benchmarks/results/{name}.csv", dtype={"labels": str}).set_index(keys)
        for name in ("quality", "quality_gains")
    )
    found = [re.findall(r"[+-]?[\d.]+", line.split("|", 2)[2]) for line in text.splitlines()[2:]]
    for name, figures in zip(("mnist-large", "fashion-mnist-large"), found, strict=True):
        expected = []
        for labels in ("10", "100", "1000"):
            key = (name, labels, "finetuned", "simclr")
            (accuracy, its_ci95), (gain, ci95) = accuracies.loc[key], gains.loc[key]
            expected += [f"{100 * accuracy:.1f}", f"{100 * its_ci95:.1f}"]
            expected += [f"{100 * gain:+.1f}", f"{100 * ci95:.1f}"]
        assert figures == expected, name
