import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.compare import charts
from stages.compare import figures as figures_of
from stages.compare.figures import Evaluations
from stages.compare.statistics import estimate, paired_gain
from stages.compare.terminal import show
from stages.errors import InputError
from stages.files.json_files import write_json
from stages.files.paths import METRICS
from stages.files.tables import write_table

METHODS, BUDGETS, PROTOCOLS = ["scratch", "simclr"], ["n10", "nall"], ["finetuned", "linear", "knn"]
LABELS = {"n10": 10, "nall": 900}


@pytest.fixture
def evaluations() -> Evaluations:
    """Four draws of two methods; the draws differ more than the methods do."""
    generator = np.random.default_rng(0)
    base = {budget: generator.uniform(0.5, 0.8, 4) for budget in BUDGETS}

    def draws(method: str, budget: str, protocol: str) -> list[dict[str, Any]]:
        gain = 0.1 * (method == "simclr") + 0.01 * PROTOCOLS.index(protocol)
        rows = []
        for of_draw in base[budget]:
            accuracy = float(of_draw + gain + generator.normal(0, 0.002))
            rows.append({
                "accuracy": accuracy, "recall_macro": accuracy - 0.01, "nll": 1 - accuracy,
                "recall": [accuracy, None, 0.5],
            })  # fmt: skip
        return rows

    return {
        method: {budget: {p: draws(method, budget, p) for p in PROTOCOLS} for budget in BUDGETS}
        for method in METHODS
    }


def first_draw(evaluations: Evaluations, times: int) -> Evaluations:
    """The first draw of everything, repeated."""
    return {
        method: {
            budget: {protocol: draws[:1] * times for protocol, draws in protocols.items()}
            for budget, protocols in budgets.items()
        }
        for method, budgets in evaluations.items()
    }


def accuracies(evaluations: Evaluations, method: str, budget: str, protocol: str) -> list[float]:
    return [draw["accuracy"] for draw in evaluations[method][budget][protocol]]


def test_summary_is_method_budget_metric(evaluations: Evaluations) -> None:
    summary = figures_of.summary(evaluations)
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
    figures = figures_of.summary(evaluations)["simclr"][budget]
    finetuned = estimate(accuracies(evaluations, "simclr", budget, "finetuned"))
    assert figures["accuracy"] == round(finetuned.mean, 4)
    assert figures["accuracy_ci95"] == round(finetuned.ci95, 4)
    assert figures["recall_macro"] == pytest.approx(finetuned.mean - 0.01, abs=1e-4)
    linear = np.mean(accuracies(evaluations, "simclr", budget, "linear"))
    assert figures["linear_probe"] == pytest.approx(linear, abs=1e-4)


def test_gain_is_paired_over_the_control_of_the_same_budget(evaluations: Evaluations) -> None:
    figures = figures_of.summary(evaluations)["simclr"]["n10"]
    expected = paired_gain(
        accuracies(evaluations, "simclr", "n10", "finetuned"),
        accuracies(evaluations, "scratch", "n10", "finetuned"),
    )
    assert figures["gain"] == round(expected.mean, 4)
    assert figures["gain_ci95"] == round(expected.ci95, 4)
    assert figures["gain"] == pytest.approx(0.1, abs=0.01)
    assert figures["gain_ci95"] < figures["accuracy_ci95"] / 10  # pairing removes the spread of the draws


def test_distilled_is_compared_with_finetuned_where_it_was_done(evaluations: Evaluations) -> None:
    finetuned = evaluations["simclr"]["n10"]["finetuned"]
    for method in METHODS:
        draws = [dict(draw) for draw in evaluations[method]["n10"]["finetuned"]]
        for number, draw in enumerate(draws):
            draw["accuracy"] += 0.01 * (1 + number)
        evaluations[method]["n10"]["distilled"] = draws
    summary = figures_of.summary(evaluations)
    row = summary["simclr"]["n10"]
    expected = paired_gain([0.01, 0.02, 0.03, 0.04], [0.0] * 4)
    assert row["distilled_gain"] == round(expected.mean, 4) == 0.025
    assert row["distilled_gain_ci95"] == round(expected.ci95, 4)
    mean = np.mean([draw["accuracy"] for draw in finetuned]) + 0.025
    assert row["distilled"] == pytest.approx(mean, abs=1e-4)
    assert not [name for name in summary["simclr"]["nall"] if "distilled" in name]
    table = figures_of.label_efficiency(evaluations, LABELS)
    assert list(table[table["protocol"] == "distilled"]["labels"]) == [10, 10]


def test_without_the_control_there_is_no_gain(evaluations: Evaluations) -> None:
    del evaluations["scratch"]
    assert "gain" not in figures_of.summary(evaluations)["simclr"]["n10"]
    assert figures_of.label_efficiency(evaluations, LABELS)["gain"].isna().all()


