"""Run contenders as processes and measure the memory of each."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stages.errors import InputError

INTERVAL = 0.2  # seconds between two measurements of the memory


class Contender:
    """A running process `python -m benchmarks.contender NAME`.

    Attributes:
        settings: of the contender's module, from which the fastest is chosen.
    """

    def __init__(self, name: str, log_file: Path) -> None:
        self.name, self.log_file = name, log_file
        with log_file.open("wb") as errors:
            self.process = subprocess.Popen(  # noqa: S603 (a module of this project)
                [sys.executable, "-m", "benchmarks.contender", name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        self.settings: list[dict[str, Any]] = self._answer()["settings"]

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request; returns the answer with `images_per_second` and `peak_memory_mb` added."""
        assert self.process.stdin is not None  # noqa: S101 (opened as a pipe)
        with PeakMemory(self.process.pid) as peak_memory:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = self._answer()
        rate = answer["images"] / answer["seconds"]
        return answer | {"images_per_second": rate, "peak_memory_mb": peak_memory.peak >> 20}

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # noqa: S101 (opened as a pipe)
        line = self.process.stdout.readline()
        if not line:
            last = self.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-15:]
            raise InputError(f"benchmarks: {self.name} ended without an answer; its last output:", *last)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let the process end; kill it after 30 seconds."""
        assert self.process.stdin is not None  # noqa: S101 (opened as a pipe)
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(*names: str) -> Iterator[list[Contender]]:
    """Start the contenders, one after the other; all of them end with the context."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        contenders = []
        for name in names:
            contender = Contender(name, Path(folder) / f"{name}.log")
            stack.callback(contender.close)
            contenders.append(contender)
        yield contenders


class PeakMemory:
    """The peak memory of a process and its children while the context lasts.

    Anonymous and shared memory counts; a page that several processes share counts once. The page cache
    (libraries, memory-mapped images) does not count.

    Attributes:
        peak: bytes; final after the context.
    """

    def __init__(self, pid: int) -> None:
        self.pid, self.peak = pid, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        """Start to measure."""
        self.thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop measuring."""
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, memory(self.pid))
            if self.stop.wait(INTERVAL):
                return


def memory(pid: int) -> int:
    """Bytes of anonymous and shared memory of a process and its descendants; 0 without /proc."""
    proc, total = Path("/proc") / str(pid), 0
    try:
        for line in (proc / "smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split()[:2]
            total += int(size) << 10 if name in ("Pss_Anon:", "Pss_Shmem:") else 0
        children = [(task / "children").read_text().split() for task in (proc / "task").iterdir()]
    except OSError:  # the process has just ended
        return total
    return total + sum(memory(int(child)) for line in children for child in line)


def log(text: str) -> None:
    """Print one line of progress with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def memory_of_command(module: str, *arguments: str) -> tuple[str, int]:
    """Run `python -m MODULE …`; returns its output and its peak memory in bytes.

    Raises:
        InputError: the command failed.
    """
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
    with process:
        with PeakMemory(process.pid) as peak_memory:
            output, errors = process.communicate()
        if process.returncode:
            raise InputError(f"benchmarks: {module} failed; its last output:", *errors.splitlines()[-15:])
    return output, peak_memory.peak
