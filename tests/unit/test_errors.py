import errno
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


def test_other_exceptions_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), reported():
        _ = 1 / 0
