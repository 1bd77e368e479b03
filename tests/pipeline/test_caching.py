"""What `dvc repro` runs again, and what it does not."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stages.files.digests import TABLE, write_digests
from stages.files.paths import USED_RECIPES
from stages.tasks.power import ENOUGH_VALIDATION
from tests.pipeline.conftest import Project, made_once

STAGES = ("pretrain", "choose", "finetune", "distil", "evaluate")


def test_second_repro_runs_nothing(project: Project) -> None:
    assert project.repro() == []


def columns(*stages: str) -> set[str]:
    """These stages of both methods, and compare."""
    return {f"{stage}@{method}" for stage in stages for method in ("scratch", "simclr")} | {"compare"}


@pytest.fixture(scope="module")
def undecided(baseline: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose validation has too few labels to put linear probes in the place of trained models."""

    def make(path: Path) -> Project:
        project = baseline.copy(path)
        project.set(data__validation=ENOUGH_VALIDATION - 1)
        project.repro()
        return project

    return made_once(tmp_path_factory, "undecided", make)


def test_finetune_parameter_reruns_finetune_to_compare_only(undecided: Project, tmp_path: Path) -> None:
    project = undecided.copy(tmp_path / "project")
    project.set(finetune__schedule__steps=5)
    assert set(project.repro()) == columns("choose", "finetune", "distil", "evaluate")


@pytest.mark.full
def test_choose_parameter_reruns_the_methods_whose_recipes_are_chosen(
    undecided: Project, tmp_path: Path
) -> None:
    project = undecided.copy(tmp_path / "project")
    project.set(choose__encoder_learning_rates=[0])
    ran = set(project.repro())
    assert ran == {f"{stage}@scratch" for stage in ("finetune", "distil", "evaluate")} | {
        "choose@scratch", "choose@simclr", "compare",
    }  # fmt: skip
    draws = json.loads(project.read("metrics/evaluate/scratch.json"))
    assert draws["n10"]["finetuned"] == draws["n10"]["linear"]
    assert draws["n50"]["finetuned"] == draws["n50"]["linear"]


def test_a_distil_parameter_reruns_distil_to_compare_and_without_small_budgets_none_is_distilled(
    project: Project,
) -> None:
    shown = b"distilled"
    assert shown in project.read("metrics/label_efficiency.csv")
    assert "distilled" in json.loads(project.read("metrics/summary.json"))["simclr"]["n10"]
    project.set(distil__few=10)
    assert set(project.repro()) == columns("distil", "evaluate")
    distilled = (project.path / "models/distilled/simclr").iterdir()
    assert sorted(path.name for path in distilled) == [TABLE, "index.csv"]
    for file in ("label_efficiency.csv", "summary.json", "details.json"):
        assert shown not in project.read(f"metrics/{file}")


@pytest.mark.full
def test_changed_label_reruns_no_pretraining(project: Project) -> None:
    labels = project.path / "data" / "prepared" / "labels" / "pool.csv"
    table = pd.read_csv(labels)
    table.loc[0, "label"] = (table.loc[0, "label"] + 1) % 10
    project.run("dvc", "unprotect", "data/prepared/labels")
    table.to_csv(labels, index=False)
    write_digests(labels.parent, labels.parent.relative_to(project.path))
    project.run("dvc", "commit", "--force", "prepare")
    ran = project.repro()
    assert "finetune@simclr" in ran
    assert not [name for name in ran if name.startswith(("prepare", "pretrain"))]


def test_method_parameter_on_a_branch_is_compared_and_reverted(project: Project) -> None:
    results = ("metrics/summary.json", "models/encoders/simclr/run0.safetensors")
    on_main = {path: project.read(path) for path in ("params.yaml", *results)}
    project.run("git", "checkout", "--quiet", "-b", "cooler")
    project.set(pretrain__simclr__temperature=0.1)
    assert set(project.repro()) == {
        "pretrain@simclr", "choose@simclr", "finetune@simclr", "distil@simclr", "evaluate@simclr",
        "compare",
    }  # fmt: skip
    assert project.read(results[1]) != on_main[results[1]]
    project.commit("a lower temperature")
    key = "pretrain.simclr.temperature"
    difference = json.loads(project.run("dvc", "params", "diff", "main", "--json").stdout)
    assert difference == {"params.yaml": {key: {"old": 1.0, "new": 0.1, "diff": -0.9}}}
    assert key in project.run("dvc", "params", "diff", "main").stdout

    shown = project.run(
        "dvc", "metrics", "diff", "main", "--json", "--targets", "metrics/summary.json"
    ).stdout
    diff = json.loads(shown)["metrics/summary.json"]
    old = json.loads(on_main["metrics/summary.json"])
    new = json.loads(project.read("metrics/summary.json"))
    assert diff, "the changed temperature changed no figure"
    for key, values in diff.items():
        method, budget, metric = key.split(".")
        assert method == "simclr"
        assert values["old"] == old[method][budget].get(metric)  # equal draws have no interval
        assert values["new"] == new[method][budget].get(metric)

    page = project.run("dvc", "plots", "diff", "main").stdout.strip().removeprefix("file://")
    with open(page, encoding="utf-8") as file:
        content = file.read()
    assert "simclr" in content
    assert '"rev": "main"' in content.replace('":"', '": "')

    (project.path / "params.yaml").write_bytes(on_main["params.yaml"])
    assert project.repro() == [], "reverting should restore from the run cache"
    for path, content in on_main.items():
        assert project.read(path) == content


