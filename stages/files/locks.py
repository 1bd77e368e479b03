"""Locks: only one process at a time makes an output, and an output that cannot be written fails early."""

import errno
import fcntl
import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from stages.errors import InputError

CLAIMS = Path(".dvc/tmp/headstart")  # one lock file for each output
LONGEST = 200  # bytes of a lock's name
OWN = (  # what a tool never writes a table of its own over
    ".dvc", ".git", "data/baselines", "data/predictions", "data/prepared", "dvc.lock", "dvc.yaml", "metrics",
    "models", "params.yaml", "stages",
)  # fmt: skip
_claimed: dict[Path, TextIO] = {}  # kept open, because closing a file releases its lock


def require_writable(*paths: Path) -> None:
    """Lock outputs, and check before the work that they can be written.

    Raises:
        InputError: another process is making an output. This happens if only `dvc` was killed: its stage
            keeps running.
        OSError: a folder cannot be written to.
    """
    for path in paths:
        _claim(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
            with suppress(FileNotFoundError):  # the name under which `whole` writes it may be too long
                path.with_name(f".{path.name}.{os.getpid()}.tmp").lstat()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path.parent)) from error


def require_output(option: str, path: Path) -> None:
    """Check before the work that a file which a person has named can be written.

    Args:
        option: that names it, such as `--output`.

    Raises:
        InputError: it is no file, such as a folder or a device, it is one of the project's own, or it cannot
            be written.
    """
    if any(path.resolve().is_relative_to(Path(own).resolve()) for own in OWN):
        raise InputError(f"{option} {path}: belongs to the project; name another")
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{option} {path}: is no file; name another")
        require_writable(path)
    except OSError as error:  # such as a clone that may only be read
        why = f"{error.strerror}: {error.filename}"
        raise InputError(f"{option} {path}: cannot be written ({why}); name another") from None


def _claim(path: Path) -> None:
    """Lock an output until this process ends, however it ends."""
    name = "-".join(path.parts).strip("/")
    if len(name.encode(errors="surrogateescape")) > LONGEST:
        name = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=16).hexdigest()
    lock = (CLAIMS / name).absolute()
    if lock in _claimed:
        return
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"{path}: another run (process {file.read()}) is making it; wait until it ends, or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES):  # a clone that may only be read: no stage runs in it
            return
        raise OSError(error.errno, error.strerror, str(CLAIMS)) from error
    _claimed[lock] = file
