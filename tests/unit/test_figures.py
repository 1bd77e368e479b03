import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.compare import charts
from stages.compare import figures as tables_of
from stages.compare.__main__ import show
from stages.compare.figures import Evaluations
from stages.compare.statistics import estimate, paired_gain
from stages.errors import InputError
from stages.files.json_files import write_json
from stages.files.paths import METRICS
from stages.files.tables import write_table

METHODS, BUDGETS, PROTOCOLS = ["scratch", "simclr"], ["n10", "nall"], ["finetuned", "linear", "knn"]
LABELS = {"n10": 10, "nall": 900}


@pytest.fixture
def evaluations() -> Evaluations:
    """Four draws of two methods: the draws differ much, the methods little."""
    generator = np.random.default_rng(0)
    easy = {budget: generator.uniform(0.5, 0.8, 4) for budget in BUDGETS}

    def draws(method: str, budget: str, protocol: str) -> list[dict[str, Any]]:
        gain = 0.1 * (method == "simclr") + 0.01 * PROTOCOLS.index(protocol)
        rows = []
        for base in easy[budget]:
            accuracy = float(base + gain + generator.normal(0, 0.002))
            rows.append({
                "accuracy": accuracy, "recall_macro": accuracy - 0.01, "nll": 1 - accuracy,
                "recall": [accuracy, None, 0.5],
            })  # fmt: skip
        return rows

    return {
        method: {budget: {p: draws(method, budget, p) for p in PROTOCOLS} for budget in BUDGETS}
        for method in METHODS
    }


def accuracies(evaluations: Evaluations, method: str, budget: str, protocol: str) -> list[float]:
    return [draw["accuracy"] for draw in evaluations[method][budget][protocol]]


def test_summary_is_method_budget_metric(evaluations: Evaluations) -> None:
    summary = tables_of.summary(evaluations)
    control = {"accuracy", "accuracy_ci95", "recall_macro", "linear_probe"}
    assert summary.keys() == set(METHODS)
    for method, budgets in summary.items():
        assert budgets.keys() == set(BUDGETS)
        for figures in budgets.values():
            assert figures.keys() == control | ({"gain", "gain_ci95"} if method == "simclr" else set())
            assert all(value == round(value, 4) for value in figures.values())
    assert not any("." in key for budgets in summary.values() for key in (*summary, *budgets))


@pytest.mark.parametrize("budget", BUDGETS)
def test_summary_has_the_means_over_draws(evaluations: Evaluations, budget: str) -> None:
    figures = tables_of.summary(evaluations)["simclr"][budget]
    finetuned = estimate(accuracies(evaluations, "simclr", budget, "finetuned"))
    assert figures["accuracy"] == round(finetuned.mean, 4)
    assert figures["accuracy_ci95"] == round(finetuned.ci95, 4)
    assert figures["recall_macro"] == pytest.approx(finetuned.mean - 0.01, abs=1e-4)
    linear = np.mean(accuracies(evaluations, "simclr", budget, "linear"))
    assert figures["linear_probe"] == pytest.approx(linear, abs=1e-4)


def test_gain_is_paired_over_the_control_of_the_same_budget(evaluations: Evaluations) -> None:
    figures = tables_of.summary(evaluations)["simclr"]["n10"]
    expected = paired_gain(
        accuracies(evaluations, "simclr", "n10", "finetuned"),
        accuracies(evaluations, "scratch", "n10", "finetuned"),
    )
    assert figures["gain"] == round(expected.mean, 4)
    assert figures["gain_ci95"] == round(expected.ci95, 4)
    assert figures["gain"] == pytest.approx(0.1, abs=0.01)
    assert figures["gain_ci95"] < figures["accuracy_ci95"] / 10  # the draws' own spread is gone


def test_without_the_control_there_is_no_gain(evaluations: Evaluations) -> None:
    del evaluations["scratch"]
    assert "gain" not in tables_of.summary(evaluations)["simclr"]["n10"]
    assert tables_of.label_efficiency(evaluations, LABELS)["gain"].isna().all()


