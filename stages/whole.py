"""Whole or absent: a file or folder is written under a temporary name, flushed, and renamed."""

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from stages.errors import InputError

CLAIMS = Path(".dvc/tmp/headstart")  # one lock file for each output that a run has begun to make


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` only if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _sweep(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        # A full disk names no file, and people know this one by its own name. NOTE: numpy and Pillow say of
        # it only in words that not all was written.
        reason = error.strerror or f"not all of it could be written; is the disk full? ({error})"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the place of `path` only if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}.tmp") for end in ("new", "old"))
    _sweep(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():  # a folder cannot be renamed over one that is not empty
            path.replace(old)
        temporary.replace(path)
    except BaseException as error:
        if old.exists() and not path.exists():  # both are there after Ctrl-C just behind the last rename
            old.replace(path)
        if isinstance(error, OSError) and str(error.filename).startswith(f"{temporary}{os.sep}"):
            place = path / Path(error.filename).relative_to(temporary)  # by the name that people know
            raise OSError(error.errno, error.strerror, str(place)) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove what a killed run has left of its temporary names for `path`, be it file or folder."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


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
