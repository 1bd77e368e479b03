"""Checkpoints: what comes back is what was there, and what does not count is not used."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor, nn

from stages.errors import InputError
from stages.finetune import train as finetuning
from stages.finetune.train import Labelled
from stages.pretrain.train import train
from stages.settings import load
from stages.settings.schema import Recipe, Schedule
from stages.tasks.classifier import Classifier
from stages.tasks.draws import draw_labelled
from stages.training import checkpoint
from stages.training.checkpoint import Checkpoint, Origin, narrowed
from stages.training.machine import Machine
from stages.training.optimisation import adamw, decayed_groups
from stages.training.progress import progress
from stages.training.randomness import Stream
from tests.conftest import ROOT, put, strengths, tiny_encoder
from tests.unit.test_loop import ENCODERS, OWN, knobs, learner_of, seeing

HERE = Machine(torch.device("cpu"), "fp32")


class KilledError(Exception):
    """Stands for a signal that cannot be caught: nothing of the training handles it."""


class Killed(Checkpoint):
    """A checkpoint that is always due, and after whose `after`-th writing the process is gone."""

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


# --- a training that was interrupted ends as one that was not


def pretrained(name: str, images: np.ndarray, kept: Checkpoint | None) -> tuple[Any, dict[str, Tensor]]:
    method = learner_of(name, tiny_encoder(ENCODERS.get(name, "residual")))
    stream = Stream.of(1, "run")
    curve, _ = train(name, method, images, knobs(name, epochs=3), HERE, stream, seeing(0.5), kept)
    return curve, method.state_dict()


@pytest.mark.parametrize("name", OWN)
def test_every_method_goes_on_with_the_same_bytes(
    name: str, digits: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = digits[0][:192].numpy()  # 9 steps
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


def finetuned(digits: tuple[Tensor, Tensor], encoder: str, kept: Checkpoint | None) -> dict[str, Tensor]:
    images, labels = digits
    recipe = Recipe(
        encoder_learning_rate=0.01, encoder_learning_rate_many=0.01, head_learning_rate=0.01,
        weight_decay=0.1, weight_decay_many=0.1, labels="own",
    )  # fmt: skip
    schedule = Schedule(
        steps=30, epochs=1, batch_size=8, warmup=0.1, few=10, many=5000, class_weights="equal"
    )
    rows = draw_labelled(labels, 10, 20, 0, 1)
    classifier = Classifier(tiny_encoder(encoder), 10)
    with progress("finetune", 240) as bar:
        finetuning.finetune(
            "simclr n20-draw0", classifier, Labelled(images.numpy(), rows, labels[rows], given=20), schedule,
            recipe, strengths(rotate=10), HERE, Stream.of(1, "finetune"), bar, kept,
        )  # fmt: skip
    return classifier.state_dict()


@pytest.mark.parametrize("encoder", ["cnn", "residual", "vit"])
def test_finetuning_goes_on_with_the_same_bytes(
    encoder: str, digits: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = finetuned(digits, encoder, None)
    with pytest.raises(KilledError):
        finetuned(digits, encoder, Killed(tmp_path / "a", 23))
    resumed = finetuned(digits, encoder, Checkpoint(tmp_path / "a", "key"))
    assert "finetune simclr n20-draw0: resumed at step 23 of 30" in capsys.readouterr().out
    assert all(torch.equal(resumed[key], weights[key]) for key in weights)


# --- what is there counts or is said


def written(path: Path) -> Checkpoint:
    module = nn.Linear(3, 2)
    kept = Checkpoint(path, "key")
    kept.write({"step": 7}, module, adamw(decayed_groups(module, 0.1, 0.1)), [torch.tensor(1.5)])
    return kept


def test_facts_and_losses_come_back(tmp_path: Path) -> None:
    written(tmp_path / "a")
    saved = Checkpoint(tmp_path / "a", "key").saved
    assert saved is not None
    assert saved.facts == {"step": 7}
    module = nn.Linear(3, 2)
    assert saved.restore(module, adamw(decayed_groups(module, 0.1, 0.1))) == [torch.tensor(1.5)]
    assert torch.equal(module.weight, saved.tensors["module.weight"])


def test_the_optimisers_state_lies_in_memory_as_its_parameters(tmp_path: Path) -> None:
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


def test_one_of_another_key_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "a")
    assert Checkpoint(tmp_path / "a", "other").saved is None
    assert capsys.readouterr().out == (
        f"{tmp_path / 'a'}: of other parameters, data or code; starting anew\n"
    )


def test_a_finished_one_of_another_key_is_no_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_a_damaged_one_is_said_and_not_used(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a"
    written(path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert Checkpoint(path, "key").saved is None
    said = capsys.readouterr().out
    assert said.startswith(f"{path}: damaged (")
    assert said.endswith("; starting anew\n")


def test_a_folder_in_its_place_is_said_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    (tmp_path / "a").mkdir()
    kept = written(tmp_path / "a")
    said = capsys.readouterr().out
    assert said == f"{tmp_path / 'a'}: is a folder; no state of this training is kept until it is gone\n"
    assert kept.saved is None
    assert not kept.due()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_one_that_cannot_be_read_is_said_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").symlink_to("a")  # a ring of links: not even root can read it
    written(tmp_path / "a")
    said = capsys.readouterr().out
    assert said == f"{tmp_path / 'a'}: cannot be read (Too many levels of symbolic links); starting anew\n"
    assert Checkpoint(tmp_path / "a", "key").saved is not None


def test_it_is_due_after_a_while_and_the_later_the_dearer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, now = written(tmp_path / "a"), [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    kept.written, kept.cost = 0.0, 0.001
    for seconds, due in ((1.9, False), (2.1, True)):
        now[0] = seconds
        assert kept.due() == due
    kept.cost = 1.0  # a second of writing may come once in fifty
    for seconds, due in ((49.0, False), (51.0, True)):
        now[0] = seconds
        assert kept.due() == due


# --- the key


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with this repository's code and something in place of its data."""
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
    "a parameter": lambda house: rewritten(house, "pretrain.simclr.temperature", 0.7),
    "the preset in force": lambda house: rewritten(house, "views.presets.digits.rotate", 3),
    "threads": lambda house: rewritten(house, "runtime.threads", 1),
    "code": lambda house: appended(house / "stages/pretrain/methods/simclr.py"),
    "shared code": lambda house: appended(house / "stages/views.py"),
    "data": lambda house: appended(house / "data/prepared/images"),
}
IRRELEVANT: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _house: None,
    "a time stamp": lambda house: os.utime(house / "stages/views.py", (1, 1)),
    "another method's parameter": lambda house: rewritten(house, "pretrain.byol.momentum", 0.5),
    "another preset": lambda house: rewritten(house, "views.presets.photos.rotate", 3),
    "another method's code": lambda house: appended(house / "stages/pretrain/methods/byol.py"),
    "labels": lambda house: rewritten(house, "finetune.budgets", [10]),
}


def appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def rewritten(house: Path, key: str, value: Any) -> None:
    raw = load.read(house / "params.yaml")
    put(raw, key, value)
    with (house / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(raw, file)


def key(stage: str = "pretrain", method: str = "simclr", machine: Machine = HERE, without: Any = ()) -> str:
    return Origin.of(stage, method, machine).key(without)


@pytest.mark.parametrize("change", CHANGES)
def test_the_key_changes_with_all_that_the_result_depends_on(house: Path, change: str) -> None:
    before = key()
    CHANGES[change](house)
    assert key() != before


@pytest.mark.parametrize("change", IRRELEVANT)
def test_the_key_stays_with_what_it_does_not_depend_on(house: Path, change: str) -> None:
    before = key()
    IRRELEVANT[change](house)
    assert key() == before


def test_the_key_depends_on_the_machine_and_the_threads(house: Path) -> None:
    assert house.exists()
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


def test_a_part_depends_on_its_own_facts(house: Path) -> None:
    without = ("finetune.budgets", "data/prepared/labels")
    part, whole = key("finetune", without=without), key("finetune")
    rewritten(house, "finetune.budgets", [10])
    appended(house / "data/prepared/labels")
    assert key("finetune", without=without) == part
    assert key("finetune") not in (part, whole)
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
def test_what_changed_while_a_stage_ran_is_named(house: Path, change: str, name: str) -> None:
    origin = Origin.of("pretrain", "simclr", HERE)
    origin.require_unchanged()
    CHANGES[change](house)
    with pytest.raises(
        InputError, match=rf"^pretrain simclr: params.yaml, code or data changed .*\({name}\)"
    ):
        origin.require_unchanged()


def test_a_key_is_of_the_parameters_that_the_stage_goes_by(house: Path) -> None:
    before, raw = key(), load.read(load.PARAMS)
    rewritten(house, "pretrain.simclr.temperature", 0.7)  # just after the stage has read the file
    origin = Origin.of("pretrain", "simclr", HERE, raw)
    assert origin.key() == before
    with pytest.raises(InputError, match=r"\(pretrain\.simclr\)"):
        origin.require_unchanged()