def test_one_draw_has_figures_without_intervals(evaluations: Evaluations) -> None:
    alone = {
        method: {budget: {name: draws[:1] for name, draws in of.items()} for budget, of in budgets.items()}
        for method, budgets in evaluations.items()
    }
    figures = tables_of.summary(alone)["simclr"]["n10"]
    assert figures.keys() == {"accuracy", "gain", "recall_macro", "linear_probe"}
    assert tables_of.details(alone)["simclr"]["n10"]["knn"]["recall"][2] == {"mean": 0.5}
    table = tables_of.label_efficiency(alone, LABELS)
    assert table["accuracy_ci95"].isna().all()
    assert (table["draws"] == 1).all()


def test_details_have_an_interval_for_every_figure(evaluations: Evaluations) -> None:
    details = tables_of.details(evaluations)
    assert details["simclr"]["n10"].keys() == set(PROTOCOLS)
    knn = details["simclr"]["n10"]["knn"]
    expected = estimate(accuracies(evaluations, "simclr", "n10", "knn"))
    assert knn["accuracy"] == {"mean": round(expected.mean, 4), "ci95": round(expected.ci95, 4)}
    own = {"accuracy", "recall_macro", "nll", "recall"}
    assert knn.keys() == own | {"accuracy_gain", "recall_macro_gain"}
    assert details["scratch"]["n10"]["knn"].keys() == own  # the control gains nothing over itself
    assert knn["recall"] == [knn["accuracy"], None, {"mean": 0.5, "ci95": 0.0}]


def test_macro_recalls_gain_is_paired_by_draw(evaluations: Evaluations) -> None:
    recalls = {
        method: [draw["recall_macro"] for draw in evaluations[method]["n10"]["finetuned"]]
        for method in ("simclr", "scratch")
    }
    for number, draw in enumerate(evaluations["simclr"]["n10"]["finetuned"]):
        draw["recall_macro"] = recalls["simclr"][number] = recalls["scratch"][number] + 0.1 * (1 + number)
    found = tables_of.details(evaluations)["simclr"]["n10"]["finetuned"]["recall_macro_gain"]
    expected = paired_gain(recalls["simclr"], recalls["scratch"])
    assert found == {"mean": round(expected.mean, 4), "ci95": round(expected.ci95, 4)}
    assert found["mean"] == 0.25


def test_label_efficiency_is_one_row_per_protocol_method_and_budget(evaluations: Evaluations) -> None:
    table = tables_of.label_efficiency(evaluations, LABELS)
    assert list(table.columns) == [
        "protocol", "method", "labels", "accuracy", "accuracy_ci95", "gain", "gain_ci95", "draws",
    ]  # fmt: skip
    keys = [tuple(row) for row in table[["protocol", "method", "labels"]].itertuples(index=False)]
    assert keys == [(p, m, n) for p in sorted(PROTOCOLS) for m in METHODS for n in (10, 900)]
    assert (table["draws"] == 4).all()
    assert table["gain"].isna().equals(table["method"] == "scratch")
    for _, row in table[table["method"] == "simclr"].iterrows():
        budget = next(name for name, labels in LABELS.items() if labels == row["labels"])
        values = accuracies(evaluations, "simclr", budget, row["protocol"])
        control = accuracies(evaluations, "scratch", budget, row["protocol"])
        assert row["accuracy"] == round(estimate(values).mean, 4)
        assert row["accuracy_ci95"] == round(estimate(values).ci95, 4)
        assert row["gain"] == round(paired_gain(values, control).mean, 4)
        assert row["gain_ci95"] == round(paired_gain(values, control).ci95, 4)


