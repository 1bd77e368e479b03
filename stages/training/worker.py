"""One worker process: it does the tasks that its stage sends, and reports results, progress and lines."""

import multiprocessing
import os
import pickle
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from stages.errors import InputError
from stages.training.progress import Bar

PATIENCE = 10.0  # seconds that a worker has to remove its temporary files before it is killed
REPORT = 0.2  # seconds between two reports of the progress
# What PyTorch, cuBLAS and CUDA say when the memory of the GPU is too small.
OUT_OF_MEMORY = re.compile("OutOfMemoryError|out of memory|_STATUS_ALLOC_FAILED")


class Stage:
    """The stage, as a worker sees it. If the stage has ended, so does the worker."""

    def __init__(self, end: connection.Connection) -> None:
        self.end = end

    def send(self, what: str, content: Any) -> None:
        try:
            self.end.send((what, content))
        except OSError:
            sys.exit(1)

    def receive(self) -> tuple[Callable[..., Any], Any]:
        try:
            work, task = self.end.recv()
        except (EOFError, OSError):  # there are no more tasks
            sys.exit(0)
        return work, task


class Relay(Bar):
    """The progress of a worker's task, reported to the stage from time to time."""

    def __init__(self, stage: Stage) -> None:
        super().__init__("", 0, "")
        self.stage, self.count, self.note, self.sent = stage, 0, "", 0.0

    def advance(self, count: int, note: str = "") -> None:
        self.count, self.note = self.count + count, note
        if time.monotonic() - self.sent >= REPORT:
            self.send()

    def skip(self, count: int) -> None:
        self.stage.send("skip", count)

    def send(self) -> None:
        self.stage.send("advance", (self.count, self.note))
        self.count, self.sent = 0, time.monotonic()


class Lines:
    """Standard output of a worker: the stage prints it, so that it does not disturb the progress."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.line = stage, ""

    def write(self, text: str) -> int:
        self.line += text
        if self.line.endswith("\n"):
            self.stage.send("line", self.line)
            self.line = ""
        return len(text)

    def flush(self) -> None:
        """Nothing is kept but an unfinished line."""

    def end_line(self) -> None:
        """Send an unfinished line."""
        if self.line:
            self.write("\n")

    def isatty(self) -> bool:
        return False


def serve(end: connection.Connection, opener: Callable[[int], Any], number: int) -> None:
    """What a worker does until it is asked to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the stage too, which then ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # removes temporary files on the way
    threading.Thread(target=_end_with_stage, daemon=True).start()
    stage = Stage(end)
    sys.stdout = lines = Lines(stage)
    try:
        state = opener(number)
        while True:
            work, task = stage.receive()
            bar = Relay(stage)
            result = work(state, task, bar)
            lines.end_line()
            bar.send()
            stage.send("result", result)
    except Exception as error:
        memory = OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}") and isinstance(error, RuntimeError)
        stage.send("out of memory" if memory else "error", _portable(error))


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
