"""Write the code dependencies of every stage into dvc.yaml: the files that the stage imports.

    python -m stages.tools.dag            writes dvc.yaml
    python -m stages.tools.dag --check    exits with status 1 if dvc.yaml differs

A stage depends on the files below `stages/` that are imported, directly or transitively, by the `__main__.py`
of the package in its `cmd`, and on the page templates beside it. `pretrain` imports its method by name: its
deps contain the file of the method (`${item.method}.py`) and what the methods import. A folder all of whose
files belong to the stage stands for them, because DVC takes time for each line. Inputs and all other lines of
dvc.yaml stay as they are.
"""

import argparse
import ast
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from stages.errors import reported
from stages.files.whole import whole_file
from stages.settings.pipeline import PIPELINE

CODE = Path("stages")
METHODS = CODE / "pretrain" / "methods"
ROOM = rf"  ([\w-]+):\s*$|    cmd:\s+python -m {CODE}\.([\w.]+)"  # a stage's name, or its package
SCRIPTS = ("__main__.py", "server.py")  # are run, not imported
METHOD = f"{METHODS}/${{item.method}}.py"


def main(arguments: Sequence[str]) -> int:
    """Write or check dvc.yaml; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.dag",
        description="Write the files that each stage imports into its deps in dvc.yaml.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with status 1 if dvc.yaml differs"
    )
    options = parser.parse_args(arguments)
    old = PIPELINE.read_bytes().decode()
    new = with_code_deps(old)
    if new == old:
        return 0
    if options.check:
        print(
            f"error: {PIPELINE}: its code deps are not the files that the stages import; "
            "run `python -m stages.tools.dag`",
            file=sys.stderr,
        )
        return 1
    with whole_file(PIPELINE) as temporary:
        temporary.write_bytes(new.encode())
    return 0


def code_deps(room: str) -> list[str]:
    """The files and whole folders below `stages/` that the stage of a room depends on, sorted.

    room: the dotted name below `stages` of the package that the stage runs.
    """
    folder = CODE.joinpath(*room.split("."))
    roots = {folder / "__main__.py"}
    if room == "pretrain":
        roots |= {file for file in METHODS.glob("*.py") if is_method(file)}
    files = import_closure(roots) | set(folder.glob("*.j2"))
    whole = {file.parent for file in files if is_whole(file.parent, files)} - {METHODS}
    paths = {file.parent if file.parent in whole else file for file in files}
    return sorted({METHOD if is_method(path) else str(path) for path in paths})


def is_whole(folder: Path, used: Collection[Path]) -> bool:
    """Whether a folder has several files and no other folders of code, and a stage uses all but scripts."""
    files = {file for file in folder.iterdir() if file.suffix in (".py", ".j2")}
    flat = not any(folder.glob("*/__init__.py"))
    return flat and len(files) > 1 and all(file in used or file.name in SCRIPTS for file in files)


def is_method(file: Path) -> bool:
    """Whether a file is one of the pretraining methods."""
    return file.parent == METHODS and file.name != "__init__.py"


def import_closure(roots: Iterable[Path]) -> set[Path]:
    """Python files and all files below `stages/` that they import, directly or transitively."""
    closure: set[Path] = set()
    pending = list(roots)
    while pending:
        file = pending.pop()
        if file not in closure:
            closure.add(file)
            pending += imported_files(file)
    return closure


def imported_files(file: Path) -> set[Path]:
    """The files below `stages/` that one file imports, also inside functions, and their packages.

    A name that is imported from a package may be a module or an attribute; only modules have a file.
    """
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = file.parts[: -node.level] if node.level else ()  # of a relative import
            module = ".".join([*package, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    paths = [Path(*name.split(".")) for name in names if name.split(".")[0] == CODE.name]
    modules = {path.with_suffix(".py") for path in paths}
    packages = {folder / "__init__.py" for path in [file, *paths] for folder in (path, *path.parents)}
    return {path for path in modules | packages if CODE in path.parents and path.is_file()}


def with_code_deps(text: str) -> str:
    """The text of dvc.yaml with the code deps of every stage replaced, after the stage's inputs."""
    lines: list[str] = []
    section, room, in_deps = "", "", False
    for line in [*text.split("\n"), None]:  # None: the end of the file, where deps may end too
        if in_deps and (line is None or not line.startswith("      ")):
            lines += [f"      - {file}" for file in code_deps(room)]
            in_deps = False
        if line is None:
            break
        if re.match(r"[^\s#]", line):
            section = line.rstrip()
        elif section == "stages:" and (match := re.match(ROOM, line)):
            room = match[1] or match[2]
        is_code = in_deps and line.strip().removeprefix("- ").startswith(f"{CODE}/")
        if not is_code:
            lines.append(line)
        if section == "stages:" and line.rstrip() == "    deps:":
            in_deps = True
    return "\n".join(lines)


if __name__ == "__main__":
    with reported():
        raise SystemExit(main(sys.argv[1:]))
