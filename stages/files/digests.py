"""Digests of the files in a folder: the stage that makes it writes them, the stages that read it compare.

DVC goes by size, time and inode: it does not notice content that changed while these stayed.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from stages.errors import InputError
from stages.files.whole import whole_file

TABLE = "SHA256SUMS"  # in the format of the command sha256sum, so `sha256sum -c SHA256SUMS` checks it too
AGAIN = "to make it again; if the same comes back, run `python -m stages.tools.cache` first"  # ends a remedy
LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_digests(folder: Path, final: Path | None = None) -> None:
    """Write the digests of all files in a folder, also in its folders, into a table beside them.

    The first line names the folder, so that the whole folder of another method is refused.

    Args:
        final: the path that the folder will have; None: it has it.
    """
    lines = [f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files_in(folder)]
    with whole_file(folder / TABLE) as temporary:
        temporary.write_text("".join([_title(final or folder), *lines]), encoding="utf-8")


def _title(folder: Path) -> str:
    return f"# {folder.as_posix()}\n"  # sha256sum reads no line that begins with #


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and its folders, sorted, without the table of their digests."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / TABLE)


def sha256(path: Path) -> str:
    """The SHA-256 of a file. A process reads a file again only if it was written to since."""
    state = path.stat()
    written = state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino
    return _sha256(path.absolute(), written)


@cache
def _sha256(path: Path, written: tuple[int, ...]) -> str:
    """`written` changes when the file does: no program can set back its ctime."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_as_written(folder: Path, digests: Mapping[str, str]) -> None:
    """Compare all files of a folder with the table that its stage wrote.

    Args:
        digests: path → SHA-256 of each file in the folder, as it is now.

    Raises:
        InputError: a file differs, is missing, or is not in the table; or there is no valid table.
    """
    _compare(folder, _read_table(folder), digests)


def require_folder_as_written(folder: Path) -> None:
    """Hash and compare all files of a folder; raises as `require_as_written`."""
    require_as_written(folder, {str(file): sha256(file) for file in files_in(folder)})


def require_files_as_written(folder: Path, *names: str) -> None:
    """Compare some files of a folder, for a reader that needs no others; raises as `require_as_written`."""
    files = {str(folder / name) for name in names}
    stated = {path: digest for path, digest in _read_table(folder).items() if path in files}
    _compare(folder, stated, {path: sha256(Path(path)) for path in files if Path(path).is_file()})


def _compare(folder: Path, stated: Mapping[str, str], digests: Mapping[str, str]) -> None:
    for path in sorted(stated.keys() | digests):
        if path not in digests:
            raise _altered(folder, path, f"it is missing, but {TABLE} lists it")
        if path not in stated:
            raise _altered(folder, path, f"{TABLE} does not list it")
        if stated[path] != digests[path]:
            raise _altered(folder, path, f"its SHA-256 is not that in {TABLE}")


def _read_table(folder: Path) -> dict[str, str]:
    """Path → SHA-256 of each file, as its stage wrote it."""
    path = folder / TABLE
    try:
        title, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        lines = [LINE.fullmatch(line.removesuffix("\n")) for line in rest]
    except FileNotFoundError:
        if not folder.exists():
            raise  # nothing was made yet
        raise InputError(
            f"{path}: is missing, as where an earlier version of the code made the folder; run "
            "`dvc repro --force` for the stage that makes it"
        ) from None
    except ValueError:
        title, lines = "", []
    if title != _title(folder):
        raise _altered(folder, path, f"it is not the table of {folder}")
    stated = {str(folder / line[2]): line[1] for line in lines if line}
    if len(stated) != len(lines):
        raise _altered(folder, path, "it is no table of digests")
    return stated


def _altered(folder: Path, path: object, how: str) -> InputError:
    return InputError(
        f"{path}: is not as its stage wrote it ({how}); run `rm -r {folder} && dvc repro` {AGAIN}"
    )
