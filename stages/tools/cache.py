"""Take damaged files out of DVC's cache: those whose content is not that of their name.

    python -m stages.tools.cache      (deletes nothing)

DVC names each file of its cache by the MD5 of its content, and believes the name. It therefore brings a
damaged file back whenever it checks it out. What is damaged is moved to `.dvc/tmp/headstart/damaged`: `dvc
repro` makes outputs anew, and `dvc pull` fetches images that a remote has. Nothing is deleted, because an
image of your own may be nowhere else.
"""

import argparse
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.errors import InputError, reported
from stages.tools.lock_file import DIGEST, KEPT

DAMAGED = KEPT.with_name("damaged")
SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Look at each file of the cache, move the damaged ones, and say how many there were."""
    summary = (__doc__ or "").splitlines()[0]
    argparse.ArgumentParser(prog="python -m stages.tools.cache", description=summary).parse_args(arguments)
    files = list(objects(cache_folder()))
    damaged = [file for file in files if md5(file) != name_of(file).removesuffix(".dir")]
    for file in damaged:
        DAMAGED.mkdir(parents=True, exist_ok=True)
        shutil.move(file, DAMAGED / name_of(file))  # the cache may be on another disk
    if not damaged:
        print(f"DVC's cache: {len(files):,} files, none damaged")
        return
    names = ", ".join(map(name_of, damaged[:SHOWN]))
    more = f" and {len(damaged) - SHOWN:,} more" if len(damaged) > SHOWN else ""
    print(f"DVC's cache: {len(files):,} files, {len(damaged):,} damaged, now in {DAMAGED}: {names}{more}")
    print("run `dvc repro` to make outputs anew; `dvc pull` fetches images of your own from a remote")


def cache_folder() -> Path:
    """The local cache of this project."""
    try:
        with Repo() as repo:
            return Path(repo.cache.local.path)
    except DvcException as error:
        raise InputError(f"dvc: {error}") from None


def objects(folder: Path) -> Iterator[Path]:
    """The files of the cache, sorted: two letters of the digest name the folder, the others the file."""
    return (file for file in sorted(folder.glob("??/*")) if DIGEST.fullmatch(name_of(file)))


def name_of(file: Path) -> str:
    """The digest that DVC has given to a file of its cache, with `.dir` for the list of a folder's files."""
    return file.parent.name + file.name


def md5(file: Path) -> str:
    """The MD5 of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()


if __name__ == "__main__":
    with reported():
        main()
