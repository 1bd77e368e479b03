"""Run a command and append its wall and CPU seconds to a log; its exit status is passed on.

    python -IS benchmarks/stopwatch.py LOG COMMAND [ARGUMENT …]

A line of the log is a JSON object: `command`, `wall` (seconds until the command has ended) and `cpu`
(seconds, user and system, of the command and all its descendants).

The kernel adds the time of a process to its parent's only if the parent waits for it. So on Linux this
process is a subreaper: it becomes the parent of descendants whose own parent ends first, such as
multiprocessing's fork server with its workers, and waits for them too. Without Linux their time is missing.
So is, everywhere, that of processes whose parent ignores SIGCHLD.

It runs before every stage, so it imports nothing that takes long.
"""

import ctypes
import json
import os
import resource
import sys
import time

SET_CHILD_SUBREAPER = 36  # of prctl(2)


def main(log: str, command: list[str]) -> int:
    """Run the command; returns its exit status, 128 + the signal's number where a signal ended it."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("prctl: this process cannot become a subreaper")
    started = time.perf_counter()
    command_pid = os.posix_spawnp(command[0], command, os.environ)
    wall, status = 0.0, 0
    while True:
        try:
            pid, ended = os.wait()
        except ChildProcessError:  # none is left
            break
        if pid == command_pid:
            wall, status = time.perf_counter() - started, os.waitstatus_to_exitcode(ended)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(log, "a", encoding="utf-8") as file:
        cpu = usage.ru_utime + usage.ru_stime
        file.write(json.dumps({"command": command, "wall": wall, "cpu": cpu}) + "\n")
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
