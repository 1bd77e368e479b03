"""The tables of `benchmarks.quality` and `benchmarks.transfer`. tests/pipeline makes them with real runs."""

import contextlib
import io
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks import own_lines, transfer
from benchmarks.quality import RESULTS, link, quick, runnable, state, state_recorded
from benchmarks.quality_tables import ORDER, accuracies, gains, recalls, replaced, timings
from stages.errors import InputError
from stages.files.json_files import read_json, write_json
from stages.files.paths import METRICS
from stages.files.tables import write_table
from stages.files.weights import read_digest, write_encoder
from stages.settings import load
from stages.tools import experiment
from tests.conftest import ROOT, committed, tiny_encoder
from tests.pipeline.conftest import change

BUDGETS = (10, 1000, "all")


@pytest.fixture
def efficiency() -> pd.DataFrame:
    """The table that compare writes: the size of the pool for `all`, all protocols, no gain for scratch."""
    rows = [
        (protocol, method, labels, 0.5 + labels / 1e6, 0.01, gain, gain / 10, 5, 2)
        for protocol in ("finetuned", "knn", "linear")
        for method, gain in (("scratch", math.nan), ("simclr", 0.1))
        for labels in (10, 1000, 55_000)
    ]
    columns = ["protocol", "method", "labels", "accuracy", "accuracy_ci95", "gain", "gain_ci95"]
    columns += ["draws", "runs"]
    return pd.DataFrame(rows, columns=columns)


def test_accuracies_have_a_row_per_budget_protocol_and_method(efficiency: pd.DataFrame) -> None:
    table = accuracies(efficiency, "mnist", BUDGETS)
    assert list(table.columns) == ["dataset", *ORDER, "accuracy", "ci95", "draws", "runs"]
    assert len(table) == 3 * 2 * 2
    assert set(table["dataset"]) == {"mnist"}
    assert set(table["labels"]) == {"10", "1000", "all"}
    assert set(table["protocol"]) == {"finetuned", "linear"}
    assert set(table["method"]) == {"scratch", "simclr"}
    assert set(table[table["labels"] == "all"]["accuracy"]) == {0.555}
    assert set(table["ci95"]) == {0.01}
    assert set(map(tuple, table[["draws", "runs"]].to_numpy())) == {(5, 2)}


NO_IMPORTED: dict[str, Any] = {"scratch": {}, "simclr": {}}


def test_gains_have_no_rows_of_scratch_and_their_own_interval(efficiency: pd.DataFrame) -> None:
    table = gains(efficiency, NO_IMPORTED, "mnist", BUDGETS)
    assert list(table.columns) == ["dataset", *ORDER, "over", "gain", "ci95", "draws", "runs"]
    assert len(table) == 3 * 2
    assert set(table["method"]) == {"simclr"}
    assert set(table["over"]) == {"scratch"}
    assert set(table["gain"]) == {0.1}
    assert set(table["ci95"]) == {0.01}


def test_gains_over_other_controls_are_those_of_the_summary(efficiency: pd.DataFrame) -> None:
    imported = efficiency[efficiency["method"] == "simclr"].assign(method="imported")
    with_interval = {"gain_over_imported": -0.02, "gain_over_imported_ci95": 0.005}
    summary = {
        "scratch": {"n1000": {"gain_over_baseline": 0.2}},
        "imported": {"n10": {"accuracy": 0.5}},
        "simclr": {"n10": with_interval, "nall": {"gain_over_imported": 0.03}},
    }
    table = gains(pd.concat([efficiency, imported]), summary, "mnist", BUDGETS)
    rows = table[table["over"] == "imported"].sort_values("labels")
    assert rows[["labels", "protocol", "method", "gain"]].to_numpy().tolist() == [
        ["10", "finetuned", "simclr", -0.02],
        ["all", "finetuned", "simclr", 0.03],
    ]
    assert rows["ci95"].iloc[0] == 0.005
    assert math.isnan(rows["ci95"].iloc[1])
    assert table["gain"].dtype == table["ci95"].dtype == float
    assert set(table[table["over"] == "scratch"]["method"]) == {"simclr", "imported"}
    (over_baseline,) = table[table["over"] == "baseline"].to_dict("records")
    assert (over_baseline["labels"], over_baseline["method"], over_baseline["gain"]) == (
        "1000",
        "scratch",
        0.2,
    )


