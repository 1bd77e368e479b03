"""Worker processes: independent tasks, such as trainings, side by side on all cores or GPUs.

Each worker opens what the tasks share once, then does one task after another. What a task gives depends only
on the task. Therefore results do not depend on the number of workers, nor on the order in which they end.

A server process, which has imported PyTorch and computed nothing, forks the workers ("forkserver"). Forking
the stage itself is not safe, because OpenMP's threads and a CUDA context do not survive a fork. Starting each
worker afresh ("spawn") imports PyTorch once for each worker. One worker alone needs no process: its tasks run
in the stage itself.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection, forkserver
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from stages.errors import InputError
from stages.training.cores import cores
from stages.training.progress import Bar

LIMIT = "HEADSTART_WORKERS"  # environment variable: the number of workers of a stage
JOBS = "JOBS"  # the same of `make repro JOBS=n`: so many stages run at the same time and share the cores
PATIENCE = 10.0  # seconds that a worker has to remove its temporary files before it is killed
REPORT = 0.2  # seconds between two reports of a worker's progress
SHOWN = 4  # trainings that are named beside the progress at most
T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

_context = multiprocessing.get_context("forkserver")


def fitting(threads: int) -> int:
    """How many workers with `threads` threads each run side by side: as many as there are cores for.

    Raises:
        InputError: HEADSTART_WORKERS or JOBS is not a positive number.
    """
    most = max(1, cores() // (threads * _from_environment(JOBS, 1)))
    return _from_environment(LIMIT, most)


def warm_up(*modules: str) -> None:
    """Start the server that forks the workers, so that it imports these modules while the stage does too."""
    if fitting(1) > 1:
        _context.set_forkserver_preload(list(modules))
        forkserver.ensure_running()


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
        waiting = deque(range(len(tasks)))
        while len(self._workers) < min(self.count, len(tasks)):
            self._workers.append(_Worker(self.opener, len(self._workers)))
        remaining = len(tasks)
        while remaining:
            for worker in self._workers:
                if worker.task is None and waiting:
                    number = waiting.popleft()
                    worker.give(number, work, tasks[number])
            for worker in self._ready():
                what, content = self._receive(worker, tasks)
                if what == "line":
                    print(content, end="", flush=True)
                elif what == "advance":
                    worker.note = content[1]
                    bar.advance(content[0], self._notes())
                elif what == "skip":
                    bar.skip(content)
                elif what == "out of memory" and len(self._workers) > 1:
                    waiting.appendleft(self._retire(worker))
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

    def _retire(self, worker: "_Worker") -> int:
        """End a worker for which the GPU's memory is too small; the others do its task. Its number."""
        print(f"{self.title}: GPU memory is too small for {len(self._workers)} trainings at the same time")
        self._workers.remove(worker)
        number = worker.done()
        worker.ask_to_end(at_once=True)
        worker.join()
        self.count = len(self._workers)
        return number

    def _notes(self) -> str:
        notes = [worker.note for worker in self._workers if worker.note and worker.task is not None]
        return ", ".join(notes[:SHOWN]) + (", …" if len(notes) > SHOWN else "")


class _Worker:
    """One worker, as the stage sees it.

    Attributes:
        task: the number of the task that it does; None: it waits for one.
        note: what it shows beside the progress.
    """

    def __init__(self, opener: Callable[[int], Any], number: int) -> None:
        self.connection, end = _context.Pipe()
        self.process = _context.Process(target=_serve, args=(end, opener, number), daemon=True)
        self.process.start()
        end.close()  # so that `recv` notices when the worker ends
        self.task: int | None = None
        self.note = ""

    def give(self, number: int, work: Callable[..., Any], task: Any) -> None:
        self.task = number
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


class _Relay(Bar):
    """The progress of a worker's task, reported to the stage from time to time."""

    def __init__(self, end: connection.Connection) -> None:
        self.end, self.count, self.note, self.sent = end, 0, "", 0.0

    def advance(self, count: int, note: str = "") -> None:
        self.count, self.note = self.count + count, note
        if time.monotonic() - self.sent >= REPORT:
            self.send()

    def skip(self, count: int) -> None:
        self.end.send(("skip", count))

    def send(self) -> None:
        self.end.send(("advance", (self.count, self.note)))
        self.count, self.sent = 0, time.monotonic()


class _Lines:
    """Standard output of a worker: the stage prints it, so that it does not disturb the progress."""

    def __init__(self, end: connection.Connection) -> None:
        self.end, self.line = end, ""

    def write(self, text: str) -> int:
        self.line += text
        if self.line.endswith("\n"):
            self.end.send(("line", self.line))
            self.line = ""
        return len(text)

    def flush(self) -> None:
        """Nothing is kept but an unfinished line."""

    def isatty(self) -> bool:
        return False


def _serve(end: connection.Connection, opener: Callable[[int], Any], number: int) -> None:
    """What a worker does until it is asked to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the stage too, which then ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # removes temporary files on the way
    threading.Thread(target=_end_with_stage, daemon=True).start()
    sys.stdout = _Lines(end)
    try:
        state = opener(number)
        while True:
            work, task = end.recv()
            bar = _Relay(end)
            result = work(state, task, bar)
            bar.send()
            end.send(("result", result))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the stage has no more tasks, or has ended
    except Exception as error:
        what = "out of memory" if type(error).__name__ == "OutOfMemoryError" else "error"
        end.send((what, _portable(error)))


def _end_with_stage() -> None:
    """End this worker when the stage has ended, however it ended."""
    if stage := multiprocessing.parent_process():
        connection.wait([stage.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """An error that can be sent to the stage; with its traceback, unless a user can fix it."""
    if not isinstance(error, InputError | OSError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (made one line above)
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise InputError(f"environment variable {name} is {text!r}; allowed: a number from 1 on")
    return int(text)