def test_one_draw_has_figures_without_intervals(evaluations: Evaluations) -> None:
    one = first_draw(evaluations, 1)
    figures = figures_of.summary(one)["simclr"]["n10"]
    assert figures.keys() == {"accuracy", "gain", "recall_macro", "linear_probe"}
    assert figures_of.details(one)["simclr"]["n10"]["knn"]["recall"][2] == {"mean": 0.5}
    table = figures_of.label_efficiency(one, LABELS)
    assert table[["accuracy_ci95", "gain_ci95"]].isna().all(axis=None)
    assert (table["draws"] == 1).all()
    assert figures_of.recall(figures_of.details(one), LABELS, ["a", "b", "c"])["recall_ci95"].isna().all()


def test_equal_draws_have_the_figures_of_one(evaluations: Evaluations) -> None:
    one, equal = first_draw(evaluations, 1), first_draw(evaluations, 4)
    assert figures_of.summary(equal) == figures_of.summary(one)
    assert figures_of.details(equal) == figures_of.details(one)
    table = figures_of.label_efficiency(equal, LABELS)
    assert table[["accuracy_ci95", "gain_ci95"]].isna().all(axis=None)
    assert (table["draws"] == 4).all()


def test_the_interval_of_draws_that_differ_is_never_rounded_to_zero(evaluations: Evaluations) -> None:
    for number, draw in enumerate(evaluations["simclr"]["n10"]["finetuned"]):
        draw["accuracy"] = 0.9 + 1e-6 * number
    assert figures_of.summary(evaluations)["simclr"]["n10"]["accuracy_ci95"] == 0.0001
    details = figures_of.details(evaluations)["simclr"]["n10"]["finetuned"]
    assert details["accuracy"] == {"mean": 0.9, "ci95": 0.0001}


def test_details_have_an_interval_for_every_figure(evaluations: Evaluations) -> None:
    details = figures_of.details(evaluations)
    assert details["simclr"]["n10"].keys() == set(PROTOCOLS)
    knn = details["simclr"]["n10"]["knn"]
    expected = estimate(accuracies(evaluations, "simclr", "n10", "knn"))
    assert knn["accuracy"] == {"mean": round(expected.mean, 4), "ci95": round(expected.ci95, 4)}
    metrics = {"accuracy", "recall_macro", "nll", "recall"}
    assert knn.keys() == metrics | {"accuracy_gain", "recall_macro_gain"}
    assert details["scratch"]["n10"]["knn"].keys() == metrics  # the control has no gain over itself
    assert knn["recall"] == [knn["accuracy"], None, {"mean": 0.5}]  # the last is equal in all draws


def test_macro_recalls_gain_is_paired_by_draw(evaluations: Evaluations) -> None:
    recalls = {
        method: [draw["recall_macro"] for draw in evaluations[method]["n10"]["finetuned"]]
        for method in ("simclr", "scratch")
    }
    for number, draw in enumerate(evaluations["simclr"]["n10"]["finetuned"]):
        draw["recall_macro"] = recalls["simclr"][number] = recalls["scratch"][number] + 0.1 * (1 + number)
    gain = figures_of.details(evaluations)["simclr"]["n10"]["finetuned"]["recall_macro_gain"]
    expected = paired_gain(recalls["simclr"], recalls["scratch"])
    assert gain == {"mean": round(expected.mean, 4), "ci95": round(expected.ci95, 4)}
    assert gain["mean"] == 0.25


def test_label_efficiency_is_one_row_per_protocol_method_and_budget(evaluations: Evaluations) -> None:
    table = figures_of.label_efficiency(evaluations, LABELS)
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


def test_figures_of_all_methods_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, method in enumerate(METHODS):
        table = pd.DataFrame({"budget": ["n10", "n100", "nall"], "share": [i, i + 1, i + 2]})
        write_table(METRICS / "evaluate" / f"{method}.csv", table)
    gathered = figures_of.gathered(METHODS, "evaluate/{method}.csv", ["n10", "nall"])
    assert gathered.to_dict("list") == {
        "method": ["scratch", "scratch", "simclr", "simclr"],
        "budget": ["n10", "nall", "n10", "nall"],
        "share": ["0", "2", "1", "3"],  # as text, because a class may be called 001 or NA
    }
    assert len(figures_of.gathered(["simclr"], "evaluate/{method}.csv")) == 3
    write_json(METRICS / "evaluate" / "simclr.csv", {})
    with pytest.raises((InputError, KeyError)):
        figures_of.gathered(["simclr"], "evaluate/{method}.csv", ["n10"])


def test_only_protocols_in_the_table_are_drawn(evaluations: Evaluations) -> None:
    table = figures_of.label_efficiency(evaluations, LABELS)
    assert charts.shown(table) == ["finetuned", "linear"]
    few = table[(table["protocol"] == "finetuned") & (table["labels"] == 10)].assign(protocol="distilled")
    assert charts.shown(pd.concat([table, few])) == ["finetuned", "distilled", "linear"]
    assert charts.shown(table.head(0)) == list(charts.PROTOCOLS)