def test_the_rows_of_an_experiment_are_replaced_and_the_others_keep_every_digit(
    tmp_path: Path, efficiency: pd.DataFrame
) -> None:
    file = tmp_path / "quality.csv"
    other = "letters,100,linear,scratch,0.10000000000000003,1e-3,5,1\n"
    file.write_text(
        "dataset,labels,protocol,method,accuracy,ci95,draws,runs\n"
        f"mnist,20,linear,scratch,0.9,0.1,5,1\n{other}mnist,10,linear,simclr,0.9,0.1,5,1\n"
    )
    write_table(file, replaced(file, accuracies(efficiency, "mnist", BUDGETS)))
    lines = file.read_text().splitlines(keepends=True)
    assert lines[1] == other
    assert len(lines) == 1 + 1 + 12
    assert lines[2].startswith("mnist,10,finetuned,scratch,0.50001,0.01")
    labels = [line.split(",")[1] for line in lines[2:]]
    assert labels == ["10"] * 4 + ["1000"] * 4 + ["all"] * 4


def test_macro_recall_has_a_row_for_each_protocol_with_its_gain() -> None:
    half = {"recall_macro": {"mean": 0.5, "ci95": 0.1}}
    gain = {"recall_macro": {"mean": 0.6}, "recall_macro_gain": {"mean": 0.1, "ci95": 0.05}}
    details = {
        "scratch": {"n10": {"finetuned": half, "knn": half}},
        "simclr": {"nall": {"finetuned": gain}},
        "hog_svm": {"n10": {"baseline": half}},
    }
    table = recalls(details, "emoji")
    assert table.astype(object).where(table.notna(), None).to_numpy().tolist() == [
        ["emoji", "10", "finetuned", "scratch", 0.5, 0.1, None, None],
        ["emoji", "all", "finetuned", "simclr", 0.6, None, 0.1, 0.05],
        ["emoji", "10", "baseline", "hog_svm", 0.5, 0.1, None, None],
    ]


def test_the_order_of_rows_does_not_depend_on_the_order_of_runs(
    tmp_path: Path, efficiency: pd.DataFrame
) -> None:
    written = []
    for names in (["mnist", "fashion-mnist", "mnist"], ["fashion-mnist", "mnist"]):
        file = tmp_path / f"{len(names)}.csv"
        for name in names:
            rows = accuracies(efficiency, name, BUDGETS).sample(frac=1, random_state=len(names))
            write_table(file, replaced(file, rows))
        written.append(file.read_bytes())
    assert written[0] == written[1]
    assert not pd.read_csv(tmp_path / "2.csv").duplicated(["dataset", *ORDER]).any()


def test_timings_are_read_by_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for stage, seconds in (("pretrain", 67.7), ("finetune", 48.6), ("distil", 9.5)):
        for method, factor in (("scratch", 0), ("simclr", 1)):
            figures = {"seconds": factor * seconds, "hardware": "a processor", "threads": 2}
            figures |= {"propagation_seconds": 20.5} if stage == "distil" else {}
            write_json(Path(f"metrics/timings/{stage}/{method}.json"), figures)
    assert timings("mnist", ["scratch", "simclr"]).to_dict("records") == [
        {"dataset": "mnist", "method": method, "pretrain_seconds": a, "finetune_seconds": b,
         "distil_seconds": c, "propagation_seconds": 20.5, "hardware": "a processor"}
        for method, a, b, c in (("scratch", 0, 0, 0), ("simclr", 67.7, 48.6, 9.5))
    ]  # fmt: skip


