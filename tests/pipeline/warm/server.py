"""The warm server: import packages once, then fork for each client: `server.py LISTENER FOLDER PACKAGE…`.

The docstring of tests/pipeline/warm says why this is safe.
"""

import atexit
import contextlib
import gc
import importlib
import marshal
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
from typing import NamedTuple


class Fork(NamedTuple):
    """A fork, the client that waits for it, and a descriptor that is readable when it has ended."""

    pid: int
    client: socket.socket
    ended: int


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def import_packages(names: list[str]) -> None:
    for name in ("numpy", "scipy.linalg"):  # each has an OpenBLAS with threads, which a fork starts again
        importlib.import_module(name)
    before = threads()
    for name in names:
        importlib.import_module(name)
    assert threads() == before, "an import has started a thread, which no fork would have"
    gc.collect()
    gc.freeze()  # what is never collected is not written to, and stays shared between the forks


def serve(listener: socket.socket) -> socket.socket | None:
    """Fork for each client. In a fork: its client. In the server: None, when standard input ends."""
    forks: list[Fork] = []
    while True:
        poll = select.poll()
        for file in (sys.stdin, listener, *(fork.ended for fork in forks)):
            poll.register(file, select.POLLIN)
        for fork in forks:
            poll.register(fork.client, 0)  # reports only that the client has ended
        ready = dict(poll.poll())
        over = sys.stdin.fileno() in ready
        for fork in [f for f in forks if over or f.ended in ready or f.client.fileno() in ready]:
            if fork.ended not in ready:
                os.killpg(fork.pid, signal.SIGKILL)
            end(fork)
            forks.remove(fork)
        if over:
            return None
        if listener.fileno() in ready:
            client, _ = listener.accept()
            if pid := os.fork():
                os.setpgid(pid, pid)  # in both, so that it is a group before anything can kill the group
                forks.append(Fork(pid, client, os.pidfd_open(pid)))
                continue
            os.setpgid(0, 0)
            for fork in forks:
                fork.client.close()
                os.close(fork.ended)
            return client


def end(fork: Fork) -> None:
    """Wait for the end of a fork, and tell its client."""
    _, status = os.waitpid(fork.pid, 0)
    with contextlib.suppress(ConnectionError):
        fork.client.sendall(status.to_bytes(4, "big"))
    fork.client.close()
    os.close(fork.ended)


def become(client: socket.socket) -> str:
    """Take over what a process inherits, as if the client had started this one; the module to run."""
    with client:
        _, streams, _, _ = socket.recv_fds(client, 1, 3)
        with client.makefile("rb") as message:
            (_, module, *arguments), folder, environment = marshal.load(message)  # noqa: S302 (from the tests' own client)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # `python -m` looks in the working directory, then in PYTHONPATH; this script's folder is replaced.
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.executable = os.path.join(sys.argv[2], "python")  # what this module starts is warm too
    sys.argv = [module, *arguments]
    tempfile.tempdir = None  # an import asked for it: TMPDIR may be another one here
    return str(module)


def run(module: str) -> None:
    """Run a module as `python -m` does; how it ends is how this process ends."""
    global status
    status = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
        raise


def leave() -> None:
    """End this process after its exit handlers: to take all packages apart would cost two seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    status: object = 0
    atexit.register(leave)  # NOTE: the handler that is registered first runs last.
    import_packages(sys.argv[3:])
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        client = serve(listener)
    if client is None:
        shutil.rmtree(sys.argv[2], ignore_errors=True)  # the other server removes it too
    else:
        run(become(client))
