"""Distilling in this process on a few digits: what is trained on, what stays, what index and metrics say."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.distil import distiller, small_budgets
from stages.distil.propagation import LeaveOneOut, Propagation
from stages.files.digests import TABLE
from stages.files.json_files import read_json
from stages.files.paths import CLASSIFIERS, DISTILLED, IMAGES, METRICS
from stages.files.tables import read_table, write_table
from stages.finetune import every_draw
from stages.settings import load
from stages.tasks import finetuning
from stages.tasks.classifier import read_classifier
from stages.tasks.draws import draw_labelled
from stages.tasks.finetuning import Labelled
from stages.tasks.labels import read_pool_labels
from stages.tasks.model_index import Model, read_index, write_index
from stages.training.checkpoint import CHECKPOINTS, Checkpoint
from tests.conftest import seal
from tests.pipeline.conftest import change
from tests.unit.test_stages import project  # noqa: F401 (a fixture)

FOLDER = DISTILLED / "scratch"


class KilledError(Exception):
    """Stands for SIGKILL."""


@pytest.fixture
def finetuned(project: Path) -> Path:  # noqa: F811
    """A project in which scratch was finetuned: two draws of 10 labels, and two of 20, which are too many."""
    change(project / "params.yaml", {
        "finetune.budgets": [10, 20], "finetune.draws": 2,
        "distil.few": 20, "distil.images": 100, "distil.steps": 3,
    })  # fmt: skip
    validation = read_table(IMAGES / "validation.csv")
    write_table(IMAGES / "validation.csv", validation.assign(label=""))  # it decides nothing
    seal()
    every_draw.main("scratch")
    return project


@pytest.fixture
def spreading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check finds that spreading helps."""
    monkeypatch.setattr(Propagation, "leave_one_out", lambda *_: LeaveOneOut(3, 2, 4))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Labelled]:
    """What is trained on, training by training."""
    seen: list[Labelled] = []
    finetune = finetuning.finetune

    def watched(title: str, classifier: Any, labelled: Labelled, *others: Any, **more: Any) -> float:
        seen.append(labelled)
        return finetune(title, classifier, labelled, *others, **more)

    monkeypatch.setattr(finetuning, "finetune", watched)
    return seen


def distilled() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in FOLDER.iterdir()}


@pytest.mark.usefixtures("finetuned", "spreading")
def test_models_of_small_budgets_are_distilled_and_indexed() -> None:
    small_budgets.main("scratch")
    assert read_index(FOLDER) == [
        Model(f"n10-draw{draw}.safetensors", "distilled", "n10", draw, 0,
              str(CLASSIFIERS / "scratch" / f"n10-draw{draw}.safetensors"))
        for draw in (0, 1)
    ]  # fmt: skip
    for draw in (0, 1):
        name = f"n10-draw{draw}.safetensors"
        assert distilled()[name] != (CLASSIFIERS / "scratch" / name).read_bytes()
    draws = read_json(METRICS / "distil" / "scratch.json")["draws"]
    assert [(row["budget"], row["draw"], row["run"], row["spread"]) for row in draws] == [
        ("n10", 0, 0, True), ("n10", 1, 0, True),
    ]  # fmt: skip
    assert all(row["images"] >= 90 for row in draws)  # of 100 evenly spaced ones some may be given
    assert draws[0]["leave_one_out"] == {"labels": 4, "spread": 0.75, "nearest": 0.5}


@pytest.mark.usefixtures("finetuned", "spreading")
def test_where_validation_speaks_against_it_the_finetuned_models_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parents = CLASSIFIERS / "scratch"
    table = read_table(IMAGES / "validation.csv")
    for of, stay in (("finetuned", True), ("distilled", False)):
        # Labels that one of the models gives itself: the other ones are no better.
        small_budgets.main("scratch")
        folder = parents if of == "finetuned" else FOLDER
        classifier, _ = read_classifier(folder / "n10-draw0.safetensors")
        images = torch.from_numpy(np.load(IMAGES / "validation.npy")) / 255
        with torch.no_grad():
            labels = classifier.eval()(images).argmax(1)
        write_table(IMAGES / "validation.csv", table.assign(label=labels.numpy()))
        seal()
        capsys.readouterr()
        small_budgets.main("scratch")
        assert (
            f"distil scratch n10: the {of} models are taken: on validation, over 2 draws"
            in capsys.readouterr().out
        )
        (found,) = read_json(METRICS / "distil" / "scratch.json")["confirmation"].values()
        assert found["holds"] == (not stay)
        for draw in (0, 1):
            name = f"n10-draw{draw}.safetensors"
            assert (distilled()[name] == (parents / name).read_bytes()) == stay
        write_table(IMAGES / "validation.csv", table)
        seal()


@pytest.mark.usefixtures("finetuned", "spreading")
def test_all_given_labels_are_trained_on_and_each_image_once(trained: list[Labelled]) -> None:
    small_budgets.main("scratch")
    labels, classes = read_pool_labels()
    seed = load.read(load.PARAMS)["seeds"]["draws"]
    assert len(trained) == 2
    for draw, labelled in enumerate(trained):
        rows = draw_labelled(labels, len(classes), 10, draw, seed)
        assert labelled.given == 10
        assert torch.equal(labelled.rows[:10], rows)
        assert torch.equal(labelled.labels[:10], labels[rows])
        assert len(set(labelled.rows.tolist())) == len(labelled) > 100 - 10
        assert labelled.labels.min() >= 0


