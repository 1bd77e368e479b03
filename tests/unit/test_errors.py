import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.errors import InputError, reported
from tests.conftest import ROOT, finding_first


def printed(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught, reported():
        raise error
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_each_finding_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(InputError("a is 1", "b is 2"), capsys) == "error: a is 1\nerror: b is 2\n"


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(InputError("a\x1b[31m\r\nb é 猫\u3000"), capsys) == "error: a\\x1b[31m\\r\\nb é 猫\u3000\n"
    assert printed(InputError("gpj.\u202ea"), capsys) == "error: gpj.\\u202ea\n"
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "a\0b")
    assert printed(missing, capsys) == "error: a\\x00b: No such file or directory\n"


def test_an_os_error_is_printed_with_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "models/a")
    assert printed(full, capsys) == "error: models/a: No space left on device\n"
    assert printed(OSError("broken pipe"), capsys) == "error: input or output: broken pipe\n"


def test_a_real_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), reported():
        (tmp_path / "a.csv").read_text()
    assert capsys.readouterr().err == f"error: {tmp_path / 'a.csv'}: No such file or directory\n"


def test_a_missing_output_of_a_stage_is_printed_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit), reported():
        Path("models/encoders/a").read_bytes()
    expected = "error: models/encoders/a: No such file or directory; run `dvc repro` to make it\n"
    assert capsys.readouterr().err == expected


def test_ctrl_c_is_one_line_even_while_pytorch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")  # found before the real one
    command = [sys.executable, "-m", "stages.pretrain", "simclr"]
    environment = finding_first(tmp_path, ROOT)
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert result.stderr == "interrupted: nothing is half-written; run `dvc repro` to resume\n"
    assert result.returncode == -signal.SIGINT  # for shells 130


IN_AN_IMPORT = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    raise ImportError("numpy is not there") from None
"""


def test_a_library_that_makes_another_error_of_ctrl_c_is_interrupted_too(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(IN_AN_IMPORT)
    command = [sys.executable, "-m", "stages.pretrain", "simclr"]
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, env=finding_first(tmp_path, ROOT),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert result.stderr == "interrupted: nothing is half-written; run `dvc repro` to resume\n"
    assert result.returncode == -signal.SIGINT


LONG_AFTER = """
import os, signal, stages
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("handled")
1 / 0
"""
IN_A_THREAD = """
import threading
thread = threading.Thread(target=lambda: __import__("stages.errors"))
thread.start()
thread.join()
"""


def test_a_bug_after_a_ctrl_c_that_was_handled_keeps_its_traceback() -> None:
    result = subprocess.run(
        [sys.executable, "-c", LONG_AFTER], check=False, capture_output=True, text=True, cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "handled\n")
    assert "ZeroDivisionError" in result.stderr
    assert "interrupted" not in result.stderr


def test_the_code_can_be_imported_by_a_thread() -> None:
    result = subprocess.run(
        [sys.executable, "-c", IN_A_THREAD], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_utf_8_gets_escapes(encoding: str) -> None:
    script = "from stages.errors import reported\nwith reported():\n    print('50 ± 2 猫')"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    result = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, cwd=ROOT, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "50 ± 2 猫\n".encode(encoding, "backslashreplace")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    script = (
        "from stages.errors import reported\nwith reported():\n    [print('x' * 1000) for _ in range(1000)]"
    )
    command = f'{sys.executable} -c "{script}" | head -1'
    result = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, cwd=ROOT)
    assert (result.stdout, result.stderr) == ("x" * 1000 + "\n", "")


def test_a_file_where_a_folder_belongs_is_named_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").write_text("a file")
    for path in (tmp_path / "data", tmp_path / "data" / "prepared"):
        with pytest.raises(SystemExit), reported():
            path.mkdir()
        assert capsys.readouterr().err.endswith("; a folder belongs there: move away what is in its place\n")


def test_other_exceptions_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), reported():
        _ = 1 / 0
