"""The tables of quality: cut out of the label-efficiency table, by experiment. tests/pipeline makes one."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.quality import ORDER, accuracies, gains, link, possible, replaced, timings
from stages.files.json_files import write_json
from stages.files.tables import write_table

BUDGETS = (10, 1000, "all")


@pytest.fixture
def efficiency() -> pd.DataFrame:
    """As compare writes it: the pool's size for `all`, nearest neighbours too, no gain of the control."""
    rows = [
        (protocol, method, labels, 0.5 + labels / 1e6, 0.01, gain, gain / 10, 5)
        for protocol in ("finetuned", "knn", "linear")
        for method, gain in (("scratch", math.nan), ("simclr", 0.1))
        for labels in (10, 1000, 55_000)
    ]
    columns = ["protocol", "method", "labels", "accuracy", "accuracy_ci95", "gain", "gain_ci95", "draws"]
    return pd.DataFrame(rows, columns=columns)


def test_accuracies_have_a_row_for_each_budget_protocol_and_method(efficiency: pd.DataFrame) -> None:
    table = accuracies(efficiency, "mnist", BUDGETS)
    assert list(table.columns) == ["experiment", "labels", "protocol", "method", "accuracy", "ci95"]
    assert len(table) == 3 * 2 * 2
    assert set(table["experiment"]) == {"mnist"}
    assert set(table["labels"]) == {"10", "1000", "all"}
    assert set(table["protocol"]) == {"finetuned", "linear"}
    assert set(table["method"]) == {"scratch", "simclr"}
    assert set(table[table["labels"] == "all"]["accuracy"]) == {0.555}
    assert set(table["ci95"]) == {0.01}


def test_gains_leave_the_control_out_and_have_their_own_interval(efficiency: pd.DataFrame) -> None:
    table = gains(efficiency, "mnist", BUDGETS)
    assert list(table.columns) == ["experiment", "labels", "protocol", "method", "gain", "ci95"]
    assert len(table) == 3 * 2
    assert set(table["method"]) == {"simclr"}
    assert set(table["gain"]) == {0.1}
    assert set(table["ci95"]) == {0.01}


def test_an_experiments_rows_are_replaced_and_the_others_kept_to_the_letter(
    tmp_path: Path, efficiency: pd.DataFrame
) -> None:
    file = tmp_path / "quality.csv"
    kept = "letters,100,linear,scratch,0.10000000000000003,1e-3\n"
    file.write_text(
        "experiment,labels,protocol,method,accuracy,ci95\n"
        f"mnist,20,linear,scratch,0.9,0.1\n{kept}mnist,10,linear,simclr,0.9,0.1\n"
    )
    write_table(file, replaced(file, accuracies(efficiency, "mnist", BUDGETS)))
    lines = file.read_text().splitlines(keepends=True)
    assert lines[1] == kept
    assert len(lines) == 1 + 1 + 12
    assert lines[2].startswith("mnist,10,finetuned,scratch,0.50001,0.01")
    labels = [line.split(",")[1] for line in lines[2:]]
    assert labels == ["10"] * 4 + ["1000"] * 4 + ["all"] * 4


def test_the_order_does_not_depend_on_what_was_run_first(tmp_path: Path, efficiency: pd.DataFrame) -> None:
    written = []
    for names in (["mnist", "fashion-mnist", "mnist"], ["fashion-mnist", "mnist"]):
        file = tmp_path / f"{len(names)}.csv"
        for name in names:
            rows = accuracies(efficiency, name, BUDGETS).sample(frac=1, random_state=len(names))
            write_table(file, replaced(file, rows))
        written.append(file.read_bytes())
    assert written[0] == written[1]
    assert not pd.read_csv(tmp_path / "2.csv").duplicated(["experiment", *ORDER]).any()


def test_timings_are_read_by_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for stage, seconds in (("pretrain", 67.7), ("finetune", 48.6)):
        for method, factor in (("scratch", 0), ("simclr", 1)):
            figures = {"seconds": factor * seconds, "hardware": "a processor", "threads": 2}
            figures |= {"propagation_seconds": 20.5} if stage == "finetune" else {}
            write_json(Path(f"metrics/timings/{stage}/{method}.json"), figures)
    assert timings("mnist", ["scratch", "simclr"]).to_dict("records") == [
        {"experiment": "mnist", "method": method, "pretrain_seconds": a, "finetune_seconds": b,
         "propagation_seconds": 20.5, "hardware": "a processor"}
        for method, a, b in (("scratch", 0, 0), ("simclr", 67.7, 48.6))
    ]  # fmt: skip


def test_a_clone_sees_the_files_of_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "clone"):
        (tmp_path / name / "data/raw").mkdir(parents=True)
        (tmp_path / name / "data/raw/README.md").write_text(name)
    (tmp_path / "here/data/raw/train.gz").write_bytes(b"images")
    monkeypatch.chdir(tmp_path / "clone")
    for folder in ("data/raw", "data/raw", "data/none"):
        link(Path(folder), tmp_path / "here")
    assert Path("data/raw/train.gz").read_bytes() == b"images"
    assert Path("data/raw/README.md").read_text() == "clone"
    assert not Path("data/none").exists()


def test_an_experiment_for_a_gpu_is_left_out_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    Path("experiments/large.yaml").write_text("runtime.device: cuda\n")
    Path("experiments/small.yaml").write_text("seed: 2\n")
    for there, expected in ((False, ["small"]), (True, ["large", "small"])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert possible(["large", "small"]) == expected
        assert ("large" in capsys.readouterr().out) != there
