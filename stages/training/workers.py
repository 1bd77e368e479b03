"""Worker processes: independent tasks, such as trainings, side by side on all cores or GPUs.

Each worker opens what the tasks share once, then does one task after another. What a task gives depends only
on the task. Therefore results do not depend on the number of workers, nor on the order in which they end.

A server process, which has imported PyTorch and computed nothing, forks the workers ("forkserver"). It has no
threads but OpenBLAS's, which OpenBLAS stops before a fork and starts again. Forking the stage itself is not
safe, because OpenMP's threads and a CUDA context do not survive a fork. Starting each worker afresh ("spawn")
imports PyTorch once for each worker; this is done on systems other than Linux, whose libraries do not allow
forks. One worker alone needs no process: its tasks run in the stage itself.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection, forkserver
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from stages.errors import InputError
from stages.training.progress import Bar
from stages.training.resources import available_memory_mb, cores
from stages.training.worker import PATIENCE, serve

LIMIT = "HEADSTART_WORKERS"  # environment variable: the number of workers of a stage
JOBS = "JOBS"  # environment variable of `make repro JOBS=n`: so many stages share the cores
MEMORY_MB = 1000  # that a worker takes: libraries, encoder, batch, and the graph of the pool in distil
SHOWN = 4  # tasks that are named beside the progress at most
T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

FORKS = sys.platform == "linux"
# Any, because the two contexts have no common type.
_context: Any = multiprocessing.get_context("forkserver" if FORKS else "spawn")


def fitting(threads: int) -> int:
    """How many workers with `threads` threads each run side by side.

    As many as there are cores and memory for, or as the environment says.

    Raises:
        InputError: HEADSTART_WORKERS is not a positive number.
    """
    text = os.environ.get(LIMIT, "")
    if text:
        if not _is_count(text):
            raise InputError(f"environment variable {LIMIT} is {text!r}; allowed: a number from 1 on")
        return int(text)
    jobs = os.environ.get(JOBS, "")  # other programs use this name too, with other values
    most = int(min(cores() // threads, available_memory_mb() // MEMORY_MB))
    return max(1, most // (int(jobs) if _is_count(jobs) else 1))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0


def warm_up(*modules: str) -> None:
    """Start the server that forks the workers, so that it imports these modules while the stage does too."""
    if FORKS and fitting(1) > 1:
        _context.set_forkserver_preload(["stages.training.server", *modules])
        _start_server()


def _start_server() -> None:
    """Start the server, unless it runs.

    Raises:
        InputError: its socket cannot be made.
    """
    if not FORKS:
        return
    try:
        forkserver.ensure_running()
    except OSError as error:
        raise InputError(
            f"{tempfile.gettempdir()}: the worker processes cannot have a socket there ({error}); set TMPDIR "
            f"to another folder with a shorter path, or {LIMIT}=1"
        ) from None


class Workers(Generic[S]):
    """Workers that do tasks side by side. As a context: they have ended when it is left.

    Args:
        title: names the work in messages, such as "finetune simclr".
        opener: called once in each worker with the worker's number, from 0; returns what its tasks share. It
            must be a function of a module, or a `functools.partial` of one, as must what the tasks call.
        count: number of workers.
    """

    def __init__(self, title: str, opener: Callable[[int], S], count: int) -> None:
        self.title, self.opener, self.count = title, opener, count
        self._most = count  # fewer after the GPU's memory was too small
        self._workers: list[_Worker] = []
        self._alone: S | None = None

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(  # noqa: D105
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.ask_to_end(at_once=error is not None)
        for worker in self._workers:
            worker.join()

    def run(self, work: Callable[[S, T, Bar], R], tasks: Sequence[T], bar: Bar) -> Iterator[tuple[int, R]]:
        """Do each task, in any order.

        Args:
            work: called with what the worker has opened, a task and a progress bar.
            tasks: each is named by `str` in messages.
            bar: shows the progress of all workers.

        Yields:
            The number of each task and its result, as soon as it is done.

        Raises:
            InputError: a worker was killed. Other errors are those of the tasks; the first one ends all.
        """
        if self.count == 1:
            for number, task in enumerate(tasks):
                if self._alone is None:
                    self._alone = self.opener(0)
                yield number, work(self._alone, task, bar)
            return
        waiting, remaining = deque(range(len(tasks))), len(tasks)
        while remaining:
            while len(self._workers) < min(self._most, remaining):
                self._workers.append(_Worker(self.opener, len(self._workers)))
            for worker in self._workers:
                if worker.task is None and waiting:
                    number = waiting.popleft()
                    worker.give(number, work, tasks[number], alone=self._most == 1)
            for worker in self._ready():
                what, content = self._receive(worker, tasks)
                if what == "line":
                    print(content, end="", flush=True)
                elif what == "advance":
                    worker.advanced += content[0]
                    worker.note = content[1]
                    bar.advance(content[0], self._notes())
                elif what == "skip":
                    worker.skipped += content
                    bar.skip(content)
                elif what == "out of memory" and not worker.alone:
                    bar.advance(-worker.advanced)
                    bar.skip(-worker.skipped)
                    if worker.task is not None:
                        waiting.appendleft(worker.task)
                    self._retire(worker)
                elif what in ("error", "out of memory"):
                    raise content
                else:
                    yield worker.done(), content
                    remaining -= 1

    def _ready(self) -> list["_Worker"]:
        """The workers that have sent something, or have ended."""
        connections = connection.wait([worker.connection for worker in self._workers])
        return [worker for worker in self._workers if worker.connection in connections]

    def _receive(self, worker: "_Worker", tasks: Sequence[Any]) -> tuple[str, Any]:
        try:
            message: tuple[str, Any] = worker.connection.recv()
        except (EOFError, OSError):
            task = "" if worker.task is None else f" {tasks[worker.task]}"
            raise InputError(
                f"{self.title}{task}: its process {worker.how_it_ended()}; if the memory was too small, set "
                f"{LIMIT}=1 in the environment; run `dvc repro` to resume"
            ) from None
        return message

    def _retire(self, worker: "_Worker") -> None:
        """End a worker for which the GPU's memory is too small; fewer run at the same time from now on."""
        if (running := len(self._workers)) > 1:
            print(f"{self.title}: the GPU's memory is too small for {running} at the same time", flush=True)
        self._workers.remove(worker)
        worker.ask_to_end(at_once=True)
        worker.join()
        self._most = max(1, len(self._workers))

    def _notes(self) -> str:
        notes = [worker.note for worker in self._workers if worker.note and worker.task is not None]
        return ", ".join(notes[:SHOWN]) + (", …" if len(notes) > SHOWN else "")


