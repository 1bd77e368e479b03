from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from stages.compare import charts, other_code
from stages.compare import figures as figures_of
from stages.compare.measured import Evaluations, Measured
from stages.compare.statistics import Estimate
from stages.compare.terminal import show
from stages.errors import InputError
from stages.files import provenance
from stages.files.json_files import read_json, write_json
from stages.files.paths import METRICS
from stages.files.records import FILES, read_record, write_record
from stages.files.tables import write_table
from tests.conftest import ROOT, put_metrics, record_metrics

METHODS, BUDGETS, PROTOCOLS = ["scratch", "simclr"], ["n10", "nall"], ["finetuned", "linear", "knn"]
LABELS = {"n10": 10, "nall": 900}


@pytest.fixture
def evaluations() -> dict[str, dict[str, dict[str, Measured]]]:
    """Four draws of two methods on 3,000 images; the draws differ more than the methods do.

    Class 1 has no images.
    """
    random = np.random.default_rng(0)
    labels = np.tile([0, 2], 1500)
    hardness = random.uniform(0, 1, 3000)
    base = {budget: random.uniform(0.5, 0.8, 4) for budget in BUDGETS}

    def measured(method: str, budget: str, protocol: str) -> Measured:
        gain = 0.1 * (method == "simclr") + 0.01 * PROTOCOLS.index(protocol)
        predictions = []
        for of_draw in base[budget]:
            right = hardness + random.normal(0, 0.001, 3000) < of_draw + gain
            guesses = np.where(right, labels, 2 - labels)
            predictions.append((0.1 + 0.7 * np.eye(3)[guesses]).astype(np.float32))
        return Measured.of(predictions, labels, np.arange(3000), [0] * 4, overlap=0.01)

    return {
        method: {budget: {p: measured(method, budget, p) for p in PROTOCOLS} for budget in BUDGETS}
        for method in METHODS
    }


def first_draw(evaluations: Evaluations, times: int) -> Evaluations:
    """The first draw of everything, repeated."""

    def repeated(of: Measured) -> Measured:
        contributed = {metric: units[:1].repeat(times, 0) for metric, units in of.contributed.items()}
        right, figures = of.right[:1].repeat(times, 0), list(of.figures[:1]) * times
        return replace(of, figures=figures, contributed=contributed, right=right, runs=[0] * times)

    return {
        method: {
            budget: {protocol: repeated(measured) for protocol, measured in protocols.items()}
            for budget, protocols in budgets.items()
        }
        for method, budgets in evaluations.items()
    }


def estimated(
    evaluations: Evaluations, method: str, budget: str, protocol: str, metric: str = "accuracy"
) -> Estimate:
    return evaluations[method][budget][protocol].replicates(metric).estimate()


def gained(evaluations: Evaluations, budget: str, protocol: str, metric: str = "accuracy") -> Estimate:
    """The gain of simclr over scratch."""
    simclr, scratch = (evaluations[method][budget][protocol] for method in ("simclr", "scratch"))
    return simclr.replicates(metric).over(scratch.replicates(metric)).estimate()


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
    finetuned = estimated(evaluations, "simclr", budget, "finetuned")
    assert figures["accuracy"] == round(finetuned.mean, 4)
    assert figures["accuracy_ci95"] == round(finetuned.ci95, 4)
    recall = estimated(evaluations, "simclr", budget, "finetuned", "recall_macro")
    assert figures["recall_macro"] == round(recall.mean, 4)
    assert figures["linear_probe"] == round(estimated(evaluations, "simclr", budget, "linear").mean, 4)


def test_gain_is_paired_over_the_control_of_the_same_budget(evaluations: Evaluations) -> None:
    figures = figures_of.summary(evaluations)["simclr"]["n10"]
    expected = gained(evaluations, "n10", "finetuned")
    assert figures["gain"] == round(expected.mean, 4)
    assert figures["gain_ci95"] == round(expected.ci95, 4)
    assert figures["gain"] == pytest.approx(0.1, abs=0.01)
    assert figures["gain_ci95"] < figures["accuracy_ci95"] / 5  # pairing removes the spread of the draws


def test_distilled_is_compared_with_finetuned_where_it_was_done(
    evaluations: dict[str, dict[str, dict[str, Measured]]],
) -> None:
    for method in METHODS:
        evaluations[method]["n10"]["distilled"] = evaluations[method]["nall"]["linear"]
    summary = figures_of.summary(evaluations)
    row, of_simclr = summary["simclr"]["n10"], evaluations["simclr"]["n10"]
    expected = (
        of_simclr["distilled"].replicates("accuracy").over(of_simclr["finetuned"].replicates("accuracy"))
    )
    assert row["distilled_gain"] == round(expected.estimate().mean, 4)
    assert row["distilled_gain_ci95"] == round(expected.estimate().ci95, 4)
    assert row["distilled"] == round(estimated(evaluations, "simclr", "nall", "linear").mean, 4)
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
    assert figures_of.details(one)["simclr"]["n10"]["knn"]["recall"][2].keys() == {"mean"}
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


