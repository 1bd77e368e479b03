"""The demonstration `make remote-demo` runs to its end, and the stages that it says."""

import subprocess

import pytest

from tests.pipeline.conftest import ROOT, environment

pytestmark = pytest.mark.full


def test_the_remote_demo_shows_that_nothing_runs_twice() -> None:
    result = subprocess.run(
        [ROOT / ".ci" / "remote-demo"], capture_output=True, text=True, check=False,
        env=environment(warm=True),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    anna, ben, cara, main, _ = result.stdout.split("\n== ")[1:]
    for section, stages in ((anna, 13), (ben, 0), (cara, 5), (main, 0)):
        assert "$ dvc repro" in section
        assert section.count("Running stage") == stages, section