def test_the_run_is_that_of_the_finetuned_model(finetuned: Path) -> None:
    folder = CLASSIFIERS / "scratch"
    write_index(
        folder, [Model(m.file, m.protocol, m.budget, m.draw, 3, m.parent) for m in read_index(folder)]
    )
    seal()
    small_budgets.main("scratch")
    assert {model.run for model in read_index(FOLDER)} == {3}


@pytest.mark.usefixtures("finetuned")
def test_the_finetuned_model_stays_where_spreading_does_not_help(
    monkeypatch: pytest.MonkeyPatch, trained: list[Labelled], capsys: pytest.CaptureFixture[str]
) -> None:
    checks = iter([LeaveOneOut(2, 3, 4), LeaveOneOut(3, 3, 4)])
    monkeypatch.setattr(Propagation, "leave_one_out", lambda *_: next(checks))
    small_budgets.main("scratch")
    assert len(trained) == 1
    kept, other = (f"n10-draw{draw}.safetensors" for draw in (0, 1))
    assert distilled()[kept] == (CLASSIFIERS / "scratch" / kept).read_bytes()
    assert distilled()[other] != (CLASSIFIERS / "scratch" / other).read_bytes()
    first, second = read_json(METRICS / "distil" / "scratch.json")["draws"]
    assert (first["spread"], first["images"], second["spread"]) == (False, 0, True)
    assert first["leave_one_out"] == {"labels": 4, "spread": 0.5, "nearest": 0.75}
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "stays" in line]
    assert line.startswith("distil scratch n10-draw0: the finetuned model stays, because of 4 labels")


def test_without_a_small_budget_there_is_nothing_to_distil(finetuned: Path) -> None:
    change(finetuned / "params.yaml", {"distil.few": 10})
    small_budgets.main("scratch")
    assert read_index(FOLDER) == []
    assert sorted(distilled()) == [TABLE, "index.csv"]
    assert read_json(METRICS / "distil" / "scratch.json")["draws"] == []


@pytest.mark.usefixtures("spreading")
def test_a_killed_stage_resumes_and_ends_with_the_same_bytes(
    finetuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_budgets.main("scratch")
    expected, figures = distilled(), (METRICS / "distil" / "scratch.json").read_bytes()
    shutil.rmtree(FOLDER)
    shutil.rmtree(CHECKPOINTS / "distil")
    write, spreads = Checkpoint.write, []
    spread = distiller.Distiller._spread

    def killed(checkpoint: Checkpoint, *state: Any) -> None:
        write(checkpoint, *state)
        raise KilledError

    def counted(self: distiller.Distiller, *arguments: Any) -> dict[str, Tensor]:
        spreads.append(1)
        return spread(self, *arguments)

    monkeypatch.setattr(distiller.Distiller, "_spread", counted)
    monkeypatch.setattr(Checkpoint, "due", lambda _checkpoint: True)
    monkeypatch.setattr(Checkpoint, "write", killed)
    for _ in range(2 * 3):  # after each step of each draw
        with pytest.raises(KilledError):
            small_budgets.main("scratch")
    assert not FOLDER.exists()
    small_budgets.main("scratch")
    assert len(spreads) == 2  # of each draw once
    assert "distil scratch n10-draw1: resumed at step 3 of 3" in capsys.readouterr().out
    assert distilled() == expected
    assert (METRICS / "distil" / "scratch.json").read_bytes() == figures


@pytest.mark.usefixtures("spreading")
def test_only_what_a_draw_depends_on_trains_it_again(
    finetuned: Path, trained: list[Labelled], capsys: pytest.CaptureFixture[str]
) -> None:
    small_budgets.main("scratch")
    expected = distilled()
    change(finetuned / "params.yaml", {"finetune.budgets": [10, 20, 40], "finetune.draws": 3})
    every_draw.main("scratch")
    capsys.readouterr()
    small_budgets.main("scratch")
    output = capsys.readouterr().out
    assert output.count("resumed at step 3 of 3") == 2  # the third draw is new
    assert expected.items() - distilled().items() == {(name, expected[name]) for name in ("index.csv", TABLE)}
    change(finetuned / "params.yaml", {"finetune.schedule.steps": 5})  # other parents
    every_draw.main("scratch")
    capsys.readouterr()
    small_budgets.main("scratch")
    assert "resumed" not in capsys.readouterr().out


def test_a_graph_has_the_given_images_first_and_each_image_once() -> None:
    given = torch.tensor([7, 0, 99])
    rows = distiller.graph_rows(given, 100, 12)
    assert rows[:3].tolist() == [7, 0, 99]
    assert rows[3:].tolist() == [9, 18, 27, 36, 45, 54, 63, 72, 81, 90]
    everything = distiller.graph_rows(torch.tensor([3]), 20, 1000)
    assert everything.tolist() == [3, *(row for row in range(20) if row != 3)]