def test_an_interval_is_never_rounded_to_zero(evaluations: dict[str, dict[str, dict[str, Measured]]]) -> None:
    random = np.random.default_rng(0)
    units = 0.9 + random.normal(0, 1e-6, (4, 3000))
    contributed = {"accuracy": units, "recall_macro": units, "f1_macro": units}
    old = evaluations["simclr"]["n10"]["finetuned"]
    tiny = replace(old, figures=[dict.fromkeys(contributed, 0.9)] * 4, contributed=contributed)
    evaluations["simclr"]["n10"]["finetuned"] = tiny
    details = figures_of.details(evaluations)["simclr"]["n10"]["finetuned"]
    assert details["f1_macro"] == {"mean": 0.9, "ci95": 0.0001}  # it has no bounds that widen it


def test_details_have_an_interval_for_every_figure(evaluations: Evaluations) -> None:
    details = figures_of.details(evaluations)
    assert details["simclr"]["n10"].keys() == set(PROTOCOLS)
    knn = details["simclr"]["n10"]["knn"]
    expected = estimated(evaluations, "simclr", "n10", "knn")
    assert knn["accuracy"] == {"mean": round(expected.mean, 4), "ci95": round(expected.ci95, 4)}
    metrics = {"accuracy", "recall_macro", "precision_macro", "f1_macro", "nll", "ece", "recall"}
    assert knn.keys() == metrics | {"accuracy_gain", "recall_macro_gain"}
    assert details["scratch"]["n10"]["knn"].keys() == metrics  # the control has no gain over itself
    assert all(knn[metric].keys() == {"mean", "ci95"} for metric in metrics - {"recall", "ece"})
    assert knn["ece"].keys() == {"mean"}  # on few images it is too large, by more than an interval would be
    assert knn["recall"][1] is None  # no test images
    of_class = evaluations["simclr"]["n10"]["knn"].recall(2).estimate()
    assert knn["recall"][2] == {"mean": round(of_class.mean, 4), "ci95": round(of_class.ci95, 4)}


def test_macro_recalls_gain_is_paired(evaluations: Evaluations) -> None:
    gain = figures_of.details(evaluations)["simclr"]["n10"]["finetuned"]["recall_macro_gain"]
    expected = gained(evaluations, "n10", "finetuned", "recall_macro")
    assert gain == {"mean": round(expected.mean, 4), "ci95": round(expected.ci95, 4)}


def test_label_efficiency_is_one_row_per_protocol_method_and_budget(evaluations: Evaluations) -> None:
    table = figures_of.label_efficiency(evaluations, LABELS)
    assert list(table.columns) == [
        "protocol", "method", "labels", "accuracy", "accuracy_ci95", "gain", "gain_ci95", "draws", "runs",
    ]  # fmt: skip
    keys = [tuple(row) for row in table[["protocol", "method", "labels"]].itertuples(index=False)]
    assert keys == [(p, m, n) for p in sorted(PROTOCOLS) for m in METHODS for n in (10, 900)]
    assert (table["draws"] == 4).all()
    assert table["gain"].isna().equals(table["method"] == "scratch")
    for _, row in table[table["method"] == "simclr"].iterrows():
        budget = next(name for name, labels in LABELS.items() if labels == row["labels"])
        accuracy = estimated(evaluations, "simclr", budget, row["protocol"])
        gain = gained(evaluations, budget, row["protocol"])
        assert (row["accuracy"], row["accuracy_ci95"]) == (round(accuracy.mean, 4), round(accuracy.ci95, 4))
        assert (row["gain"], row["gain_ci95"]) == (round(gain.mean, 4), round(gain.ci95, 4))


def test_figures_of_all_methods_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, method in enumerate(METHODS):
        table = pd.DataFrame({"budget": ["n10", "n100", "nall"], "share": [i, i + 1, i + 2]})
        write_table(METRICS / "evaluate" / f"{method}.csv", table)
    gathered = figures_of.gathered(METHODS, "evaluate/{method}.csv", {"budget": ["n10", "nall"]})
    assert gathered.to_dict("list") == {
        "method": ["scratch", "scratch", "simclr", "simclr"],
        "budget": ["n10", "nall", "n10", "nall"],
        "share": ["0", "2", "1", "3"],  # as text, because a class may be called 001 or NA
    }
    assert len(figures_of.gathered(["simclr"], "evaluate/{method}.csv", {})) == 3
    write_json(METRICS / "evaluate" / "simclr.csv", {})
    with pytest.raises(InputError, match="budget"):
        figures_of.gathered(["simclr"], "evaluate/{method}.csv", {"budget": ["n10"]})


