"""Workers with tasks that take no time: what each gives, and what happens when one fails or is killed."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from stages.errors import InputError
from stages.training import resources, workers
from stages.training.progress import Bar, progress
from stages.training.resources import cores
from stages.training.workers import Workers, fitting

ROOT = Path(__file__).parents[2]  # NOTE: without tests.conftest and torch, so that workers start fast
SECONDS = 30.0  # a task that waits so long is ended before


class OutOfMemoryError(RuntimeError):
    """Stands for PyTorch's error of this name."""


def opened(folder: Path, worker: int) -> Path:
    """What the tasks of a worker share; leaves a file that tells that it was opened."""
    (folder / f"opened-{worker}").touch(exist_ok=False)
    return folder


def opened_again(folder: Path, worker: int) -> Path:
    (folder / "processes").mkdir(exist_ok=True)
    (folder / "processes" / str(os.getpid())).touch()
    return folder


def power(folder: Path, task: int, bar: Bar) -> int:
    time.sleep(0.05 * (task % 3))  # they end in another order than they start
    bar.advance(1, f"task {task}")
    return task**2


def talkative(folder: Path, task: int, bar: Bar) -> None:
    print(f"task {task} says", "hello")
    bar.skip(1)


def failing(folder: Path, task: object, bar: Bar) -> None:
    """The first task fails; the others would run for long, and leave a file when they are ended."""
    if isinstance(task, Exception):
        while len(list(folder.glob("started-*"))) < 1:
            time.sleep(0.01)
        raise task
    (folder / f"started-{task}").touch()
    try:
        time.sleep(SECONDS)
    finally:
        (folder / f"cleaned-{task}").touch()


def killed(folder: Path, task: str, bar: Bar) -> None:
    if task == "n10-draw0":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(SECONDS)


def greedy(folder: Path, task: int, bar: Bar) -> int:
    """Each task fits into the memory only where no other runs."""
    running = folder / f"running-{task}"
    running.touch()
    try:
        time.sleep(0.3)
        if len(list(folder.glob("running-*"))) > 1:
            raise OutOfMemoryError("CUDA out of memory")
    finally:
        running.unlink()
    return task


def together(folder: Path, task: int, bar: Bar) -> int:
    """Two tasks that run at the same time both run out of memory; each fits alone."""
    bar.skip(1)
    bar.advance(5)
    (folder / f"waits-{task}").touch()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        if len(list(folder.glob("waits-*"))) > 1 and not (folder / f"failed-{task}").exists():
            time.sleep(0.3)  # so that both have seen the other
            (folder / f"failed-{task}").touch()
            raise RuntimeError("CUDA error: out of memory")
        time.sleep(0.01)
    return task


def ends(folder: Path, task: int, bar: Bar) -> int:
    raise EOFError("No data left in file")


def unopenable(folder: Path, worker: int) -> Path:
    raise InputError(f"models/x: is damaged ({worker})")


def too_greedy(folder: Path, task: int, bar: Bar) -> int:
    raise OutOfMemoryError("CUDA out of memory")


def run(folder: Path, work: workers.Callable, tasks: list, count: int) -> dict:
    with (
        progress("title", len(tasks), "tasks") as bar,
        Workers("finetune x", partial(opened, folder), count) as them,
    ):
        return dict(them.run(work, tasks, bar))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_task_is_done_once_whatever_the_number_of_workers(count: int, tmp_path: Path) -> None:
    results = run(tmp_path, power, list(range(7)), count)
    assert results == {number: number**2 for number in range(7)}
    assert len(list(tmp_path.glob("opened-*"))) == count


