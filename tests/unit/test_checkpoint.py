"""Checkpoints: a resumed training ends with the same bytes; damaged or outdated checkpoints are not used."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor, nn

from stages.errors import InputError
from stages.pretrain.train import train
from stages.settings import load
from stages.settings.recipes import Recipe, Schedule
from stages.tasks import finetuning
from stages.tasks.classifier import Classifier
from stages.tasks.draws import draw_labelled
from stages.tasks.finetuning import Labelled
from stages.training import checkpoint
from stages.training.checkpoint import Checkpoint, Origin, narrowed
from stages.training.machine import Machine
from stages.training.optimisation import adamw, decayed_groups
from stages.training.progress import progress
from stages.training.randomness import Stream
from stages.views.augment import random_views
from tests.conftest import ROOT, put, strengths, tiny_encoder
from tests.tiny_methods import METHODS, constant_knn, parameters, tiny_learner

CPU = Machine(torch.device("cpu"), "fp32")


class KilledError(Exception):
    """Stands for SIGKILL: the training does not handle it."""


class Killed(Checkpoint):
    """A checkpoint that is always due; the process is killed after it was written `after` times."""

    def __init__(self, path: Path, after: int) -> None:
        super().__init__(path, "key")
        self.after = after

    def due(self) -> bool:
        return True

    def write(self, *state: Any) -> None:
        super().write(*state)
        self.after -= 1
        if self.after == 0:
            raise KilledError


# --- resumed trainings


def pretrained(name: str, images: np.ndarray, checkpoint: Checkpoint | None) -> tuple[Any, dict[str, Tensor]]:
    learner = tiny_learner(name)
    stream = Stream.of(1, "run")
    curve, _ = train(
        name,
        learner,
        images,
        parameters(name, steps=9),
        CPU,
        stream,
        constant_knn(0.5),
        checkpoint=checkpoint,
    )
    return curve, learner.state_dict()


@pytest.mark.parametrize("name", METHODS)
def test_resumed_pretraining_ends_with_the_same_bytes(
    name: str, digits: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = digits[0][:192].numpy()
    curve, weights = pretrained(name, images, None)
    for after in (2, 3):
        with pytest.raises(KilledError):
            pretrained(name, images, Killed(tmp_path / "a", after))
    capsys.readouterr()
    resumed_curve, resumed = pretrained(name, images, Checkpoint(tmp_path / "a", "key"))
    assert f"pretrain {name}: resumed at step 5 of 9" in capsys.readouterr().out
    assert resumed_curve == curve
    assert all(torch.equal(resumed[key], weights[key]) for key in weights)
    again_curve, again = pretrained(name, images, Checkpoint(tmp_path / "a", "key"))  # finished
    assert "resumed at step 9 of 9" in capsys.readouterr().out
    assert again_curve == curve
    assert all(torch.equal(again[key], weights[key]) for key in weights)


def finetuned(
    digits: tuple[Tensor, Tensor], encoder: str, checkpoint: Checkpoint | None
) -> dict[str, Tensor]:
    images, labels = digits
    recipe = Recipe(encoder_learning_rate=0.01, head_learning_rate=0.01, weight_decay=0.1)
    schedule = Schedule(steps=30, epochs=1, batch_size=8, warmup=0.1, many=5000, class_weights="equal")
    rows = draw_labelled(labels, 10, 20, 0, 1)
    classifier = Classifier(tiny_encoder(encoder), 10)
    with progress("finetune", 240) as bar:
        finetuning.finetune(
            "simclr n20-draw0", classifier, Labelled(images.numpy(), rows, labels[rows], given=20), schedule,
            recipe, partial(random_views, strengths=strengths(rotate=10)), CPU, Stream.of(1, "finetune"), bar,
            checkpoint,
        )  # fmt: skip
    return classifier.state_dict()


@pytest.mark.parametrize("encoder", ["cnn", "residual", "vit"])
def test_resumed_finetuning_ends_with_the_same_bytes(
    encoder: str, digits: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = finetuned(digits, encoder, None)
    with pytest.raises(KilledError):
        finetuned(digits, encoder, Killed(tmp_path / "a", 23))
    resumed = finetuned(digits, encoder, Checkpoint(tmp_path / "a", "key"))
    assert "finetune simclr n20-draw0: resumed at step 23 of 30" in capsys.readouterr().out
    assert all(torch.equal(resumed[key], weights[key]) for key in weights)


# --- reading and writing


def written(path: Path) -> Checkpoint:
    module, result = nn.Linear(3, 2), Checkpoint(path, "key")
    result.write({"step": 7}, module, adamw(decayed_groups(module, 0.1, 0.1)), [torch.tensor(1.5)])
    return result


def test_facts_and_losses_come_back(tmp_path: Path) -> None:
    written(tmp_path / "a")
    saved = Checkpoint(tmp_path / "a", "key").saved
    assert saved is not None
    assert saved.facts == {"step": 7}
    module = nn.Linear(3, 2)
    assert saved.restore(module, adamw(decayed_groups(module, 0.1, 0.1))) == [torch.tensor(1.5)]
    assert torch.equal(module.weight, saved.tensors["module.weight"])


def test_the_state_of_the_optimiser_has_the_memory_layout_of_its_parameters(tmp_path: Path) -> None:
    module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimiser = adamw(decayed_groups(module, 0.1, 0.1))
    module(torch.ones(2, 3, 5, 5)).square().sum().backward()
    optimiser.step()
    Checkpoint(tmp_path / "a", "key").write({}, module, optimiser, [])
    saved = Checkpoint(tmp_path / "a", "key").saved
    assert saved is not None
    fresh = adamw(decayed_groups(module, 0.1, 0.1))
    saved.restore(module, fresh)
    for name, value in optimiser.state[module.weight].items():
        assert torch.equal(fresh.state[module.weight][name], value)
        assert fresh.state[module.weight][name].stride() == value.stride()


def test_a_checkpoint_with_another_key_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "a")
    assert Checkpoint(tmp_path / "a", "other").saved is None
    message = "was made with other parameters, data or code; starting from the beginning"
    assert capsys.readouterr().out == f"{tmp_path / 'a'}: {message}\n"


def test_a_finished_checkpoint_with_another_key_is_ignored_without_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "a").write({"step": 8}, nn.Linear(3, 2), None, [])
    assert Checkpoint(tmp_path / "a", "other").saved is None
    assert capsys.readouterr().out == ""


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _content: b"",
    "only a digest": lambda content: content[:32],
    "truncated": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "a bit of the digest": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "a bit of the header": lambda content: content[:50] + bytes([content[50] ^ 4]) + content[51:],
    "a bit of a weight": lambda content: content[:-20] + bytes([content[-20] ^ 16]) + content[-19:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_not_used(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a"
    written(path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert Checkpoint(path, "key").saved is None
    message = capsys.readouterr().out
    assert message.startswith(f"{path}: is damaged (")
    assert message.endswith("; starting from the beginning\n")


def test_a_folder_at_its_path_is_reported_and_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    (tmp_path / "a").mkdir()
    unsaved = written(tmp_path / "a")
    message = "is a folder, so no checkpoint of this training is written; remove the folder"
    assert capsys.readouterr().out == f"{tmp_path / 'a'}: {message}\n"
    assert unsaved.saved is None
    assert not unsaved.due()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_an_unreadable_checkpoint_is_reported_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").symlink_to("a")  # a link to itself: not even root can read it
    written(tmp_path / "a")
    message = "cannot be read (Too many levels of symbolic links); starting from the beginning"
    assert capsys.readouterr().out == f"{tmp_path / 'a'}: {message}\n"
    assert Checkpoint(tmp_path / "a", "key").saved is not None


def test_it_is_due_less_often_if_writing_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, now = written(tmp_path / "a"), [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    slow.written, slow.cost = 0.0, 0.001
    for seconds, due in ((1.9, False), (2.1, True)):
        now[0] = seconds
        assert slow.due() == due
    slow.cost = 1.0  # one second of writing in 50 seconds
    for seconds, due in ((49.0, False), (51.0, True)):
        now[0] = seconds
        assert slow.due() == due


# --- the key


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the code of this repository and placeholders for its data."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    for stage in ("pretrain", "finetune"):
        monkeypatch.chdir(tmp_path)
        for dependency in load.declared_files(stage, "simclr"):
            path = tmp_path / dependency
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("x")
    return tmp_path


CHANGES: dict[str, Callable[[Path], object]] = {
    "a parameter": lambda project: rewritten(project, "pretrain.simclr.temperature", 0.7),
    "the preset in use": lambda project: rewritten(project, "views.presets.digits.rotate", 3),
    "threads": lambda project: rewritten(project, "runtime.threads.pretrain", 1),
    "code": lambda project: appended(project / "stages/pretrain/methods/simclr.py"),
    "shared code": lambda project: appended(project / "stages/views/augment.py"),
    "data": lambda project: appended(project / "data/prepared/images"),
}
IRRELEVANT: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _project: None,
    "a time stamp": lambda project: os.utime(project / "stages/views/augment.py", (1, 1)),
    "another method's parameter": lambda project: rewritten(project, "pretrain.byol.momentum", 0.5),
    "another preset": lambda project: rewritten(project, "views.presets.photos.rotate", 3),
    "another method's code": lambda project: appended(project / "stages/pretrain/methods/byol.py"),
    "labels": lambda project: rewritten(project, "finetune.budgets", [10]),
}


def appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def rewritten(project: Path, key: str, value: Any) -> None:
    raw = load.read(project / "params.yaml")
    put(raw, key, value)
    with (project / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(raw, file)


def key(stage: str = "pretrain", method: str = "simclr", machine: Machine = CPU, without: Any = ()) -> str:
    return Origin.of(stage, method, machine).key(without)


@pytest.mark.parametrize("change", CHANGES)
def test_the_key_depends_on_everything_that_the_result_depends_on(project: Path, change: str) -> None:
    before = key()
    CHANGES[change](project)
    assert key() != before


@pytest.mark.parametrize("change", IRRELEVANT)
def test_the_key_depends_on_nothing_else(project: Path, change: str) -> None:
    before = key()
    IRRELEVANT[change](project)
    assert key() == before


def test_the_key_depends_on_the_machine_and_the_threads(project: Path) -> None:
    assert project.exists()
    before = key()
    assert key(machine=Machine(torch.device("cpu"), "bf16")) != before
    assert key(method="autoencoder") != before
    assert key("finetune") != before
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert key() != before
    finally:
        torch.set_num_threads(threads)


def test_the_key_of_a_part_depends_on_its_facts(project: Path) -> None:
    without = ("finetune.budgets", "data/prepared/labels")
    part, full = key("finetune", without=without), key("finetune")
    rewritten(project, "finetune.budgets", [10])
    appended(project / "data/prepared/labels")
    assert key("finetune", without=without) == part
    assert key("finetune") not in (part, full)
    assert narrowed(part, [1, 2]) == narrowed(part, [1, 2])
    assert len({part, narrowed(part, [1, 2]), narrowed(part, [1, 3]), narrowed(part, [1], [2])}) == 4


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("a parameter", "pretrain.simclr"),
        ("code", "stages/pretrain/methods/simclr.py"),
        ("data", "data/prepared/images"),
    ],
)
def test_a_change_while_a_stage_runs_is_named(project: Path, change: str, name: str) -> None:
    origin = Origin.of("pretrain", "simclr", CPU)
    origin.require_unchanged()
    CHANGES[change](project)
    with pytest.raises(
        InputError, match=rf"^pretrain simclr: params.yaml, code or data changed .*\({name}\)"
    ):
        origin.require_unchanged()


def test_the_key_is_that_of_the_parameters_that_the_stage_has_read(project: Path) -> None:
    before, raw = key(), load.read(load.PARAMS)
    rewritten(project, "pretrain.simclr.temperature", 0.7)  # just after the stage has read the file
    origin = Origin.of("pretrain", "simclr", CPU, raw)
    assert origin.key() == before
    with pytest.raises(InputError, match=r"\(pretrain\.simclr\)"):
        origin.require_unchanged()
