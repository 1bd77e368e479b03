"""`make audit` without a network: its output and exit status for given answers of pip-audit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

CLEAN = {"name": "fine", "version": "1.0", "vulns": []}
VULNERABLE = {"name": "torn", "version": "2.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "far", "skip_reason": "could not be reached"}

# Replaces python: it creates an environment with the pip-audit below; everything else goes to the real one.
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
    """The exit status and output of .ci/audit for given answers to both locks; None: no answer."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "audit", folder / ".ci" / "audit")
    (folder / "bin").mkdir()
    for name, content in (("python", PYTHON), ("pip-audit", PIP_AUDIT)):
        (folder / "bin" / name).write_text(content)
        (folder / "bin" / name).chmod(0o755)
    for lock, packages in (("requirements-dev.lock", ours), ("requirements-peers.lock", peers)):
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
        ([CLEAN], [CLEAN, CLEAN], 0, "requirements-peers.lock: 2 of 2 packages could be looked up"),
        ([CLEAN, VULNERABLE], [CLEAN], 1, "torn 2.0: CVE-1; fixed in: 2.1"),
        ([CLEAN], [VULNERABLE], 1, "torn 2.0: CVE-1"),
        ([CLEAN, SKIPPED], [CLEAN], 3, "requirements-dev.lock: 1 of 2 packages could be looked up"),
        ([SKIPPED], [SKIPPED], 3, "the advisory data cannot be reached: nothing was checked"),
        ([SKIPPED, CLEAN], [VULNERABLE], 1, "torn 2.0"),
        ([VULNERABLE], [SKIPPED], 1, "torn 2.0"),
        (None, [CLEAN], 3, "requirements-dev.lock: nothing was checked: no route to host"),
        (None, [VULNERABLE], 1, "torn 2.0"),
        ([CLEAN], [], 3, "nothing was checked"),
    ],
)
def test_the_exit_status_and_output(tmp_path: Path, ours: Any, peers: Any, status: int, words: str) -> None:
    exit_status, output = audited(tmp_path, ours, peers)
    assert exit_status == status
    assert words in output


def test_without_pip_audit_the_output_says_that_nothing_was_checked(tmp_path: Path) -> None:
    (tmp_path / "no pip").touch()
    assert audited(tmp_path, [CLEAN], [CLEAN]) == (
        3,
        "audit: pip-audit cannot be installed on this machine: nothing was checked\n",
    )