class _Worker:
    """One worker, as the stage sees it.

    Attributes:
        task: the number of the task that it does; None: it waits for one.
        alone: whether no other worker may run beside this task.
        advanced, skipped: what its task has reported to the progress bar.
        note: what it shows beside the progress.
    """

    def __init__(self, opener: Callable[[int], Any], number: int) -> None:
        _start_server()
        self.connection, end = _context.Pipe()
        self.process = _context.Process(target=serve, args=(end, opener, number), daemon=True)
        self.process.start()
        end.close()  # so that `recv` notices when the worker ends
        self.task: int | None = None
        self.alone, self.advanced, self.skipped, self.note = False, 0, 0, ""

    def give(self, number: int, work: Callable[..., Any], task: Any, alone: bool) -> None:
        self.task, self.alone, self.advanced, self.skipped = number, alone, 0, 0
        with suppress(OSError):  # where it has ended, `recv` tells
            self.connection.send((work, task))

    def done(self) -> int:
        """Record that its task is done; the task's number."""
        number, self.task, self.note = self.task, None, ""
        if number is None:
            raise RuntimeError("a worker has sent a result without a task")
        return number

    def how_it_ended(self) -> str:
        self.process.join(PATIENCE)
        code = self.process.exitcode
        return f"was killed ({signal.Signals(-code).name})" if code and code < 0 else f"ended (status {code})"

    def ask_to_end(self, at_once: bool) -> None:
        if at_once:
            self.process.terminate()
        self.connection.close()

    def join(self) -> None:
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
