"""One case of the attack: a stage, DVC or both are killed at a random moment, then the project recovers."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from random import Random

import psutil

from tests.attack.victim import BY_DVC, TRACEBACK, Ended, Victim, end_group

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
POLL_S = 0.001
PATIENCE_S = 60  # for a process to end by a signal
LATE = "over before the kill"
FIRST_S = 8.0  # within which the first kill of a kind comes
TRIES = 3  # for a command that was over before its kill: the next moment is within what it took


def attack(victim: Victim, rng: Random, lasted: dict[str, float]) -> tuple[str, str]:
    """Kill once and recover; the outcome, `bad: …` if it is not accepted, and what was done.

    `lasted` has the seconds that a command of each kind took when it was over before its kill; moments are
    within them.
    """
    for _ in range(TRIES):
        outcome, done = attempt(victim, rng, lasted)
        if outcome != LATE:
            break
    return outcome, done


def attempt(victim: Victim, rng: Random, lasted: dict[str, float]) -> tuple[str, str]:
    """One kill, as `attack` says."""
    victim.restore()
    work = victim.work
    name = rng.choice(sorted(victim.stages))
    command, moment = rng.choice(
        (
            (victim.stages[name]["cmd"], "any"),
            (f"dvc repro --force --single-item {name}", "any"),
            (f"dvc repro --force --single-item {name}", "lock"),
            ("dvc repro", "any"),
            ("dvc repro", "lock"),
        )
    )
    number, whom = rng.choice(SIGNALS), rng.choice(("stage", "dvc", "group"))
    part, retried, from_cache = rng.random(), rng.random() < 0.5, rng.random() < 0.5
    if rng.random() < 0.5:
        shutil.rmtree(work.path / "models/checkpoints", ignore_errors=True)
    if command == "dvc repro":  # something to do: everything comes from the run cache, or is made anew
        (work.path / "dvc.lock").unlink()
        shutil.rmtree(work.path / "models", ignore_errors=True)
        if not from_cache:
            shutil.rmtree(work.path / ".dvc/cache/runs", ignore_errors=True)
    kind = f"{' '.join(command.split()[:3])} {command == 'dvc repro' and from_cache}"
    log = (work.path.parent / "killed").open("w+b")
    start = time.monotonic()
    process = work.start(*command.split(), stdout=log, start_new_session=True)
    if moment == "lock":
        wait_for_lock(victim, process, writes=1 + int(part * 4) * (command == "dvc repro"))
    else:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(part * lasted.get(kind, FIRST_S))
    done = f"{signal.Signals(number).name} to {whom}, moment {moment}; {command}"
    late = process.poll() is not None
    if late:
        lasted[kind] = time.monotonic() - start
    hit(process, number, whom)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    if retried and not late:  # a stage may have outlived DVC: the next run waits for nobody and says so
        ended = victim.run("dvc repro")
        if (problem := ended.problem()) and not empty_lock(ended):
            end_group(process)
            return f"bad: beside the survivor: {problem}", done
    end_group(process)
    log.seek(0)
    with log:
        output = log.read().decode(errors="replace")
    killed = Ended(None, output)
    if TRACEBACK in output and not killed.outside_the_project():
        return f"bad: {killed.problem()}", done
    problem = victim.recover()
    if problem:
        return f"bad: {problem}", done
    if killed.outside_the_project():
        return "recovered; Python or DVC printed a traceback of its own", done
    return (LATE if late else "recovered"), done


def empty_lock(ended: Ended) -> bool:
    """Whether DVC was stopped by the lock that the kill has cut off: the recovery mends it."""
    refused = BY_DVC.search(ended.output)
    return refused is not None and refused[1] == "lock"


def hit(process: "subprocess.Popen[str]", number: int, whom: str) -> None:
    """Send a signal to DVC, to the stage below it, or to the whole group."""
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if whom == "group":
            os.killpg(process.pid, number)
        elif whom == "stage":
            below = psutil.Process(process.pid).children(recursive=True)
            stages = [child for child in below if any("stages." in word for word in child.cmdline())]
            (stages[0] if stages else psutil.Process(process.pid)).send_signal(number)
        else:
            process.send_signal(number)


def wait_for_lock(victim: Victim, process: "subprocess.Popen[str]", writes: int) -> None:
    """Wait until DVC has begun to write its lock for the n-th time."""
    lock, last = victim.work.path / "dvc.lock", None
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.suppress(FileNotFoundError):
        last = lock.stat().st_mtime_ns
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            state = lock.stat()
            if state.st_mtime_ns != last:
                last, writes = state.st_mtime_ns, writes - (state.st_size == 0 or writes > 1)
                if writes <= 0:
                    return
        time.sleep(POLL_S)
