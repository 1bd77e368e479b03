"""Several pretraining runs, and seeds of their own for split, draws and training."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from stages.evaluate.every_model import collect, frozen_tasks
from stages.evaluate.measuring import Measured, OfModel
from stages.files import weights
from stages.files.digests import TABLE
from stages.files.json_files import write_json
from stages.files.paths import CLASSIFIERS, IMAGES, LABELS, encoder_file
from stages.files.tables import read_table, write_table
from stages.finetune import every_draw
from stages.finetune.trainings import Draw
from stages.pretrain import __main__ as pretrain
from stages.pretrain.run import Result, stream_of
from stages.settings import load
from stages.settings.recipes import Recipe
from stages.tasks.chosen import recipes_file, write_recipes
from stages.tasks.labels import read_pool_labels
from stages.tasks.model_index import Model, read_index
from stages.training.checkpoint import remove_unused
from stages.training.randomness import Stream
from tests.conftest import ROOT, seal, tiny_encoder
from tests.pipeline.conftest import SMALL, change
from tests.unit.test_stages import write_part

Labelled = tuple[Tensor, Tensor]
CHANGES = {
    "methods": ["scratch", "simclr", "imported"], "pretrain.simclr.steps": 3,
    "finetune.budgets": [10, "all"], "finetune.draws": 3,
}  # fmt: skip


@pytest.fixture
def project(in_copy: Path, digits: Labelled) -> Path:
    """A working directory with a small pool, and parameters with which each stage takes a moment."""
    (in_copy / "stages").symlink_to(ROOT / "stages")
    change(in_copy / "params.yaml", SMALL | CHANGES)
    images, labels = (part.numpy() for part in digits)
    write_part(IMAGES, "pool", images[:200], labels[:200])
    write_part(IMAGES, "validation", images[200:300], labels[200:300])
    write_table(LABELS / "pool.csv", read_table(IMAGES / "pool.csv")[["id", "label"]])
    write_json(LABELS / "classes.json", [str(digit) for digit in range(10)])
    seal()
    recipe = Recipe(encoder_learning_rate=0.003, head_learning_rate=0.01, weight_decay=0.5)
    write_recipes(recipes_file("simclr"), {"n10": recipe, "nall": recipe}, or_frozen=False)
    return in_copy


def put(**values: Any) -> None:
    """Change parameters; `a__b` stands for a.b."""
    change(load.PARAMS, {key.replace("__", "."): value for key, value in values.items()})


def figures(method: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(f"metrics/pretrain/{method}.json").read_text())
    return content


def written_at(folder: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).iterdir()}


# --- pretraining


def test_the_streams_of_runs_differ_and_that_of_run_0_does_not_know_of_runs() -> None:
    assert stream_of(1, 0) == Stream.of(1, "pretrain")
    keys = {stream_of(seed, run).key for seed, run in itertools.product((1, 2), range(5))}
    assert len(keys) == 10


def test_a_second_run_has_an_encoder_of_its_own_and_leaves_the_first(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain.main("simclr")
    first, alone = encoder_file("simclr", 0).read_bytes(), figures("simclr")
    curve = pd.read_csv("metrics/pretrain/simclr.csv")
    assert alone["runs"] == [{name: alone[name] for name in alone["runs"][0]}]
    capsys.readouterr()

    put(pretrain__runs=2)
    pretrain.main("simclr")
    lines = re.findall(r"^pretrain simclr.*: resumed.*", capsys.readouterr().out, re.MULTILINE)
    assert lines == ["pretrain simclr, run 0: resumed at step 3 of 3"]
    assert encoder_file("simclr", 0).read_bytes() == first != encoder_file("simclr", 1).read_bytes()
    both = figures("simclr")
    runs = both["runs"]
    assert runs[0] == alone["runs"][0] != runs[1]
    for name in ("knn", "knn_untrained"):
        assert both[name] == pytest.approx((runs[0][name] + runs[1][name]) / 2, abs=1e-4)
    assert both["loss"] == alone["loss"] != runs[1]["loss"]
    curves = pd.read_csv("metrics/pretrain/simclr.csv")
    pd.testing.assert_frame_equal(curves[curves["run"] == 0], curve)
    assert list(curves[curves["run"] == 1]["step"]) == list(curve["step"])

    put(pretrain__runs=1)
    pretrain.main("simclr")
    for folder, names in (
        ("models/encoders", {"run0.safetensors", TABLE}),
        ("models/checkpoints/pretrain", {"run0"}),
    ):
        assert {path.name for path in (project / folder / "simclr").iterdir()} == names
    assert encoder_file("simclr", 0).read_bytes() == first
    assert figures("simclr") | {"made_from": None} == alone | {"made_from": None}


@pytest.mark.usefixtures("project")
def test_in_each_run_all_methods_start_from_the_same_weights() -> None:
    put(pretrain__runs=2, pretrain__simclr__learning_rate=0.0)
    for method in ("scratch", "simclr"):
        pretrain.main(method)
    scratch, simclr = (
        [list(weights.read_encoder(encoder_file(method, run)).parameters()) for run in (0, 1)]
        for method in ("scratch", "simclr")
    )
    for run in (0, 1):
        assert all(torch.equal(a, b) for a, b in zip(scratch[run], simclr[run], strict=True))
    assert not torch.equal(scratch[0][0], scratch[1][0])


@pytest.mark.usefixtures("project")
def test_every_run_starts_from_given_weights_and_trains_on_batches_of_its_own() -> None:
    weights.write_encoder(Path("other.safetensors"), tiny_encoder(seed=5))
    start = {"file": "other.safetensors", "digest": weights.read_digest(Path("other.safetensors"))}
    put(pretrain__runs=2, pretrain__imported__start=start, pretrain__simclr__start=start)
    for method in ("imported", "simclr"):
        pretrain.main(method)
    given = Path("other.safetensors").read_bytes()
    assert [encoder_file("imported", run).read_bytes() for run in (0, 1)] == [given, given]
    first, second = figures("simclr")["runs"]
    assert first["knn_untrained"] == second["knn_untrained"] == figures("imported")["knn"]
    assert encoder_file("simclr", 0).read_bytes() != encoder_file("simclr", 1).read_bytes()


@pytest.mark.parametrize(
    ("collapses", "expected"),
    [
        ([None], None),
        (["step 2: flat"], "step 2: flat"),
        ([None, "step 2: flat", "step 1: flat"], "run 1, step 2: flat"),
        ([None, None], None),
    ],
)
def test_a_collapse_names_the_first_run_that_has_one(
    collapses: list[str | None], expected: str | None
) -> None:
    row = {"knn": None, "loss": 1.0, "feature_std": 0.5, "rankme": 3.0}
    results = [Result([row], text, [], 0, 0, 0.0, 0.0, 0.0, {}) for text in collapses]
    combined = pretrain.combined(results)
    assert combined["collapse"] == expected
    assert [run["collapse"] for run in combined["runs"]] == collapses
    assert combined["knn"] is combined["knn_untrained"] is None


def test_a_checkpoint_of_an_earlier_version_makes_room_for_those_of_the_runs(tmp_path: Path) -> None:
    (tmp_path / "simclr").write_bytes(b"one checkpoint")
    remove_unused(tmp_path / "simclr", {"run0"})
    assert list(tmp_path.iterdir()) == []
    remove_unused(tmp_path / "simclr", {"run0"})  # there is none at all


# --- finetuning


@pytest.mark.usefixtures("project")
def test_a_further_run_trains_only_the_draws_whose_encoder_it_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoints = "models/checkpoints/finetune/simclr"
    pretrain.main("simclr")
    every_draw.main("simclr")
    before, written = read_index(CLASSIFIERS / "simclr"), written_at(checkpoints)
    bytes_before = {model.file: (CLASSIFIERS / "simclr" / model.file).read_bytes() for model in before}
    assert {(model.run, model.parent) for model in before} == {(0, str(encoder_file("simclr", 0)))}

    put(pretrain__runs=2)
    pretrain.main("simclr")
    capsys.readouterr()
    every_draw.main("simclr")
    models = read_index(CLASSIFIERS / "simclr")
    assert [(m.file, m.budget, m.draw) for m in models] == [(m.file, m.budget, m.draw) for m in before]
    assert [(m.draw, m.run, m.parent) for m in models] == 2 * [
        (draw, run, str(encoder_file("simclr", run))) for draw, run in ((0, 0), (1, 1), (2, 0))
    ]
    for model in models:
        same = (CLASSIFIERS / "simclr" / model.file).read_bytes() == bytes_before[model.file]
        assert same == (model.run == 0)
    now, of_run_1 = written_at(checkpoints), {"n10-draw1", "nall-draw1"}
    assert {name for name in now if now[name] != written.get(name)} == of_run_1
    resumed = re.findall(
        r"finetune simclr (\S+): resumed at step (\d+) of \2$", capsys.readouterr().out, re.M
    )
    assert {name for name, _ in resumed} == {"n10-draw0", "n10-draw2", "nall-draw0", "nall-draw2"}


@pytest.mark.usefixtures("project")
def test_a_missing_encoder_of_a_run_is_named() -> None:
    pretrain.main("simclr")
    put(pretrain__runs=2)
    with pytest.raises(FileNotFoundError, match=r"models/encoders/simclr/run1\.safetensors"):
        every_draw.main("simclr")


# --- evaluation


def of_model(budget: str, draw: int, run: int) -> OfModel:
    file = f"{budget}-draw{draw}.safetensors"
    return OfModel(Path(file), Model(file, "finetuned", budget, draw, run, ""))


def test_a_frozen_encoder_is_measured_once_for_equal_labels_and_its_figures_are_in_order() -> None:
    models = [of_model(budget, draw, draw % 2) for budget in ("n10", "nall") for draw in range(4)]
    tasks = frozen_tasks(models)
    assert [(task.budget, task.run, task.draws) for task in tasks] == [
        ("n10", 0, (0,)), ("n10", 1, (1,)), ("n10", 0, (2,)), ("n10", 1, (3,)),
        ("nall", 0, (0, 2)), ("nall", 1, (1, 3)),
    ]  # fmt: skip
    measured = {
        number: Measured({"linear": {"run": task.run, "draw": task.draws[0]}}, 0.0, 0, None)
        for number, task in enumerate(tasks)
    }
    in_order = collect(tasks, measured)
    assert [figure["draw"] for figure in in_order["n10"]["linear"]] == [0, 1, 2, 3]
    assert [figure["run"] for figure in in_order["nall"]["linear"]] == [0, 1, 0, 1]


# --- seeds


def draws() -> list[Draw]:
    labels, classes = read_pool_labels()
    settings = load.parameters("finetune", "simclr")
    return every_draw.make_draws("simclr", settings, labels, len(classes))


def test_each_stage_declares_only_the_seeds_that_it_uses(in_copy: Path) -> None:
    assert in_copy.exists()
    stages = {"prepare": None, "pretrain": "simclr", "finetune": "simclr", "evaluate": "simclr"}
    declared = {
        stage: [key for key in load.declared_keys(stage, method, load.read(load.PARAMS)) if "seed" in key]
        for stage, method in {**stages, "compare": None}.items()
    }
    assert declared == {
        "prepare": ["seeds.split"], "pretrain": ["seeds.training"], "evaluate": ["seeds.draws"],
        "finetune": ["seeds.draws", "seeds.training"], "compare": [],
    }  # fmt: skip


@pytest.mark.usefixtures("project")
def test_a_seed_moves_its_own_part_only() -> None:
    def rows_and_streams() -> tuple[list[list[int]], list[Stream]]:
        made = [draw for draw in draws() if draw.budget == "n10"]
        return [draw.rows.tolist() for draw in made], [draw.stream for draw in made]

    def encoder() -> bytes:
        pretrain.main("scratch")
        return encoder_file("scratch", 0).read_bytes()

    rows, streams = rows_and_streams()
    weights_before = encoder()
    put(seeds__training=2)
    assert rows_and_streams()[0] == rows
    assert not set(rows_and_streams()[1]) & set(streams)
    assert encoder() != weights_before
    put(seeds__training=1, seeds__draws=2)
    assert all(now != before for now, before in zip(rows_and_streams()[0], rows, strict=True))
    assert rows_and_streams()[1] == streams
    assert encoder() == weights_before
    put(seeds__draws=1, seeds__split=2)
    assert rows_and_streams() == (rows, streams)
    assert encoder() == weights_before


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("runs", [1, 2, 3, 5])
def test_draws_take_turns_in_the_runs(runs: int) -> None:
    put(pretrain__runs=runs, finetune__draws=4)
    assert [draw.run for draw in draws()] == 2 * [number % runs for number in range(4)]