def test_only_protocols_in_the_table_are_drawn(evaluations: Evaluations) -> None:
    table = figures_of.label_efficiency(evaluations, LABELS)
    assert charts.shown(table) == ["finetuned", "linear"]
    few = table[(table["protocol"] == "finetuned") & (table["labels"] == 10)].assign(protocol="distilled")
    assert charts.shown(pd.concat([table, few])) == ["finetuned", "distilled", "linear"]
    assert charts.shown(table.head(0)) == list(charts.PROTOCOLS)


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [([10, 100, 1000], False), ([50, 300, 320], True), ([50], False), ([], False), ([1000, 1100], False)],
)
def test_numbers_of_labels_that_are_near_each_other_are_written_obliquely(
    budgets: list[int], expected: bool
) -> None:
    assert charts.crowded(budgets) is expected


def test_every_panel_of_the_picture_shows_all_its_points(
    tmp_path: Path, evaluations: Evaluations, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = figures_of.label_efficiency(evaluations, LABELS)
    table.loc[(table["protocol"] == "linear") & (table["method"] == "scratch"), "accuracy"] = 0.03
    kept: list[Figure] = []
    monkeypatch.setattr(plt, "close", kept.append)
    charts.write_efficiency(table, tmp_path / "a.png")
    (figure,) = kept
    for axis in figure.axes:
        low, high = axis.get_ylim()
        assert low < 3
        assert high >= 100


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


def write_figures(evaluations: Evaluations, frequent: int = 10) -> None:
    """Write what `show` reads. `frequent`: test images of one class; the other has 10."""
    put_metrics(METRICS / "data.json", {"test_labelled": 3000, "test_units": 3000, "pool_labelled": 900})
    put_metrics(METRICS / "summary.json", figures_of.summary(evaluations))
    put_metrics(METRICS / "details.json", figures_of.details(evaluations))
    write_table(METRICS / "label_efficiency.csv", figures_of.label_efficiency(evaluations, LABELS))
    classes = pd.DataFrame({"class": ["a", "b"], "pool": 450, "validation": 0, "test": [frequent, 10]})
    write_table(METRICS / "data_classes.csv", classes)
    record_metrics()
    for method, collapse in (("scratch", None), ("simclr", "step 7: all features are alike")):
        doubts = ["48 steps are few"] if collapse else []
        put_metrics(METRICS / "pretrain" / f"{method}.json", {"collapse": collapse, "doubts": doubts})


@pytest.mark.usefixtures("in_terminal")
def test_summary_is_shown_in_percent(
    capsys: pytest.CaptureFixture[str], evaluations: dict[str, dict[str, dict[str, Measured]]]
) -> None:
    for method in METHODS:  # at one budget only
        evaluations[method]["n10"]["distilled"] = evaluations[method]["n10"]["linear"]
    write_figures(evaluations)
    show()
    *table, warning, doubt = capsys.readouterr().out.splitlines()
    assert doubt == "warning: pretrain simclr: 48 steps are few"
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
    assert f"{100 * figures['accuracy']:.1f} ± {100 * figures['accuracy_ci95']:.1f}" in row
    assert f"{100 * figures['gain']:+.1f} ± {100 * figures['gain_ci95']:.1f}" in row
    recall = figures_of.details(evaluations)["simclr"]["n10"]["finetuned"]["recall_macro"]
    assert f"{100 * recall['mean']:.1f} ± {100 * recall['ci95']:.1f}" in row
    assert f" {100 * figures['distilled']:.1f} " in row
    assert not any("+" in line for line in rows if "scratch" in line)
    assert " all " in rows[-1]  # the largest budget is last


@pytest.mark.parametrize(
    ("mean", "half", "sign", "shown"),
    [
        (0.0014, 0.0012, "+", "+0.14 ± 0.12"),
        (-0.0012, 0.0014, "+", "-0.12 ± 0.14"),
        (0.001, 0.005, "+", "+0.1 ± 0.5"),
        (0.123, 0.0004, "", "12.30 ± 0.04"),
        (0.005, 0.005, "", "0.5 ± 0.5"),
        (0.25, None, "+", "+25.0"),
    ],
)
def test_one_decimal_hides_neither_the_width_nor_whether_a_gain_is_sure(
    mean: float, half: float | None, sign: str, shown: str
) -> None:
    assert figures_of.percent_of(mean, half, sign) == shown


@pytest.mark.usefixtures("in_terminal")
def test_wide_intervals_fit_into_a_terminal_and_narrow_ones_are_not_zero(
    capsys: pytest.CaptureFixture[str], evaluations: Evaluations
) -> None:
    write_figures(evaluations)
    summary, details = (read_json(METRICS / f"{name}.json") for name in ("summary", "details"))
    for method in METHODS:
        summary[method]["n10"] |= {"distilled": 1.0, "linear_probe": 1.0}
        of_protocol = details[method]["n10"]["finetuned"]
        of_protocol |= {score: {"mean": 1.0, "ci95": 0.1234} for score in ("accuracy", "recall_macro")}
        if "accuracy_gain" in of_protocol:
            of_protocol["accuracy_gain"] = {"mean": -0.25, "ci95": 0.0004}
    put_metrics(METRICS / "summary.json", summary)
    put_metrics(METRICS / "details.json", details)
    show()
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "100.0 ± 12.3" in printed
    assert "-25.00 ± 0.04" in printed


@pytest.mark.parametrize(("frequent", "first"), [(10, "accuracy"), (29, "accuracy"), (30, "recall_macro")])
@pytest.mark.usefixtures("in_terminal")
def test_macro_recall_comes_first_where_one_class_has_most_images(
    capsys: pytest.CaptureFixture[str], evaluations: Evaluations, frequent: int, first: str
) -> None:
    write_figures(evaluations, frequent)
    details = read_json(METRICS / "details.json")
    of_protocol = details["simclr"]["n10"]["finetuned"]
    of_protocol["recall_macro"], of_protocol["recall_macro_gain"] = {"mean": 0.42}, {"mean": -0.37}
    put_metrics(METRICS / "details.json", details)
    show()
    heading, *rows = capsys.readouterr().out.splitlines()[2:]
    assert (heading.index("macro recall") < heading.index("accuracy")) == (first == "recall_macro")
    row = next(row for row in rows if "simclr" in row and " 10 " in row)
    shown = (of_protocol[first]["mean"], of_protocol[f"{first}_gain"]["mean"])
    assert row.index(f"{100 * shown[0]:.1f}") < row.index(f"{100 * shown[1]:+.1f}")


@pytest.mark.parametrize(
    ("draws", "reason"),
    [
        (1, "one draw has no interval"),
        (4, "equal draws, and a class with one test image or group, have no interval"),
    ],
)
@pytest.mark.usefixtures("in_terminal")
def test_the_shown_summary_explains_missing_intervals(
    capsys: pytest.CaptureFixture[str], evaluations: Evaluations, draws: int, reason: str
) -> None:
    write_figures(first_draw(evaluations, draws))
    show()
    *table, note, _, _ = capsys.readouterr().out.splitlines()
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
    of_class = [evaluations["simclr"]["nall"]["finetuned"].recall(c).estimate() for c in (0, 2)]
    for row, name, expected in zip((first, second), "ac", of_class, strict=True):
        assert (row["class"], row["recall"]) == (name, round(expected.mean, 4))
        assert row["recall_ci95"] == round(expected.ci95, 4)
    assert figures_of.recall({}, LABELS, []).empty


@pytest.mark.usefixtures("in_terminal", "in_copy")
def test_figures_of_another_version_of_the_code_are_named_in_one_line(
    capsys: pytest.CaptureFixture[str], evaluations: Evaluations
) -> None:
    Path("stages").symlink_to(ROOT / "stages")
    write_figures(evaluations)

    def recorded(path: str, code: str) -> None:
        file = METRICS / path
        content = read_record(file) if file.is_file() else {}
        files = map(Path, content.pop(FILES, {}))
        write_record(file, content | {"made_from": {"code": code, "parameters": {}, "inputs": {}}}, *files)

    recorded("prepare.json", provenance.code("prepare"))
    recorded("baselines.json", provenance.code("baselines"))
    for method in ("scratch", "simclr"):
        recorded(f"pretrain/{method}.json", provenance.code("pretrain", method))
        recorded(f"evaluate/{method}_model.json", provenance.code("evaluate", method))
    show()
    assert "version of the code" not in capsys.readouterr().out
    recorded("prepare.json", "0123456789ab")
    recorded("evaluate/simclr_model.json", "0123456789ab")
    for method in ("scratch", "simclr"):
        recorded(f"pretrain/{method}.json", "0123456789ab")
    show()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "version of the code" in line]
    assert line == (
        "warning: made by another version of the code: prepare, pretrain (scratch, simclr), evaluate "
        "(simclr); run `dvc repro` to make them anew"
    )
    recorded("pretrain/gone.json", "0123456789ab")  # a method whose file was removed
    assert "pretrain (gone)" in str(other_code.note(["gone"]))
    # By code that wrote no digest of its own.
    write_json(METRICS / "prepare.json", {"made_from": {"code": provenance.code("prepare")}})
    assert "code: prepare;" in str(other_code.note([]))
    write_json(METRICS / "prepare.json", [])
    with pytest.raises(InputError, match=r"prepare\.json: has no own_sha256"):
        other_code.note([])
