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
    "AWS, temporary": "ASIA" + "ABCDEFGHIJKLMNOP",
    "RSA": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "GitHub, for one person": "github_" + "pat_11ABCDEFG0" + "a1B2" * 18,
    "GitHub, for a server": "ghs_" + "a1B2" * 9,
    "GitLab": "glpat" + "-" + "a1B2c" * 4,
    "Slack": "xoxb-" + "123456789012-123456789012-" + "a1B2" * 6,
    "Slack's hook": "https://hooks.slack.com/" + "services/T12345678/B12345678/" + "a1B2" * 6,
    "Stripe": "sk_" + "live_" + "a1B2" * 6,
    "Google": "AIza" + "SyA1B2" + "c3D4" * 8,
    "PyPI": "pypi-" + "AgEIcHlwaS5vcmc" + "a1B2" * 20,
    "JSON web token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "a1B2" * 8,
    "password in an address": "https://maria" + ":h4mster-w1nter@example.org/images",
    "npm": "//registry.example.org/:_authToken=" + "npm_" + "a1B2" * 9,
    "SendGrid": "SG." + "a1B2c3D4e5F6g7H8i9J0k1" + "." + "a1B2c3" * 7 + "d",
    "Twilio": "SK" + "0a1b2c3d" * 4,
    "Discord's hook": "https://discord.com/" + "api/webhooks/123456789012345678/" + "a1B2" * 17,
    "Azure, signed address": "https://a.blob.core.windows.net/b?sv=2024&" + "sig=" + "a1B2c3%2F" * 5,
    "DigitalOcean": "dop_v1_" + "0a1b2c3d" * 8,
    "Slack, of an app": "xapp-" + "1-A0123456789-" + "a1B2" * 6,
    "header": "Authorization: " + "Bearer " + "a1B2c3" * 6,
    "phrase of a key": "pass" + "phrase: h4mster-w1nter",
    "Google, of a client": "GOCSPX-" + "a1B2" * 7,
    "age": "AGE-SECRET-" + "KEY-1" + "A1B2" * 14,
    "registry of containers": '{"auths": {"a": {"auth": "' + 'bWFyaWE6aDRtc3Rlci13MW50ZXI="}}}',
    "S3, signed address": "https://a.s3.example.org/b?X-Amz-" + "Signature=" + "0a1b2c3d" * 8,
    "password of a database": "postgresql://maria" + ":h4mster-w1nter@10.0.0.1:5432/labels",
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_in_any_file_is_reported_with_its_line(repository: Path, kind: str) -> None:
    (repository / "notes.txt").write_text(f"one\nkey: {KEYS[kind]}\n")
    result = checked(repository)
    assert result.returncode == 1
    assert "notes.txt:2:" in result.stdout


@pytest.mark.parametrize("name", ["password", "db_password", "API_KEY", "secret", "client_secret"])
@pytest.mark.parametrize("value", ["h4mster-w1nter", "'h4mster-w1nter'", '"h4mster w1nter"'])
def test_a_password_in_yaml_is_reported_with_its_line(repository: Path, name: str, value: str) -> None:
    (repository / "params.yaml").write_text(f"data:\n  path: data/images\n  {name}: {value}\n")
    result = checked(repository)
    assert result.returncode == 1
    assert "params.yaml:3:" in result.stdout


def test_a_value_of_the_baseline_is_no_finding_wherever_its_line_moves(repository: Path) -> None:
    file = repository / "stages/networks/imagenet.py"
    file.parent.mkdir(parents=True)
    file.write_text("# one more line\n" + (ROOT / "stages/networks/imagenet.py").read_text())
    assert checked(repository).returncode == 0
    file.write_text(file.read_text() + f"TOKEN = '{KEYS['Stripe']}'\n")
    assert "imagenet.py:" in checked(repository).stdout


def test_without_the_scanner_the_check_fails(repository: Path) -> None:
    subprocess.run(["git", "-C", repository, "add", "--all", "--force"], check=True)
    result = subprocess.run(
        ["sh", ".ci/secrets"], cwd=repository, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert result.returncode == 1
    assert "make setup-dev" in result.stdout


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
