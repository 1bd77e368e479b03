"""Clean up after a killed run: bring dvc.lock back where it was cut off, and remove what is unfinished.

    python -m stages.tools.lock_file           (before `dvc repro`; does nothing where all is whole)
    python -m stages.tools.lock_file --keep    (after a good run: keep a copy of dvc.lock)

DVC empties dvc.lock and writes it anew after each stage. If it is killed in that moment, it leaves a file
that it refuses to read. The copy of the last good run then comes back, or that of the last commit if it is
newer; `dvc repro` goes on from there, and takes what had finished since from its run cache. `make repro`
calls both.

DVC writes the list of the files that it has in use in the same way. Where no DVC runs it says nothing, so a
broken one is removed.

A killed stage leaves its output under a temporary name. It removes that when it runs again; this command does
so where it has no reason to.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dvc.rwlock import SCHEMA as IN_USE_SCHEMA
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from stages.errors import InputError, reported
from stages.files.whole import whole_file

LOCK = Path("dvc.lock")
KEPT = Path(".dvc/tmp/headstart/dvc.lock")  # git ignores the folder
BROKEN = KEPT.with_name("dvc.lock.broken")
IN_USE = Path(".dvc/tmp/rwlock")  # DVC's list of the files that it reads and writes
CONFLICT = b"<<<<<<< "
WRITTEN = ("data/baselines", "data/predictions", "data/prepared", "metrics", "models")  # by stages
UNFINISHED = re.compile(r"\.(?P<final>.+)\.(?P<process>[0-9]+)(?P<part>\.new|\.old)?\.tmp")
DEEPEST = 1_000  # brackets
HASH = "md5"  # the kind of digest that DVC has for a file, and the name of its field in dvc.lock
DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")
PATIENCE = 1.0  # seconds that another DVC may take to write a file
LONGEST_NUMBER = 9  # digits of a process; a longer number may be none that the system takes


def main(arguments: Sequence[str] | None = None) -> None:
    """Restore the lock if it is broken and remove what is unfinished, or keep a copy of the lock."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.lock_file", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--keep", action="store_true", help="keep a copy of the whole file instead")
    if parser.parse_args(arguments).keep:
        keep()
    else:
        restore()
        release()
        remove_unfinished()


def keep() -> None:
    """Keep a copy of dvc.lock, if it is there and whole."""
    if LOCK.is_file() and is_whole(content := LOCK.read_bytes()):
        write(KEPT, content)


def restore() -> None:
    """Replace a broken dvc.lock by the newest whole one, and say so.

    Raises:
        InputError: the file has the marks of a merge conflict, which only a person can solve.
    """
    if not is_broken():
        return
    time.sleep(PATIENCE)
    if not is_broken():
        return
    content = LOCK.read_bytes()
    if CONFLICT in content:
        raise InputError(f"{LOCK}: has a merge conflict; docs/share.md says how to make the file again")
    write(BROKEN, content)
    source, whole = next(candidates(), ("removed, because no whole version of it was found", None))
    if whole is None:
        LOCK.unlink()
    else:
        write(LOCK, whole)
    print(f"{LOCK}: was cut off, as by a DVC that was killed while it wrote the file; {source}", flush=True)
    print(f"dvc repro takes what had finished since from its run cache; the broken file is {BROKEN}")


def release() -> None:
    """Remove DVC's list of the files that it has in use where DVC cannot read it, and say so."""
    if not is_cut(IN_USE):
        return
    time.sleep(PATIENCE)
    if is_cut(IN_USE):
        IN_USE.unlink()
        print(
            f"{IN_USE}: was cut off, as by a DVC that was killed while it wrote the file; removed", flush=True
        )


def is_cut(path: Path) -> bool:
    """Whether DVC refuses to read this list of files."""
    try:
        IN_USE_SCHEMA(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return False
    except (ValueError, RecursionError, Invalid):
        return True
    return False


def remove_unfinished() -> None:
    """Remove the temporary files and folders of stages that run no more (`files.whole` names them)."""
    for path in [*Path("data").glob(".*.tmp"), *(p for name in WRITTEN for p in Path(name).rglob(".*.tmp"))]:
        name = UNFINISHED.fullmatch(path.name)
        if name is None or len(name["process"]) > LONGEST_NUMBER or is_running(int(name["process"])):
            continue
        final = path.with_name(name["final"])
        if name["part"] == ".old" and not final.exists():  # killed between the two renames
            path.replace(final)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether there is a process with this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def candidates() -> Iterator[tuple[str, bytes]]:
    """The whole versions of the lock, the newest first, each with its message."""
    found: list[tuple[float, str, bytes]] = []
    if KEPT.is_file():
        found.append((KEPT.stat().st_mtime, "the one of the last good run is back", KEPT.read_bytes()))
    seconds = output_of_git("log", "-1", "--format=%ct", "--", str(LOCK)).strip()
    if seconds.isdigit():
        committed = output_of_git("show", f"HEAD:./{LOCK}")
        found.append((int(seconds), "the one of the last commit is back", committed))
    for _, message, content in sorted(found, key=lambda one: -one[0]):
        if is_whole(content):
            yield message, content


def output_of_git(*arguments: str) -> bytes:
    """What git prints; b"" where it fails, or where there is none."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, check=False)  # noqa: S603, S607 (fixed)
    except FileNotFoundError:
        return b""
    return result.stdout if result.returncode == 0 else b""


def is_broken() -> bool:
    """Whether there is a lock that DVC refuses to read."""
    return LOCK.is_file() and not is_whole(LOCK.read_bytes())


def is_whole(content: bytes) -> bool:
    """Whether DVC reads this as a lock."""
    if content.count(b"[") + content.count(b"{") > DEEPEST:  # DVC writes none; the parser could crash
        return False
    try:
        lock = YAML(typ="safe").load(content.decode())
        COMPILED_LOCKFILE_SCHEMA(lock)
    # A ValueError: no UTF-8, or such as month 99. A LookupError: a truth that is neither yes nor no.
    except (ValueError, LookupError, ArithmeticError, RecursionError, YAMLError, Invalid):
        return False
    # NOTE: the schema takes any text for a digest, and any name of its kind; DVC then fails with other words.
    stages = lock.get("stages", {}).values()
    files = [file for stage in stages for kind in ("deps", "outs") for file in stage.get(kind, [])]
    within = [file for listing in files for file in listing.get("files", [])]
    if not all(DIGEST.fullmatch(str(file.get(HASH))) for file in within):
        return False
    return all(
        file.get("hash", HASH) == HASH
        and isinstance(file.get("path"), str)
        and DIGEST.fullmatch(str(file.get(HASH, "0" * 32)))
        for file in files
    )


def write(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    with reported():
        main()
