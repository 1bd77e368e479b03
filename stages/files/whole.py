"""Atomic writing: a file or folder is written under a temporary name, flushed, and renamed."""

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path to write a file to; it replaces `path` at the end, unless an exception is raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove_leftovers(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        # The error of a full disk names no file, and the user does not know the temporary name. NOTE: NumPy
        # and Pillow raise it without errno and strerror.
        reason = error.strerror or f"could not be written completely; is the disk full? ({error})"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it replaces `path` at the end, unless an exception is raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}.tmp") for end in ("new", "old"))
    _remove_leftovers(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():  # a folder cannot be renamed to one that is not empty
            path.replace(old)
        temporary.replace(path)
    except BaseException as error:
        if old.exists() and not path.exists():  # both exist after Ctrl-C right after the last rename
            old.replace(path)
        if isinstance(error, OSError) and str(error.filename).startswith(f"{temporary}{os.sep}"):
            final = path / Path(error.filename).relative_to(temporary)  # the name that the user knows
            raise OSError(error.errno, error.strerror, str(final)) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files and folders for `path` that a killed run left behind."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
