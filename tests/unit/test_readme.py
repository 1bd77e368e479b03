"""The README's table of results, and the check that the committed one is current."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.readme import HEADING, README, SUMMARY, is_current, main, table, updated
from stages.errors import InputError
from tests.conftest import put_metrics

ROW: dict[str, Any] = {"accuracy": 0.9, "accuracy_ci95": 0.01, "linear_probe": 0.8, "recall_macro": 0.9}
SMALL = {"scratch": {"n10": ROW}}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory under git with a summary and a README that has its table, both committed."""
    monkeypatch.chdir(tmp_path)
    SUMMARY.parent.mkdir()
    put_metrics(SUMMARY, SMALL)
    README.write_text(f"before\n\n{table(SMALL)}\nafter\n")
    git("init", "--quiet")
    commit()
    return tmp_path


def git(*arguments: str) -> None:
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *author, *arguments], check=True)


def commit() -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", "files")


def test_the_table_has_a_row_for_each_budget_and_method() -> None:
    gain = {"gain": 0.05, "gain_ci95": 0.02, "distilled": 0.95, "distilled_ci95": 0.01}
    summary = {"scratch": {"nall": ROW, "n10": ROW, "n1000": ROW}, "simclr": {"nall": ROW | gain}}
    summary["simclr"] |= {"n10": ROW, "n1000": ROW}
    rows = table(summary).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 10"] * 2 + ["| 1,000"] * 2 + ["| all"] * 2
    assert rows[0] == "| 10 | scratch | 90.0 ± 1.0 |  |  | 80.0 |"
    assert rows[-1] == "| all | simclr | 90.0 ± 1.0 | +5.0 ± 2.0 | 95.0 ± 1.0 | 80.0 |"


def test_an_old_table_is_replaced_and_the_rest_kept() -> None:
    old = f"before\n\n{HEADING}| 1 | old |\n| 2 | old |\n\nafter | x |\n"
    assert not is_current(old, SMALL)
    new = updated(old, SMALL)
    assert new == f"before\n\n{table(SMALL)}\nafter | x |\n"
    assert is_current(new, SMALL)


def test_a_text_without_the_table_is_refused() -> None:
    with pytest.raises(InputError, match=r"README\.md: has no table"):
        updated("no table\n", SMALL)


def test_the_table_is_written_from_the_summary(repository: Path) -> None:
    changed = {"scratch": {"n10": ROW | {"accuracy": 0.5}}}
    put_metrics(SUMMARY, changed)
    assert main([]) == 0
    assert README.read_text() == f"before\n\n{table(changed)}\nafter\n"


def test_the_check_reads_what_is_committed(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    put_metrics(SUMMARY, {"scratch": {"n10": ROW | {"accuracy": 0.5}}})
    assert main(["--check"]) == 0  # a run in the working tree changes nothing that is committed
    commit()
    assert main(["--check"]) == 1
    assert "run `make readme`" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 1  # the table was written and not committed
    commit()
    assert main(["--check"]) == 0


def test_the_check_says_where_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match=r"README\.md: cannot be read from git"):
        main(["--check"])


def test_other_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="usage"):
        main(["--chek"])
