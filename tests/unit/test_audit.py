"""`make audit` without its network: pip-audit's answers are given, and what is made of them is looked at."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

FINE = {"name": "fine", "version": "1.0", "vulns": []}
FLAWED = {"name": "torn", "version": "2.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
NOT_KNOWN = {"name": "far", "skip_reason": "could not be reached"}

# In place of python: it makes an environment that holds the pip-audit below, and is itself for the rest.
PYTHON = """#!/bin/sh
case "$*" in
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$(dirname "$0")/pip-audit" "$3/bin" ;;
    "-m pip install "*) [ ! -e "$ANSWERS/no pip" ] ;;
    *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
PIP_AUDIT = """#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in --output) output=$2 ;; --requirement) lock=$2 ;; esac
    shift
done
cp "$ANSWERS/$lock.json" "$output" || { echo "no route to host" >&2; exit 1; }
"""


def audited(folder: Path, ours: Any, peers: Any) -> tuple[int, str]:
    """The exit status of .ci/audit and what it says, for the answers to both locks; None: no answer."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "audit", folder / ".ci" / "audit")
    (folder / "bin").mkdir()
    for name, content in (("python", PYTHON), ("pip-audit", PIP_AUDIT)):
        (folder / "bin" / name).write_text(content)
        (folder / "bin" / name).chmod(0o755)
    for lock, packages in (("requirements.lock", ours), ("requirements-peers.lock", peers)):
        if packages is not None:
            (folder / f"{lock}.json").write_text(json.dumps({"dependencies": packages}))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        [folder / ".ci" / "audit"], capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": path, "ANSWERS": str(folder), "REAL_PYTHON": sys.executable},
    )  # fmt: skip
    assert result.stderr == ""
    return result.returncode, result.stdout


@pytest.mark.parametrize(
    ("ours", "peers", "status", "words"),
    [
        ([FINE], [FINE, FINE], 0, "requirements-peers.lock: 2 of 2 packages could be looked up"),
        ([FINE, FLAWED], [FINE], 1, "torn 2.0: CVE-1; fixed in: 2.1"),
        ([FINE], [FLAWED], 1, "torn 2.0: CVE-1"),
        ([FINE, NOT_KNOWN], [FINE], 3, "requirements.lock: 1 of 2 packages could be looked up"),
        ([NOT_KNOWN], [NOT_KNOWN], 3, "the advisory data cannot be reached from here: nothing was checked"),
        ([NOT_KNOWN, FINE], [FLAWED], 1, "torn 2.0"),
        ([FLAWED], [NOT_KNOWN], 1, "torn 2.0"),
        (None, [FINE], 3, "requirements.lock: nothing was checked: no route to host"),
        (None, [FLAWED], 1, "torn 2.0"),
        ([FINE], [], 3, "nothing was checked"),
    ],
)
def test_the_exit_status_says_what_was_found(
    tmp_path: Path, ours: Any, peers: Any, status: int, words: str
) -> None:
    found, said = audited(tmp_path, ours, peers)
    assert found == status
    assert words in said


def test_where_pip_audit_cannot_be_installed_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "no pip").touch()
    assert audited(tmp_path, [FINE], [FINE]) == (
        3,
        "audit: pip-audit cannot be installed here: nothing was checked\n",
    )
