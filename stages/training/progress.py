"""Progress of a long step: how much is done, how fast, how long it will still take."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_INTERVAL = 10.0  # seconds between two lines of progress where there is no terminal


class _Rate(ProgressColumn):
    """The speed in the task's own unit."""

    def render(self, task: Task) -> str:
        return f"{task.speed or 0:,.0f} {task.fields['unit']}/s"


class Bar:
    """Progress of one long step: a bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.started = self.said = time.monotonic()
        self.bar: tuple[Progress, TaskID] | None = None

    def advance(self, count: int, note: str = "") -> None:
        """`count` more of the units are done; `note` is shown beside them."""
        self.done += count
        if self.bar is not None:
            self.bar[0].update(self.bar[1], advance=count, note=note)
        elif time.monotonic() - self.said >= PLAIN_INTERVAL:
            self.say(note)

    def skip(self, count: int) -> None:
        """`count` of the units need not be done: an earlier run has done them."""
        self.total -= count
        if self.bar is not None:
            self.bar[0].update(self.bar[1], total=self.total)

    def say(self, note: str = "") -> None:
        """Print one plain line: how much is done, how fast, how long it will still take."""
        self.said = time.monotonic()
        rate = self.done / max(self.said - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        print(
            f"{self.title}: {self.done:,}/{self.total:,} {self.unit} "
            f"({self.done / max(self.total, 1):.0%}), {rate:,.0f} {self.unit}/s, {left:.0f} s left  {note}",
            flush=True,
        )


@contextmanager
def progress(title: str, total: int, unit: str = "images") -> Iterator[Bar]:
    """Show how a step of `total` units goes on: rate and remaining time."""
    bar = Bar(title, total, unit)
    if sys.stdout.isatty():
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            _Rate(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns) as live:
            bar.bar = (live, live.add_task(title, total=total, unit=unit, note=""))
            yield bar
    else:
        yield bar
        bar.say("done")
