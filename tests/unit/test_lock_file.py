"""dvc.lock comes back whole from the last good run or the last commit; nothing else is touched."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from stages.errors import InputError
from stages.tools import lock_file
from tests.conftest import committed

WHOLE = 'schema: "2.0"\nstages:\n  prepare:\n    cmd: python -m stages.prepare\n'
OLDER = WHOLE.replace("prepare", "pretrain")
BROKEN = ["", "schema: '2.", "schema: '2.0'\nstages:\n  prepare:\n    deps:\n    - path: a\n", "\0\0\0", "[]"]
BROKEN += ["schema: '2.0'\nstages:\n  prepare:\n    cmd: 2001-99-99\n", "[" * 200_000, "a: !!bool x"]


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole lock in a git repository whose last commit has an older one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock_file, "PATIENCE", 0.0)
    for arguments in (["init", "--quiet"], ["config", "user.name", "x"], ["config", "user.email", "x@y.z"]):
        subprocess.run(["git", *arguments], check=True)
    lock_file.LOCK.write_text(OLDER)
    subprocess.run(["git", "add", "dvc.lock"], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", "older"], check=True)
    lock_file.LOCK.write_text(WHOLE)
    return lock_file.LOCK


@pytest.mark.parametrize("broken", BROKEN)
def test_the_lock_of_the_last_good_run_comes_back(
    lock: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lock_file.main(["--keep"])
    lock.write_text(broken)
    lock_file.main([])
    assert lock.read_text() == WHOLE
    assert lock_file.BROKEN.read_text() == broken
    assert "the one of the last good run is back" in capsys.readouterr().out


def test_without_a_good_run_it_is_that_of_the_last_commit(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock.write_text("")
    lock_file.main(["--keep"])  # a broken one is not kept
    lock_file.main([])
    assert lock.read_text() == OLDER
    assert "the one of the last commit is back" in capsys.readouterr().out


def test_without_any_whole_lock_the_broken_one_goes(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["git", "rm", "--quiet", "--cached", "dvc.lock"], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", "none"], check=True)
    lock.write_text("schema")
    lock_file.main([])
    assert not lock.exists()
    assert lock_file.BROKEN.read_text() == "schema"
    assert "no whole version of it was found" in capsys.readouterr().out


@pytest.mark.parametrize("content", [WHOLE, None])
def test_a_whole_lock_and_none_stay_as_they_are(
    lock: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    lock_file.main(["--keep"])
    lock.unlink() if content is None else lock.write_text(content + "# a comment\n")
    before = lock.read_text() if lock.exists() else None
    lock_file.main([])
    assert (lock.read_text() if lock.exists() else None) == before
    assert capsys.readouterr().out == ""


def test_a_merge_conflict_is_left_to_a_person(lock: Path) -> None:
    lock.write_text(conflict := f"<<<<<<< HEAD\n{WHOLE}=======\n{OLDER}>>>>>>> other\n")
    with pytest.raises(InputError, match=r"^dvc\.lock: has a merge conflict"):
        lock_file.main([])
    assert lock.read_text() == conflict


def test_another_dvc_may_finish_writing(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.write_text("")
    monkeypatch.setattr(lock_file.time, "sleep", lambda _: lock.write_text(WHOLE))
    lock_file.main([])
    assert lock.read_text() == WHOLE
    assert not lock_file.BROKEN.exists()


def test_the_committed_lock_is_whole() -> None:
    assert lock_file.is_whole(committed("dvc.lock").encode())


def test_what_killed_stages_left_is_removed_and_a_whole_folder_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    models, metrics = Path("models/encoders"), Path("metrics")
    for folder in (
        f"simclr.{ended.pid}.new",
        f"gan.{ended.pid}.old",
        f"mae.{ended.pid}.old",
        f"vicreg.{os.getpid()}.new",
    ):
        (models / f".{folder}.tmp").mkdir(parents=True)
        (models / f".{folder}.tmp" / "run0").write_text("content")
    (models / "mae").mkdir()
    metrics.mkdir()
    (metrics / f".summary.json.{ended.pid}.tmp").write_text("{")
    (metrics / ".mine.tmp").write_text("not a stage's")
    (metrics / ".x.2147483648.tmp").write_text("not a stage's: no process has such a number")
    Path("data").mkdir()
    Path(f"data/.baselines.{ended.pid}.new.tmp").mkdir()
    lock_file.main([])
    assert not list(Path("data").iterdir())
    left = sorted(path.name for folder in (models, metrics) for path in folder.iterdir())
    assert left == [".mine.tmp", f".vicreg.{os.getpid()}.new.tmp", ".x.2147483648.tmp", "gan", "mae"]
    assert (models / "gan/run0").read_text() == "content"


@pytest.mark.parametrize("value", ["true", "1", "[]", '"\\e[31m"', "abc", '""', "../../x"])
@pytest.mark.parametrize("key", ["md5", "hash"])
def test_a_digest_that_is_none_makes_the_lock_broken(key: str, value: str) -> None:
    """DVC's own schema takes it, and DVC then fails with an error of its own."""
    content = committed("dvc.lock")
    assert lock_file.is_whole(content.encode())
    first = re.search(rf"\n +{key}: (\S+)", content)
    assert first
    assert not lock_file.is_whole((content[: first.start(1)] + value + content[first.end(1) :]).encode())


