"""A warm interpreter: `python -m stages.X` in a fork of a process that has already imported torch.

Starting a stage takes five seconds of imports, and the tests start hundreds. `folder()` has a program
`python` that comes first on the PATH of the tests' projects. It hands `-m stages.…` and `-m benchmarks.…` to
a server, one for each pytest process; everything else goes to the real interpreter. The server forks, and the
fork takes over arguments, working directory, environment and the three standard streams. It imports `stages`
and `benchmarks` itself, from its working directory: the code under test is that of the test's project.

Why the fork is safe: the server has only imported other people's packages and computed nothing. It has no
thread but those of OpenBLAS (of NumPy and SciPy), which stops them before a fork and starts them again; the
server checks this. OpenMP's threads start with the first computation, CUDA with its first question; both
happen in the fork. Python reseeds `random` after a fork.

What it does not test: which packages a stage imports, what they print and what they need; signals from a
terminal, kills, and limits that a process inherits; memory; variables that the interpreter or a library reads
when it starts (PYTHON…, OMP_…). All forks of a server have the same hash seed and similar addresses, so that
a result that depends on the order of a set goes unnoticed. Tests of these use real processes:
`Project.start`, `Project(path, warm=False)`, or `sys.executable`.
"""

import functools
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
AVAILABLE = sys.platform == "linux"  # elsewhere a fork of a process with so many libraries is not safe
PACKAGES = (
    "torch", "torch._dynamo", "torch.utils.data", "torch.utils.flop_counter",  # optimisers import _dynamo
    "PIL.Image", "jinja2", "matplotlib.pyplot", "matplotlib.backends.backend_svg", "pandas", "pydantic.main",
    "rich.progress", "ruamel.yaml", "safetensors.torch", "scipy.special",
)  # fmt: skip

PYTHON = """#!/bin/sh
case "$1 $2" in
"-m stages."* | "-m benchmarks."*) exec {python} -I -S {client} {address} "$@" ;;
esac
exec {python} "$@"
"""


@functools.cache
def folder() -> Path:
    """A folder with a program `python` that starts modules warm; its server ends with this process."""
    made = Path(tempfile.mkdtemp(prefix="warm-"))
    address = made / "socket"
    # NOTE: it listens before the server runs: the first clients wait until the imports are done.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        start_server(listener, made, PACKAGES)
    program = made / "python"
    names = {"python": sys.executable, "client": HERE / "client.py", "address": address}
    program.write_text(PYTHON.format(**{name: shlex.quote(str(value)) for name, value in names.items()}))
    program.chmod(0o755)
    return made


def start_server(listener: socket.socket, made: Path, packages: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start the server. It ends with this process, when its standard input ends, and removes the folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, HERE / "server.py", str(listener.fileno()), made, *packages],
        env=environment | {"PYTHONUNBUFFERED": "1"},
        pass_fds=[listener.fileno()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
