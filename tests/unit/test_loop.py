"""The training loop on tiny tasks that have neither images nor labels."""

import math
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.errors import InputError
from stages.training import optimisation
from stages.training.checkpoint import Checkpoint
from stages.training.loop import Length, Row, Task, Watch, train
from stages.training.progress import Bar
from stages.training.randomness import Stream

STREAM = Stream.of(1, "run")


class Scripted(Task):
    """A task whose loss at the k-th step is `script(k)`, k from 1, with gradients of zero."""

    def __init__(self, script: Callable[[int], float] = lambda _step: 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.script = script
        self.batches: list[list[int]] = []
        self.streams: list[Stream] = []
        self.in_training_mode: list[bool] = []
        self.progress: list[float] = []

    def loss(self, items: Tensor, stream: Stream) -> Tensor:
        self.batches.append(items.tolist())
        self.streams.append(stream)
        self.in_training_mode.append(self.training)
        return sum(0 * p.sum() for p in self.parameters()) + torch.tensor(self.script(len(self.batches)))

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)


class Regression(Task):
    """A small network with BatchNorm that learns the products of the items' numbers, with random noise."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(40, 3, generator=generator)
        self.targets = self.inputs.prod(1, keepdim=True)
        self.network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        for parameter in self.network.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)

    def loss(self, items: Tensor, stream: Stream) -> Tensor:
        noise = 0.1 * stream.normal(torch.arange(len(items)), 3)
        return (self.network(self.inputs[items] + noise) - self.targets[items]).square().mean()


class Columns(Watch):
    """A row of the curve every `every` steps, with a column."""

    def __init__(self, every: int) -> None:
        super().__init__("text")
        self.every = every

    def look(self, row: Row) -> None:
        row["tens"] = row["step"] / 10


def run(
    task: Task,
    steps: int,
    watch: Watch | None = None,
    checkpoint: Checkpoint | None = None,
    items: int = 20,
    batch_size: int = 4,
    warmup: float = 0.1,
    weight_decay: float = 0.0,
    bar: Bar | None = None,
) -> list[Row]:
    optimiser = optimisation.adamw(optimisation.decayed_groups(task, 0.1, weight_decay))
    length = Length(steps, batch_size, warmup)
    bar = bar or Bar("title", steps * batch_size, "items")
    curve, seconds = train("title", task, items, length, optimiser, STREAM, bar, watch, checkpoint)
    assert seconds > 0
    return curve


# --- batches and schedule


def test_each_item_is_used_once_per_epoch_with_the_stream_of_its_step() -> None:
    task = Scripted()
    run(task, steps=15)
    for epoch in range(3):
        assert sorted(chain.from_iterable(task.batches[5 * epoch :][:5])) == list(range(20))
    for step in range(15):
        assert task.streams[step] == STREAM.at("step", step)
        assert task.batches[step] == optimisation.batch_indices(step, 4, 20, STREAM.at("order")).tolist()


def test_batches_may_be_larger_than_the_number_of_items() -> None:
    task, bar = Scripted(), Bar("title", 1, "items")
    run(task, steps=2, items=3, batch_size=7, bar=bar)
    numbers = list(chain.from_iterable(task.batches))
    assert len(numbers) == bar.done == 14
    assert all(sorted(numbers[start : start + 3]) == [0, 1, 2] for start in (0, 3, 6, 9))


def test_progress_after_each_step_rises_to_one() -> None:
    task = Scripted()
    run(task, steps=8)
    assert task.progress == [step / 8 for step in range(1, 9)]


def test_learning_rate_follows_the_schedule() -> None:
    task = Scripted()  # with gradients of zero, weights change only by decay, and biases do not change
    weight, bias = task.layer.weight.detach().clone(), task.layer.bias.detach().clone()
    curve = run(task, steps=10, watch=Columns(1), warmup=0.3, weight_decay=0.5)
    rates = [0.1 * optimisation.warmup_cosine(step, 10, 0.3) for step in range(10)]
    torch.testing.assert_close(task.layer.weight, weight * math.prod(1 - 0.5 * rate for rate in rates))
    assert torch.equal(task.layer.bias, bias)
    assert [row["learning_rate"] for row in curve] == pytest.approx([0.0, *rates], rel=1e-3)


def test_the_loss_falls() -> None:
    curve = run(Regression(), steps=200, items=40, batch_size=16)
    assert curve[-1]["loss"] < 0.5 * curve[1]["loss"]


# --- the training curve


def test_by_default_the_curve_has_a_row_every_20_steps_and_one_at_the_end() -> None:
    curve = run(Scripted(), steps=45)
    assert [row["step"] for row in curve] == [0, 20, 40, 45]
    assert curve[0] == {"step": 0, "loss": None, "learning_rate": 0.0}


def test_losses_in_the_curve_are_means_since_the_previous_row() -> None:
    curve = run(Scripted(float), steps=17, watch=Columns(5))
    assert [row["step"] for row in curve] == [0, 5, 10, 15, 17]
    assert all(row["tens"] == row["step"] / 10 for row in curve)
    for before, row in pairwise(curve):
        assert row["loss"] == pytest.approx(np.mean(range(before["step"] + 1, row["step"] + 1)))


def test_a_watch_may_leave_the_model_in_evaluation_mode() -> None:
    task = Scripted()

    class Evaluating(Watch):
        """Examines the model at every step."""

        every = 1

        def look(self, row: Row) -> None:
            assert row["step"] == len(task.batches)
            task.eval()

    run(task, steps=4, watch=Evaluating())
    assert task.in_training_mode == [True] * 4


def test_the_text_of_the_watch_is_shown_beside_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, notes = Bar("title", 1, "items"), []
    monkeypatch.setattr(bar, "advance", lambda count, note: notes.append((count, note)))
    run(Scripted(), steps=2, watch=Columns(1), bar=bar)
    assert notes == [(4, "text"), (4, "text")]


# --- a loss or a weight that is not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [1, 2, 9, 10, 11, 44, 45])
def test_the_first_bad_step_is_named_with_the_last_good_row(step: int, bad: float) -> None:
    # The step is exact also if it is between two rows of the curve.
    task = Scripted(lambda k: bad if k >= step else 0.125)
    with pytest.raises(InputError) as caught:
        run(task, steps=45, watch=Columns(10))
    (message,) = caught.value.args
    rows = [0, 10, 20, 30, 40, 45]
    assert len(task.batches) == min(row for row in rows if row >= step)
    last = max(row for row in rows if row < step)
    good = f"step {last}, " + ("loss 0.125, " if last else "") + "learning_rate "
    assert message.startswith(f"title: the loss is {bad} at step {step}; last good figures: {good}")
    assert f"tens {last / 10}; try a lower learning rate" in message
    assert message.endswith("no model was written")


def test_one_bad_step_among_good_ones_is_found() -> None:
    task = Scripted(lambda k: math.nan if k == 5 else 1.0)
    with pytest.raises(InputError, match="the loss is nan at step 5;"):
        run(task, steps=45)


def test_weights_that_the_last_step_makes_nan_are_found() -> None:
    class Breaking(Scripted):
        """The loss of the last step is finite, but its gradient is not."""

        def loss(self, items: Tensor, stream: Stream) -> Tensor:
            loss = super().loss(items, stream)
            return loss + (0 * self.layer.weight.sum()).sqrt() if len(self.batches) == 3 else loss

    with pytest.raises(InputError, match=r"^title: the last step made layer\.weight infinite or NaN; try"):
        run(Breaking(), steps=3)


# --- checkpoints


class KilledError(Exception):
    """Stands for a signal that the process cannot handle."""


class Killing(Checkpoint):
    """A checkpoint that is written after every step, and kills the training after the k-th time."""

    def __init__(self, path: Path, after: int) -> None:
        super().__init__(path, "key")
        self.left = after

    def due(self) -> bool:
        return True

    def write(self, *state: Any) -> None:
        super().write(*state)
        self.left -= 1
        if self.left == 0:
            raise KilledError


@pytest.mark.parametrize("stops", [[1], [7], [10], [29], [3, 3, 3, 3]])
def test_a_resumed_training_ends_with_the_same_bytes(
    stops: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def training(checkpoint: Checkpoint | None) -> tuple[list[Row], dict[str, Tensor], Bar]:
        task, bar = Regression(), Bar("title", 30 * 16, "items")
        curve = run(task, 30, Columns(10), checkpoint, items=40, batch_size=16, weight_decay=0.1, bar=bar)
        return curve, task.state_dict(), bar

    curve, weights, _ = training(None)
    for after in stops:
        with pytest.raises(KilledError):
            training(Killing(tmp_path / "state", after))
    for done in (sum(stops), 30):  # the second time, the checkpoint is that of a finished training
        capsys.readouterr()
        resumed_curve, resumed_weights, bar = training(Checkpoint(tmp_path / "state", "key"))
        assert f"title: resumed at step {done} of 30" in capsys.readouterr().out
        assert resumed_curve == curve
        assert all(torch.equal(resumed_weights[name], weights[name]) for name in weights)
        assert bar.done == bar.total == (30 - done) * 16