@pytest.mark.parametrize(
    ("listing", "whole"), [(f"md5: {'a' * 32}", True), ("md5: x", False), ("size: 1", False)]
)
def test_a_folder_that_is_listed_in_full_has_a_digest_of_each_file(listing: str, whole: bool) -> None:
    out = f"path: data/prepared, md5: {'b' * 32}.dir, files: [{{relpath: a, {listing}}}]"
    content = WHOLE + f"    outs: [{{{out}}}]\n"
    assert lock_file.is_whole(content.encode()) == whole


def test_a_commit_that_is_newer_than_the_last_good_run_comes_back(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock_file.main(["--keep"])
    os.utime(lock_file.KEPT, (1e9, 1e9))
    lock.write_text("")
    lock_file.main([])
    assert lock.read_text() == OLDER
    assert "the one of the last commit is back" in capsys.readouterr().out


def test_without_git_it_is_that_of_the_last_good_run(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_file.main(["--keep"])
    lock.write_text("")
    monkeypatch.setenv("PATH", "")
    lock_file.main([])
    assert lock.read_text() == WHOLE


@pytest.mark.parametrize("content", ["", '{"write": {', "[]", '{"read": {"a": 7}}', "[" * 100_000, "\xff"])
def test_a_list_of_files_in_use_that_was_cut_is_removed(
    content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lock_file.IN_USE.parent.mkdir(parents=True)
    lock_file.IN_USE.write_text(content, encoding="latin-1")
    lock_file.main([])
    assert not lock_file.IN_USE.exists()
    assert "rwlock: was cut off, as by a DVC that was killed" in capsys.readouterr().out


def test_a_whole_list_of_files_in_use_stays(capsys: pytest.CaptureFixture[str]) -> None:
    lock_file.IN_USE.parent.mkdir(parents=True)
    lock_file.IN_USE.write_text('{"write": {}, "read": {"a": [{"pid": 7, "cmd": "dvc repro"}]}}')
    lock_file.main([])
    assert lock_file.IN_USE.exists()
    assert capsys.readouterr().out == ""


def test_another_dvc_may_finish_writing_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    lock_file.IN_USE.parent.mkdir(parents=True)
    lock_file.IN_USE.write_text("")
    monkeypatch.setattr(lock_file.time, "sleep", lambda _: lock_file.IN_USE.write_text("{}"))
    lock_file.main([])
    assert lock_file.IN_USE.read_text() == "{}"


def test_a_process_number_that_none_has_is_passed_over() -> None:
    left = Path("metrics/.x.99999999999999999999.tmp")
    left.parent.mkdir()
    left.touch()
    lock_file.main([])
    assert left.exists()