def test_the_data_files_of_the_workspace_are_linked_into_a_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("workspace", "clone"):
        (tmp_path / name / "data/raw").mkdir(parents=True)
        (tmp_path / name / "data/raw/README.md").write_text(name)
    (tmp_path / "workspace/data/raw/train.gz").write_bytes(b"images")
    monkeypatch.chdir(tmp_path / "clone")
    for folder in ("data/raw", "data/raw", "data/none"):
        link(Path(folder), tmp_path / "workspace")
    assert Path("data/raw/train.gz").read_bytes() == b"images"
    assert Path("data/raw/README.md").read_text() == "clone"
    assert not Path("data/none").exists()


def test_an_experiment_for_a_gpu_is_skipped_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    Path("experiments/large.yaml").write_text("runtime.device: cuda\n")
    Path("experiments/small.yaml").write_text("seeds.draws: 2\n")
    for has_gpu, expected in ((False, ["small"]), (True, ["large", "small"])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        assert runnable(["large", "small"]) == expected
        assert ("large" in capsys.readouterr().out) != has_gpu


def test_an_experiment_of_a_folder_that_was_not_made_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiments").mkdir()
    Path("experiments/tiles.yaml").write_text("data.source: folder\ndata.path: data/satellite\n")
    assert runnable(["tiles"]) == []
    assert "python -m benchmarks.folders satellite data/satellite" in capsys.readouterr().out
    Path("data/satellite").mkdir(parents=True)
    assert runnable(["tiles"]) == ["tiles"]


def test_a_quick_run_has_the_experiments_own_budgets_without_all(in_copy: Path) -> None:
    assert in_copy.is_dir()
    assert quick({"finetune.budgets": [90, 300, "all"], "pretrain.runs": 3}) == {
        "pretrain.runs": 1, "finetune.draws": 3, "finetune.budgets": [90, 300]
    }  # fmt: skip
    assert quick({})["finetune.budgets"] == load.read(load.PARAMS)["finetune"]["budgets"]


def test_the_recorded_figures_are_judged_without_a_run(
    tmp_path: Path, efficiency: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "quality.csv", accuracies(efficiency, "mnist", BUDGETS))
    write_table(tmp_path / "quality_gains.csv", gains(efficiency, NO_IMPORTED, "mnist", BUDGETS))
    of = {method: {"n10": {"finetuned": {"recall_macro": {"mean": 0.5}}}} for method in ("scratch", "simclr")}
    of["simclr"]["n10"]["finetuned"]["recall_macro_gain"] = {"mean": 0.2, "ci95": 0.1}
    of_recall = recalls(of, "mnist")
    write_table(tmp_path / "quality_recall.csv", of_recall)
    state_recorded(tmp_path, [])
    printed = capsys.readouterr().out
    tables = {
        "quality.csv": accuracies(efficiency, "mnist", BUDGETS),
        "quality_gains.csv": gains(efficiency, NO_IMPORTED, "mnist", BUDGETS),
        "quality_recall.csv": of_recall,
    }
    state("mnist", tables)
    assert capsys.readouterr().out == printed
    assert printed.startswith("\nmnist\ntrue ")
    assert "sure     10 labels, simclr: +10.00 ± 1.00" in printed
    assert "sure     10 labels, simclr: +20.00 ± 10.00" in printed.partition("mnist, by macro recall")[2]
    with pytest.raises(InputError, match=r"unknown name 'mnits' .did you mean mnist"):
        state_recorded(tmp_path, ["mnits"])


def test_the_results_of_the_lines_for_own_images_are_recorded_from_their_project(
    in_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="its images are mnist, no folder"):
        own_lines.main(["cats", str(in_copy)])
    change(in_copy / "params.yaml", {"data.source": "folder", "data.path": "data/cats"})
    shutil.copytree(ROOT / METRICS, in_copy / METRICS, dirs_exist_ok=True)
    (tmp_path / "elsewhere/benchmarks/results").mkdir(parents=True)
    with contextlib.chdir(tmp_path / "elsewhere"):
        own_lines.main(["cats", str(in_copy)])
        recorded = pd.read_csv(RESULTS / "quality.csv")
    assert set(recorded["dataset"]) == {"cats, by init"}
    (row,) = recorded.query("method == 'simclr' and protocol == 'finetuned' and labels == 10").to_dict(
        "records"
    )
    assert row["accuracy"] == read_json(ROOT / METRICS / "summary.json")["simclr"]["n10"]["accuracy"]
    assert capsys.readouterr().out.startswith("\ncats, by init\n")


# --- transfer


@pytest.fixture
def target(in_copy: Path) -> Path:
    """The file of an encoder, with a copy of the project and its experiments as the working directory."""
    shutil.copytree(ROOT / experiment.FOLDER, experiment.FOLDER)
    encoder = in_copy / "elsewhere.safetensors"
    write_encoder(encoder, tiny_encoder())
    return encoder


TUNED = {"mnist": 0.01, "fashion-mnist": 0.003}  # the encoder's rate, by the dataset it is used on


@pytest.mark.parametrize("name", transfer.SOURCES)
def test_an_encoder_without_further_training_has_the_recipe_of_imported(target: Path, name: str) -> None:
    expected = load.validated(experiment.applied(load.read(load.PARAMS), experiment.read(name)))
    transfer.set_up(name, target, further=False, workspace=target.parent)
    settings = load.validated(load.read(load.PARAMS))
    assert settings.methods == ("scratch", "simclr", "imported")
    assert settings.finetune.budgets == (10, 100, 1000)
    start = settings.pretrain["imported"].start
    assert start.digest == read_digest(Path(start.file)) == read_digest(target)
    assert settings.pretrain["simclr"] == expected.pretrain["simclr"]
    assert settings.pretrain["simclr"].start is None
    assert settings.finetune.recipe == expected.finetune.recipe
    assert settings.finetune.recipe["imported"].encoder_learning_rate == TUNED[name]
    assert settings.data.source == name


@pytest.mark.parametrize("name", transfer.SOURCES)
def test_further_training_is_one_epoch_of_simclr_from_the_encoder_with_its_recipe(
    target: Path, name: str
) -> None:
    expected = load.validated(experiment.applied(load.read(load.PARAMS), experiment.read(name)))
    transfer.set_up(name, target, further=True, workspace=target.parent)
    settings = load.validated(load.read(load.PARAMS))
    assert settings.methods == ("scratch", "simclr")
    assert settings.finetune.budgets == (10, 100, 1000)
    section = settings.pretrain["simclr"]
    assert (section.images, section.steps, section.learning_rate) == (55_000, 1, 0.003)
    assert section.start.digest == read_digest(Path(section.start.file)) == read_digest(target)
    unchanged = expected.pretrain["simclr"]
    same = {
        "images": unchanged.images,
        "steps": unchanged.steps,
        "learning_rate": unchanged.learning_rate,
        "start": None,
    }
    assert section.model_copy(update=same) == unchanged
    assert settings.finetune.recipe == expected.finetune.recipe


def test_the_rows_of_both_runs_have_the_names_of_the_committed_table(efficiency: pd.DataFrame) -> None:
    imported = efficiency[efficiency["method"] == "simclr"].assign(method="imported")
    first = transfer.transfer_rows(pd.concat([efficiency, imported]), "mnist", further=False)
    second = transfer.transfer_rows(efficiency, "mnist", further=True)
    rows = pd.concat([first, second])
    table = pd.read_csv(io.StringIO(committed("benchmarks/results/transfer.csv")))
    assert set(second["method"]) == {"imported, then 1 epoch"}
    assert set(rows["method"]) == set(table["method"])
    assert list(rows.columns) == list(table.columns)
    assert len(rows) == 3 * 2 * 4
    assert not rows.duplicated(["labels", "protocol", "method"]).any()
    assert not rows["protocol"].isin(["knn"]).any()