@pytest.mark.full
def test_added_method_runs_its_column_only_and_leaves_no_row_when_removed(project: Project) -> None:
    before = project.read("metrics/summary.json")
    project.set(methods=["scratch", "simclr", "autoencoder"])
    added = {f"{stage}@autoencoder" for stage in STAGES} | {"compare"}
    assert set(project.repro()) == added
    assert set(json.loads(project.read("metrics/summary.json"))) == {"scratch", "simclr", "autoencoder"}

    project.set(methods=["scratch", "simclr"])
    assert project.repro() == ["compare"]
    # A clone has no leftovers of the removed column either.
    assert not list((project.path / "metrics").rglob("autoencoder*"))
    assert project.repro() == []
    assert project.read("metrics/summary.json") == before
    for table in ("label_efficiency.csv", "training_curves.csv", "confusion.csv"):
        assert b"autoencoder" not in project.read(f"metrics/{table}")


@pytest.mark.full
def test_all_labels_are_a_budget_and_removed_ones_leave_no_row(project: Project) -> None:
    project.set(finetune__budgets=["all"])
    ran = project.repro()
    assert not [name for name in ran if name.startswith(("prepare", "pretrain"))]
    summary = json.loads(project.read("metrics/summary.json"))
    assert {budget for budgets in summary.values() for budget in budgets} == {"nall"}
    assert b"n10," not in project.read("metrics/confusion.csv")
    classifiers = project.path / "models" / "classifiers" / "simclr"
    assert sorted(path.name for path in classifiers.iterdir()) == [
        TABLE,
        "index.csv",
        "nall-draw0.safetensors",
        "nall-draw1.safetensors",
        USED_RECIPES,
    ]
    # All draws have the same images, so only the randomness of finetuning differs.
    draws = json.loads(project.read("metrics/evaluate/simclr.json"))["nall"]
    assert draws["linear"][0] == draws["linear"][1]
    assert draws["finetuned"][0] != draws["finetuned"][1]
    assert b",500," in project.read("metrics/label_efficiency.csv")


@pytest.mark.full
def test_the_classic_network_goes_all_the_way(project: Project) -> None:
    before = project.read("metrics/summary.json")
    project.set(encoder__name="cnn")
    ran = project.repro()
    assert {"pretrain@simclr", "finetune@scratch", "evaluate@simclr", "compare"} <= set(ran)
    assert "prepare" not in ran
    assert project.read("metrics/summary.json") != before


def test_freshness_check_notices_changed_code(project: Project) -> None:
    assert project.run("sh", ".ci/fresh").returncode == 0
    source = project.path / "stages" / "evaluate" / "diagnostics.py"
    source.write_text(source.read_text() + "\n# changed\n")
    result = project.run("sh", ".ci/fresh", check=False)
    assert result.returncode == 1
    assert "evaluate@simclr" in result.stdout
    assert "pretrain" not in result.stdout
    assert "finetune" not in result.stdout


def test_freshness_check_works_in_a_clone_without_data(project: Project) -> None:
    clone = Project(project.path.parent / "clone")
    project.run("git", "clone", "--quiet", str(project.path), str(clone.path))
    assert clone.run("sh", ".ci/fresh").returncode == 0
    clone.set(pretrain__simclr__temperature=0.3)
    assert clone.run("sh", ".ci/fresh", check=False).returncode == 1


def test_freshness_check_notices_edited_metrics(project: Project) -> None:
    path = project.path / "metrics" / "summary.json"
    path.write_text(path.read_text().replace("0.", "0.9", 1))
    assert project.run("sh", ".ci/fresh", check=False).returncode == 1


def test_freshness_check_notices_metrics_that_are_not_committed(project: Project) -> None:
    (project.path / "metrics" / "details.json").unlink()
    result = project.run("sh", ".ci/fresh", check=False)
    assert result.returncode == 1
    assert "metrics/details.json" in result.stdout


def test_plots_can_be_drawn(project: Project) -> None:
    plots = json.loads(project.run("dvc", "plots", "show", "--json").stdout)["data"]
    for name in ("label efficiency", "pretraining loss", "online kNN", "confusion"):
        assert plots[name], f"{name} has no data"
