"""The demonstration `make remote-demo` runs to its end."""

import subprocess

import pytest

from tests.pipeline.conftest import ROOT, environment

pytestmark = pytest.mark.full


def test_the_remote_demo_shows_that_nothing_runs_twice() -> None:
    result = subprocess.run(
        [ROOT / ".ci" / "remote-demo"], capture_output=True, text=True, check=False,
        env=environment(warm=False),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    ben = result.stdout.partition("== Ben clones")[2].partition("\n== ")[0]
    assert "$ dvc repro" in ben
    assert "Running stage" not in ben
