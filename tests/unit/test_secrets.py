"""The check that no key is committed, in real git repositories."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("['remote \"store\"']\n    url = s3://bucket/headstart\n")
    return tmp_path


def checked(repository: Path) -> subprocess.CompletedProcess[str]:
    subprocess.run(["git", "-C", repository, "add", "--all", "--force"], check=True)
    return subprocess.run(
        ["sh", ".ci/secrets"], cwd=repository, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_a_repository_without_secrets_passes(repository: Path) -> None:
    result = checked(repository)
    assert (result.returncode, result.stdout) == (0, "")


def test_outside_a_repository_the_check_fails(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    result = subprocess.run(["sh", ".ci/secrets"], cwd=repository, capture_output=True, check=False)
    assert result.returncode != 0


# In two parts, so that the check does not find them in this file.
KEYS = {
    "AWS": "AKIA" + "ABCDEFGHIJKLMNOP",
    "SSH": "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    "GitHub": "ghp_" + "a" * 36,
    "Hugging Face": "hf_" + "a" * 34,
    "AWS's secret": "AWS_SECRET_ACCESS_KEY" + "=" + "a" * 40,
    "AWS's secret, as AWS writes it": "aws_secret_access_key" + " = " + "a" * 40,
    "AWS's secret in JSON": '"SecretAccessKey"' + ': "' + "a/+" * 13 + 'a"',
    "AWS's secret in YAML": "secret_access_key" + ": " + "a" * 40,
    "Azure": "AccountKey" + "=" + "a" * 40,
    "OpenAI": "sk" + "-" + "a" * 40,
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_in_any_file_is_reported_with_its_line(repository: Path, kind: str) -> None:
    (repository / "notes.txt").write_text(f"one\nkey: {KEYS[kind]}\n")
    result = checked(repository)
    assert result.returncode == 1
    assert "notes.txt:2:" in result.stdout


@pytest.mark.parametrize(
    "setting",
    ["secret_access_key = abc", "Password = abc", "keyfile = /home/me/key", "url = https://me:word@host/x"],
)
def test_credentials_in_the_shared_configuration_are_reported(repository: Path, setting: str) -> None:
    with (repository / ".dvc" / "config").open("a") as file:
        file.write(f"    {setting}\n")
    result = checked(repository)
    assert result.returncode == 1
    assert ".dvc/config:3:" in result.stdout
    assert "dvc remote modify --local" in result.stdout


@pytest.mark.parametrize("folder", ["", "nested/", "deep/er/"])
def test_a_local_configuration_in_git_is_reported(repository: Path, folder: str) -> None:
    (repository / folder / ".dvc").mkdir(parents=True, exist_ok=True)
    (repository / folder / ".dvc" / "config.local").write_text("")
    result = checked(repository)
    assert result.returncode == 1
    assert f"git rm --cached {folder}.dvc/config.local" in result.stdout
