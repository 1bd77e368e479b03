"""Damaged files of DVC's cache are taken out of it and kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.errors import InputError
from stages.tools import cache


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project with a file and a folder of two in its cache."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("alone", "folder/a", "folder/b"):
        (tmp_path / name).write_text(name)
    for command in (["init", "--no-scm", "--quiet"], ["add", "--quiet", "alone", "folder"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], check=True)
    return tmp_path


def damage(file: Path) -> None:
    """Change a byte; size, time and inode stay."""
    state, content = file.stat(), file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    file.chmod(0o444)


def test_a_whole_cache_stays(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(cache.objects(cache.cache_folder()))
    assert len(before) == 4  # three files, and the list of the folder's
    cache.main([])
    assert list(cache.objects(cache.cache_folder())) == before
    assert capsys.readouterr().out == "DVC's cache: 4 files, none damaged\n"
    assert not (project / cache.DAMAGED).exists()


def test_damaged_files_are_named_and_moved(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = list(cache.objects(cache.cache_folder()))
    damaged = [file for file in files if file.name.endswith(".dir") or file.read_text() == "alone"]
    for file in damaged:
        damage(file)
    contents = {cache.name_of(file): file.read_bytes() for file in damaged}
    cache.main([])
    assert {path.name: path.read_bytes() for path in (project / cache.DAMAGED).iterdir()} == contents
    assert list(cache.objects(cache.cache_folder())) == [file for file in files if file not in damaged]
    printed = capsys.readouterr().out
    assert "4 files, 2 damaged, now in .dvc/tmp/headstart/damaged: " in printed
    assert all(name in printed for name in contents)


def test_outside_a_project_there_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^dvc: you are not inside of a DVC repository"):
        cache.main([])
