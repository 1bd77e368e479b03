"""A file or folder is whole or absent: it is written under a temporary name, flushed, and renamed."""

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
