"""Locks: one process at a time makes an output, and an output that cannot be written is refused early."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import TextIO

from stages.errors import InputError

CLAIMS = Path(".dvc/tmp/headstart")  # one lock file for each output that a run has begun to make
_claimed: dict[Path, TextIO] = {}  # open, for the operating system drops a lock with its file


def require_writable(*paths: Path) -> None:
    """Find out before the work, not after it, that an output cannot be written.

    Raises:
        InputError: another process is making the output: a stage lives on where only `dvc` was killed.
        OSError: the folder cannot be written to.
    """
    for path in paths:
        _claim(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path.parent)) from error


def _claim(path: Path) -> None:
    """Hold an output until this process ends, however it ends."""
    place = (CLAIMS / "-".join(path.parts).strip("/")).absolute()
    if place in _claimed:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file = place.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"{path}: is being made by another run here (process {file.read()}); "
                "wait until it has ended, or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(CLAIMS)) from error
    _claimed[place] = file
