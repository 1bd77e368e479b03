"""The warm interpreter of these tests behaves like a real one.

That it gives the same bytes is seen in test_reproducible.py: real processes, beside the baseline in forks.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline import warm as interpreter
from tests.pipeline.conftest import Project, environment

pytestmark = pytest.mark.skipif(not interpreter.AVAILABLE, reason="forks a process with many libraries")
FACTS = """
import atexit, json, os, signal, sys, tempfile, threading
import stages
atexit.register(print, "at exit")
print(json.dumps([
    sys.argv[1:], os.path.relpath(__file__), os.path.relpath(stages.__file__),
    __name__, __package__, __spec__.name,
    sys.modules["__main__"].__dict__ is globals(), os.getcwd(), sys.path, sys.executable, sys.prefix,
    os.environ["WORD"], tempfile.gettempdir(), sys.stdin.read(), sys.stdout.encoding, sys.stdout.isatty(),
    os.listdir("/proc/self/fd"), threading.active_count(), sys.flags.isolated, sys.flags.safe_path,
    [str(signal.getsignal(name)) for name in sorted(signal.valid_signals())],
]))
print("an error", file=sys.stderr)
"""
ENDS = {
    "the end": ("print('text', end='')", 0),
    "a status": ("import sys; sys.exit(3)", 3),
    "a message": ("import sys; sys.exit('words')", 1),
    "an error": ("def wrong():\n    raise ValueError('wrong')\nwrong()", 1),
    "a signal": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "a kill": ("import os, signal; print(1); os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
}


def program(folder: Path, text: str) -> Project:
    """A project whose only stage is `stages.program`."""
    (folder / "stages").mkdir()
    (folder / "stages" / "__init__.py").touch()
    (folder / "stages" / "program.py").write_text(text)
    return Project(folder)


def test_a_module_finds_what_it_finds_in_a_real_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = program(tmp_path, FACTS)
    (tmp_path / "temporary").mkdir()
    for name, value in {"WORD": "ä b", "PYTHONPATH": "/one:/two", "TMPDIR": f"{tmp_path}/temporary"}.items():
        monkeypatch.setenv(name, value)
    seen = []
    for warm in (True, False):
        result = subprocess.run(
            ["python", "-m", "stages.program", "a b", "--option", "", "$HOME"], cwd=project.path, input="in",
            capture_output=True, text=True, check=True, env=environment(warm=warm),
        )  # fmt: skip
        # What a warm module starts by sys.executable is warm too.
        output = result.stdout.replace(str(interpreter.folder() / "python"), sys.executable)
        seen.append((output.replace(str(interpreter.folder()), ""), result.stderr))
    assert seen[0] == seen[1]
    assert seen[0][0].endswith("at exit\n")
    assert seen[0][1] == "an error\n"


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_a_real_process_does(end: str, tmp_path: Path) -> None:
    text, status = ENDS[end]
    project = program(tmp_path, text)
    warm = project.stage("stages.program", check=False)
    project.warm = False
    cold = project.stage("stages.program", check=False)
    assert warm.returncode == cold.returncode == status
    assert warm.stdout == cold.stdout
    # A traceback begins with the frames that have started the module.
    frames = [text.partition("<frozen runpy>")[2].split("\n")[-6:] for text in (warm.stderr, cold.stderr)]
    assert frames[0] == frames[1]
    assert warm.stderr.splitlines()[-1:] == cold.stderr.splitlines()[-1:]


def test_dvc_does_and_says_what_a_real_one_does(tmp_path: Path) -> None:
    said = []
    for name, warm in (("warm", True), ("cold", False)):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name, warm)
        (project.path / "file").write_text("content")
        results = [
            project.run("dvc", *words.split(), check=False)
            for words in (
                "init --quiet --no-scm", "add --quiet file", "stage add --name x --deps file --outs y false",
                "status", "repro", "no-such-command", "data status --json", "config --list --show-origin",
            )
        ]  # fmt: skip
        said.append([(result.returncode, result.stdout, result.stderr.split("\n")) for result in results])
        assert (project.path / "file.dvc").is_file()
    assert said[0] == said[1]
    assert [status for status, _, _ in said[0]] == [0, 0, 0, 0, 255, 254, 0, 0]


def test_only_stages_and_benchmarks_are_warm(tmp_path: Path) -> None:
    text = "import sys; print('torch' in sys.modules, len(sys.argv))"
    project = program(tmp_path, text)
    (tmp_path / "script.py").write_text(text)
    assert project.stage("stages.program", "one").stdout == "True 2\n"
    for cold in (["-c", text, "one"], ["script.py", "one"], ["-I", "script.py", "one"]):
        assert project.run("python", *cold).stdout == "False 2\n"
    assert project.stage("script", "one").stdout == "False 2\n"


def test_what_a_killed_client_has_started_ends(tmp_path: Path) -> None:
    text = "import os, time; print(os.getpid(), flush=True); child = os.fork(); time.sleep(600)"
    project = program(tmp_path, text)
    run = subprocess.Popen(
        ["python", "-m", "stages.program"], cwd=project.path, env=environment(warm=True),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    assert int(run.stdout.readline()) != run.pid
    run.kill()
    assert run.communicate(timeout=60) == ("", None)  # the stream is closed: both processes have ended
    assert run.returncode == -signal.SIGKILL


def test_the_server_ends_with_the_tests(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"\0" + os.urandom(8).hex().encode())
        listener.listen()
        server = interpreter.start_server(listener, folder, [])
    assert server.stdin is not None
    time.sleep(0.1)
    assert server.poll() is None
    server.stdin.close()
    assert server.wait(timeout=60) == 0
    assert not folder.exists()
