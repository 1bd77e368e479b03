"""Progress of a long computation: how much is done, how fast, and the time that remains."""

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

PLAIN_INTERVAL = 10.0  # seconds between two lines if the output is not a terminal


class _Rate(ProgressColumn):
    """The speed in the task's unit."""

    def render(self, task: Task) -> str:
        return f"{task.speed or 0:,.0f} {task.fields['unit']}/s"


class Bar:
    """Progress of one computation: a bar on a terminal, otherwise a line every `PLAIN_INTERVAL` seconds.

    Args:
        total: number of units to do.
        unit: what is counted, in the plural, such as "images".
    """

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.started = self.printed = time.monotonic()
        self.bar: tuple[Progress, TaskID] | None = None

    def advance(self, count: int, note: str = "") -> None:
        """Record that `count` more units are done; `note` is shown beside the progress."""
        self.done += count
        if self.bar is not None:
            self.bar[0].update(self.bar[1], advance=count, note=note)
        elif time.monotonic() - self.printed >= PLAIN_INTERVAL:
            self.print_line(note)

    def skip(self, count: int) -> None:
        """Leave out `count` units that an earlier run has done."""
        self.total -= count
        if self.bar is not None:
            self.bar[0].update(self.bar[1], total=self.total)

    def print_line(self, note: str = "") -> None:
        """Print one line: how much is done, how fast, and the time that remains."""
        self.printed = time.monotonic()
        rate = self.done / max(self.printed - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        print(
            f"{self.title}: {self.done:,}/{self.total:,} {self.unit} "
            f"({self.done / max(self.total, 1):.0%}), {rate:,.0f} {self.unit}/s, {left:.0f} s left  {note}",
            flush=True,
        )


@contextmanager
def progress(title: str, total: int, unit: str = "images") -> Iterator[Bar]:
    """Show the progress of a computation of `total` units while the context is open."""
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
        bar.print_line("done")
