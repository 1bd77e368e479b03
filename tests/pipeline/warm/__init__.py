"""A warm interpreter: `python -m stages.X` and `dvc` in forks of processes that have imported all they need.

Starting a stage takes five seconds of imports, DVC one, and the tests start hundreds. `folder()` has two
programs that come first on the PATH of the tests' projects. `python` hands `-m stages.…` and
`-m benchmarks.…` to a server, everything else to the real interpreter; `dvc` hands everything to another
server. Each pytest process has its own two. A server forks, and the fork takes over arguments, working
directory, environment and the three standard streams. It imports `stages` and `benchmarks` itself, from its
working directory: the code under test is that of the test's project.

Why the fork is safe: a server has only imported other people's packages and computed nothing. It has no
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

DVC_PACKAGES = (
    "dvc.cachemgr", "dvc.cli.parser", "dvc.data_cloud", "dvc.dirs", "dvc.lock", "dvc.repo.experiments",
    "dvc.repo.index", "dvc.repo.metrics.diff", "dvc.repo.open_repo", "dvc.repo.reproduce", "dvc.rwlock",
    "dvc.stage.cache", "dvc.stage.run",
    "dvc.utils.strictyaml", "dvc_data.hashfile.db.local", "dvc_data.index.checkout", "dvc_render.vega",
    "dulwich.worktree", "flatten_dict", "scmrepo.git",
)  # fmt: skip

PYTHON = """#!/bin/sh
case "$1 $2" in
"-m stages."* | "-m benchmarks."*) exec {python} -I -S {client} {address} "$@" ;;
esac
exec {python} "$@"
"""
DVC = """#!/bin/sh
exec {python} -I -S {client} {address} -m dvc "$@"
"""


@functools.cache
def folder() -> Path:
    """A folder with programs `python` and `dvc` that start warm; their servers end with this process."""
    made = Path(tempfile.mkdtemp(prefix="warm-"))
    for name, text, packages in (("python", PYTHON, PACKAGES), ("dvc", DVC, DVC_PACKAGES)):
        address = made / f"{name}.socket"
        # NOTE: it listens before the server runs: the first clients wait until the imports are done.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen()
            start_server(listener, made, packages)
        values = {"python": sys.executable, "client": HERE / "client.py", "address": address}
        program = made / name
        program.write_text(text.format(**{key: shlex.quote(str(value)) for key, value in values.items()}))
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