def test_tables_of_all_methods_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, method in enumerate(METHODS):
        table = pd.DataFrame({"budget": ["n10", "n100", "nall"], "share": [i, i + 1, i + 2]})
        write_table(METRICS / "evaluate" / f"{method}.csv", table)
    gathered = tables_of.gathered(METHODS, "evaluate/{method}.csv", ["n10", "nall"])
    assert gathered.to_dict("list") == {
        "method": ["scratch", "scratch", "simclr", "simclr"],
        "budget": ["n10", "nall", "n10", "nall"],
        "share": ["0", "2", "1", "3"],  # as they are written, for a class may be called 001 or NA
    }
    assert len(tables_of.gathered(["simclr"], "evaluate/{method}.csv")) == 3
    write_json(METRICS / "evaluate" / "simclr.csv", {})
    with pytest.raises((InputError, KeyError)):
        tables_of.gathered(["simclr"], "evaluate/{method}.csv", ["n10"])


def test_equal_figures_are_equal_pictures(tmp_path: Path, evaluations: Evaluations) -> None:
    table = tables_of.label_efficiency(evaluations, LABELS)
    for name in ("a.png", "b.png"):
        charts.write_efficiency(table, tmp_path / name)
    first = (tmp_path / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert first == (tmp_path / "b.png").read_bytes()
    charts.write_efficiency(table.assign(accuracy=table["accuracy"] - 0.1), tmp_path / "c.png")
    assert first != (tmp_path / "c.png").read_bytes()


def test_summary_is_shown_in_percent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    evaluations: Evaluations,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    summary = tables_of.summary(evaluations)
    write_json(METRICS / "summary.json", summary)
    details = tables_of.details(evaluations)
    details["simclr"]["n10"]["finetuned"]["recall_macro"]["ci95"] = 0.1234
    write_json(METRICS / "details.json", details)
    for method, collapse in (("scratch", None), ("simclr", "step 7: all features are alike")):
        write_json(METRICS / "pretrain" / f"{method}.json", {"collapse": collapse})
    show()
    *table, warning = capsys.readouterr().out.splitlines()
    assert warning == "warning: pretrain simclr: collapse at step 7: all features are alike"
    printed = "\n".join(table)
    assert "…" not in printed  # nothing is cut off
    lines = [line for line in printed.splitlines() if "scratch" in line or "simclr" in line]
    rows = [line for line in lines if "over scratch" not in line]
    assert len(rows) == 4
    figures = summary["simclr"]["n10"]
    row = next(line for line in rows if "simclr" in line and " 10 " in line)
    assert f"{100 * figures['accuracy']:.2f} ± {100 * figures['accuracy_ci95']:.2f}" in row
    assert f"{100 * figures['gain']:+.2f} ± {100 * figures['gain_ci95']:.2f}" in row
    assert f"{100 * figures['recall_macro']:.2f} ± 12.34" in row
    assert not any("+" in line for line in rows if "scratch" in line)
    assert " all " in rows[-1]  # the largest budget last
    assert math.isfinite(figures["accuracy"])


def test_recall_is_one_row_per_method_budget_and_class_with_test_images(
    evaluations: Evaluations,
) -> None:
    found = tables_of.details(evaluations)
    table = tables_of.recall(found, LABELS, ["a", "b", "c"])
    assert len(table) == 2 * len(METHODS) * len(BUDGETS)
    (first, second) = table[(table["method"] == "simclr") & (table["labels"] == 900)].to_dict("records")
    accuracy = estimate(accuracies(evaluations, "simclr", "nall", "finetuned"))
    assert (first["class"], first["recall"]) == ("a", pytest.approx(accuracy.mean, abs=1e-4))
    assert first["recall_ci95"] == pytest.approx(accuracy.ci95, abs=1e-4)
    assert (second["class"], second["recall"], second["recall_ci95"]) == ("c", 0.5, 0)
    assert tables_of.recall({}, LABELS, []).empty


def test_recall_of_one_draw_has_no_interval(evaluations: Evaluations) -> None:
    one = {m: {b: {p: d[:1] for p, d in ps.items()} for b, ps in bs.items()} for m, bs in evaluations.items()}
    assert tables_of.recall(tables_of.details(one), LABELS, ["a", "b", "c"])["recall_ci95"].isna().all()