def test_they_work_where_processes_cannot_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS each worker is started from nothing; the same is simulated here."""
    monkeypatch.setattr(workers, "FORKS", False)
    monkeypatch.setattr(workers, "_context", multiprocessing.get_context("spawn"))
    workers.warm_up("stages.choose.trials")  # starts no server
    assert run(tmp_path, power, [1, 2, 3], 2) == {0: 1, 1: 4, 2: 9}
    assert len(list(tmp_path.glob("opened-*"))) == 2


def test_no_more_workers_are_started_than_there_are_tasks(tmp_path: Path) -> None:
    assert run(tmp_path, power, [3], 4) == {0: 9}
    assert len(list(tmp_path.glob("opened-*"))) == 1


def test_workers_serve_one_list_of_tasks_after_another(tmp_path: Path) -> None:
    bar = Bar("title", 6, "tasks")
    with Workers("finetune x", partial(opened, tmp_path), 2) as them:
        assert dict(them.run(power, [1, 2, 3], bar)) == {0: 1, 1: 4, 2: 9}
        assert dict(them.run(power, [4, 5, 6], bar)) == {0: 16, 1: 25, 2: 36}
    assert bar.done == 6
    assert len(list(tmp_path.glob("opened-*"))) == 2


def test_progress_and_lines_of_all_workers_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, talkative, [1, 2, 3, 4], 2)
    lines = capsys.readouterr().out.splitlines()
    said = sorted(line for line in lines if "says" in line)
    assert said == [f"task {task} says hello" for task in (1, 2, 3, 4)]
    assert lines[-1].startswith("title: 0/0 tasks")  # all were skipped


@pytest.mark.parametrize(
    "error", [InputError("the loss is nan"), OSError(28, "No space left on device", "models/x")]
)
def test_an_error_in_one_task_ends_all_and_is_that_error(error: Exception, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(type(error)) as caught:
        run(tmp_path, failing, [error, "a", "b", "c"], 3)
    assert time.monotonic() - began < SECONDS / 2
    assert caught.value.args == error.args
    assert getattr(caught.value, "filename", None) == getattr(error, "filename", None)
    started, cleaned = (
        {path.name.partition("-")[2] for path in tmp_path.glob(f"{what}-*")}
        for what in ("started", "cleaned")
    )
    assert started
    assert started == cleaned  # temporary files would have been removed


def test_an_error_that_is_a_fault_of_the_code_has_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong") as caught:
        run(tmp_path, failing, [ValueError("wrong"), "a"], 2)
    assert "in failing" in caught.value.__notes__[0]


def test_a_killed_worker_is_one_message(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        run(tmp_path, killed, ["n10-draw0", "n10-draw1"], 2)
    assert caught.value.args == (
        "finetune x n10-draw0: its process was killed (SIGKILL); if the memory was too small, set "
        "HEADSTART_WORKERS=1 in the environment; run `dvc repro` to resume",
    )
    assert time.monotonic() - began < SECONDS / 2


def test_where_the_gpus_memory_is_too_small_fewer_run_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, greedy, list(range(4)), 3) == {number: number for number in range(4)}
    assert "finetune x: the GPU's memory is too small for 3 at the same time" in capsys.readouterr().out


def test_two_tasks_that_run_out_of_memory_together_are_done_one_after_the_other(tmp_path: Path) -> None:
    bar = Bar("title", 14, "tasks")
    with Workers("finetune x", partial(opened_again, tmp_path), 2) as them:
        results = dict(them.run(together, [0, 1], bar))
        assert results == {0: 0, 1: 1}
        assert {path.name for path in tmp_path.glob("failed-*")} == {"failed-0", "failed-1"}
        assert (bar.done, bar.total) == (10, 12)  # what the failed attempts had reported was taken back
        assert dict(them.run(power, [3], bar)) == {0: 9}  # by a worker, not in this process
        assert os.getpid() not in {int(path.name) for path in (tmp_path / "processes").iterdir()}


def test_an_error_while_a_file_is_read_is_not_taken_for_the_end_of_the_stage(tmp_path: Path) -> None:
    with pytest.raises(EOFError, match="No data left in file"):
        run(tmp_path, ends, [1, 2], 2)


def test_an_opener_that_fails_is_that_error(tmp_path: Path) -> None:
    bar = Bar("title", 2, "tasks")
    with (
        pytest.raises(InputError, match=r"models/x: is damaged \([01]\)"),
        Workers("finetune x", partial(unopenable, tmp_path), 2) as them,
    ):
        list(them.run(power, [1, 2], bar))


def test_a_task_that_does_not_fit_alone_is_an_error(tmp_path: Path) -> None:
    bar = Bar("title", 3, "tasks")
    with (
        pytest.raises(OutOfMemoryError),
        Workers("finetune x", partial(opened_again, tmp_path), 2) as them,
    ):
        list(them.run(too_greedy, [1, 2, 3], bar))


PROGRAM = """
import sys
from functools import partial
from pathlib import Path
from stages.errors import reported
from stages.training.progress import Bar
from stages.training.workers import Workers
from tests.unit.test_workers import failing, opened
folder = Path(sys.argv[1])
with reported(), Workers("x", partial(opened, folder), 2) as them:
    list(them.run(failing, ["a", "b"], Bar("x", 2, "tasks")))