def test_equal_tables_give_equal_pictures(tmp_path: Path, evaluations: Evaluations) -> None:
    table = figures_of.label_efficiency(evaluations, LABELS)
    for name in ("a.png", "b.png"):
        charts.write_efficiency(table, tmp_path / name)
    first = (tmp_path / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert first == (tmp_path / "b.png").read_bytes()
    charts.write_efficiency(table.assign(accuracy=table["accuracy"] - 0.1), tmp_path / "c.png")
    assert first != (tmp_path / "c.png").read_bytes()


@pytest.fixture
def in_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def write_figures(evaluations: Evaluations) -> None:
    """Write what `show` reads."""
    write_json(METRICS / "summary.json", figures_of.summary(evaluations))
    write_json(METRICS / "details.json", figures_of.details(evaluations))
    write_table(METRICS / "label_efficiency.csv", figures_of.label_efficiency(evaluations, LABELS))
    for method, collapse in (("scratch", None), ("simclr", "step 7: all features are alike")):
        write_json(METRICS / "pretrain" / f"{method}.json", {"collapse": collapse})


@pytest.mark.usefixtures("in_terminal")
def test_summary_is_shown_in_percent(capsys: pytest.CaptureFixture[str], evaluations: Evaluations) -> None:
    recalls = [0.5, 0.6, 0.7, 0.9]  # the interval differs from that of accuracy
    for draw, recall in zip(evaluations["simclr"]["n10"]["finetuned"], recalls, strict=True):
        draw["recall_macro"] = recall
    for method in METHODS:  # at one budget only
        evaluations[method]["n10"]["distilled"] = evaluations[method]["n10"]["finetuned"]
    write_figures(evaluations)
    show()
    *table, warning = capsys.readouterr().out.splitlines()
    assert warning == "warning: pretrain simclr: collapse at step 7: all features are alike"
    printed = "\n".join(table)
    assert "mean over 4 draws ± 95% interval" in printed
    assert "no ±" not in printed  # every figure has an interval
    assert "…" not in printed  # nothing is cut off
    lines = [line for line in printed.splitlines() if "scratch" in line or "simclr" in line]
    rows = [line for line in lines if "over scratch" not in line]
    assert len(rows) == 4
    figures = figures_of.summary(evaluations)["simclr"]["n10"]
    row = next(line for line in rows if "simclr" in line and " 10 " in line)
    assert f"{100 * figures['accuracy']:.2f} ± {100 * figures['accuracy_ci95']:.2f}" in row
    assert f"{100 * figures['gain']:+.2f} ± {100 * figures['gain_ci95']:.2f}" in row
    assert f" {100 * figures['distilled']:.2f} " in row
    assert f"67.50 ± {100 * estimate(recalls).ci95:.2f}" in row
    assert not any("+" in line for line in rows if "scratch" in line)
    assert " all " in rows[-1]  # the largest budget is last


@pytest.mark.parametrize(
    ("draws", "reason"), [(1, "one draw has no interval"), (4, "equal draws have no interval")]
)
@pytest.mark.usefixtures("in_terminal")
def test_the_shown_summary_explains_missing_intervals(
    capsys: pytest.CaptureFixture[str], evaluations: Evaluations, draws: int, reason: str
) -> None:
    write_figures(first_draw(evaluations, draws))
    show()
    *table, note, _ = capsys.readouterr().out.splitlines()
    assert note == f"no ±: {reason}"
    assert not any("±" in line for line in table[2:])


@pytest.mark.usefixtures("in_terminal")
def test_the_summary_of_nothing_finetuned_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    write_figures({"scratch": {}, "simclr": {}})
    show()
    assert "warning: pretrain simclr" in capsys.readouterr().out


def test_recall_is_one_row_per_method_budget_and_class_with_test_images(
    evaluations: Evaluations,
) -> None:
    table = figures_of.recall(figures_of.details(evaluations), LABELS, ["a", "b", "c"])
    assert len(table) == 2 * len(METHODS) * len(BUDGETS)
    (first, second) = table[(table["method"] == "simclr") & (table["labels"] == 900)].to_dict("records")
    accuracy = estimate(accuracies(evaluations, "simclr", "nall", "finetuned"))
    assert (first["class"], first["recall"]) == ("a", pytest.approx(accuracy.mean, abs=1e-4))
    assert first["recall_ci95"] == pytest.approx(accuracy.ci95, abs=1e-4)
    assert (second["class"], second["recall"]) == ("c", 0.5)
    assert math.isnan(second["recall_ci95"])  # equal in all draws
    assert figures_of.recall({}, LABELS, []).empty