"""


@pytest.mark.parametrize(
    ("sign", "group"),  # SIGKILL to the whole group leaves no worker
    [
        (signal.SIGKILL, False),
        *((sign, group) for sign in (signal.SIGTERM, signal.SIGINT) for group in (False, True)),
    ],
)
def test_when_the_stage_is_killed_its_workers_end(sign: signal.Signals, group: bool, tmp_path: Path) -> None:
    stage = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, start_new_session=True,
        stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        # A process that a shell starts in the background would ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for(lambda: len(list(tmp_path.glob("started-*"))) == 2)
    (os.killpg if group else os.kill)(stage.pid, sign)
    _, errors = stage.communicate(timeout=SECONDS)
    assert stage.returncode == -sign
    wait_for(lambda: len(list(tmp_path.glob("cleaned-*"))) == 2)
    assert "Traceback" not in errors
    if sign == signal.SIGINT:
        assert errors == "interrupted: nothing is half-written; run `dvc repro` to resume\n"
    wait_for(lambda: not processes_of(stage.pid))


def wait_for(condition: workers.Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def processes_of(session: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


# --- how many


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (workers.LIMIT, workers.JOBS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setattr(workers, "available_memory_mb", lambda: math.inf)
    return monkeypatch


@pytest.mark.parametrize(
    ("threads", "variables", "expected"),
    [
        (1, {"JOBS": "max"}, 8),  # as other programs use it
        (1, {}, 8),
        (2, {}, 4),
        (3, {}, 2),
        (16, {}, 1),
        (1, {"JOBS": "2"}, 4),
        (2, {"JOBS": "3"}, 1),
        (1, {"HEADSTART_WORKERS": "3"}, 3),
        (1, {"HEADSTART_WORKERS": "3", "JOBS": "8"}, 3),
    ],
)
def test_as_many_run_as_there_are_cores_for(
    threads: int, variables: dict[str, str], expected: int, environment: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert fitting(threads) == expected


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_another_number_of_workers_is_refused(value: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv(workers.LIMIT, value)
    with pytest.raises(InputError, match=f"HEADSTART_WORKERS is '{value}'; allowed: a number from 1 on"):
        fitting(1)


@pytest.mark.parametrize(("available", "expected"), [(500, 1), (2500, 2), (64_000, 8)])
def test_no_more_run_than_the_memory_is_enough_for(
    available: float, expected: int, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(workers, "available_memory_mb", lambda: available)
    assert fitting(1) == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)]
)
def test_the_cores_are_those_of_the_container(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: range(4))
    assert cores() == 4
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cores() == expected


def test_the_memory_is_that_of_the_machine_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    monkeypatch.setattr(resources, "MEMINFO", tmp_path / "meminfo")
    assert resources.available_memory_mb() == math.inf
    (tmp_path / "meminfo").write_text("MemTotal:  99 kB\nMemAvailable:  2500000 kB\n")
    assert resources.available_memory_mb() == 2500
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    assert resources.available_memory_mb() == 2000
    (tmp_path / "memory.stat").write_text("anon 900000000\ninactive_file 400000000\nactive_file 7\n")
    assert resources.available_memory_mb() == 2400  # files that were read make room for a program
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.available_memory_mb() == 2500


def test_a_folder_that_cannot_hold_a_socket_is_named(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(long)},
    )  # fmt: skip
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        f"error: {long}: the worker processes cannot have a socket there (AF_UNIX path too "
    )


def test_there_is_a_core() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
