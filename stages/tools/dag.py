"""Write the code part of every stage's `deps` in dvc.yaml: the files that the stage imports.

    python -m stages.tools.dag            writes dvc.yaml
    python -m stages.tools.dag --check    exits 1 if dvc.yaml differs

A stage depends on the files below `stages/` that its `__main__.py` imports, directly or through others, and
on the page templates in its folder. `pretrain` imports its method by name: its deps contain the method's file
(`${item.method}.py`) and what the methods import. Inputs and all other lines of dvc.yaml stay as they are.
"""

import ast
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from stages.errors import reported
from stages.files.whole import whole_file
from stages.settings.load import PIPELINE, read
from stages.settings.schema import available_methods

CODE = "stages/"
METHODS = Path("stages/pretrain/methods")
METHOD = f"{METHODS}/${{item.method}}.py"


def main(arguments: list[str]) -> int:
    """Write or check dvc.yaml; the exit status."""
    old = PIPELINE.read_text(encoding="utf-8")
    new = with_code_deps(old)
    if new == old:
        return 0
    if arguments == ["--check"]:
        print(f"{PIPELINE}: its code deps are not what the stages import; run `make dag`", file=sys.stderr)
        return 1
    with whole_file(PIPELINE) as temporary:
        temporary.write_text(new, encoding="utf-8")
    return 0


def code_deps(stage: str) -> list[str]:
    """The files below `stages/` that a stage depends on, sorted."""
    roots = {Path("stages") / stage / "__main__.py"}
    if stage == "pretrain":
        roots |= {METHODS / f"{name}.py" for name in available_methods()}
    files = import_closure(roots) | set((Path("stages") / stage).glob("*.j2"))
    return sorted({METHOD if is_method(file) else str(file) for file in files})


def is_method(file: Path) -> bool:
    """Whether a file is one of the pretraining methods."""
    return file.parent == METHODS and file.name != "__init__.py"


def import_closure(roots: Iterable[Path]) -> set[Path]:
    """Python files and all files below `stages/` that they import, directly or through others."""
    closure: set[Path] = set()
    waiting = list(roots)
    while waiting:
        file = waiting.pop()
        if file not in closure:
            closure.add(file)
            waiting += imported(file)
    return closure


@cache
def imported(file: Path) -> frozenset[Path]:
    """The files below `stages/` that one file imports, anywhere in it; with the packages around them."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    paths = [Path(*name.split(".")) for name in names if name.split(".")[0] == "stages"]
    modules = {path.with_suffix(".py") for path in paths}
    packages = {folder / "__init__.py" for path in [file, *paths] for folder in (path, *path.parents)}
    return frozenset(found for found in modules | packages if found.is_file() and found.parts[0] == "stages")


def with_code_deps(text: str) -> str:
    """The text of dvc.yaml with the code deps of every stage written anew, behind its inputs."""
    lines: list[str] = []
    stages = list(read(PIPELINE)["stages"])
    stage, in_deps = "", False
    for line in text.splitlines():
        name = line.strip().removesuffix(":")
        if line.startswith("  ") and not line.startswith("   ") and name in stages:
            stage = name
        if in_deps and not line.startswith("      - "):
            lines += [f"      - {file}" for file in code_deps(stage)]
            in_deps = False
        if not (in_deps and line.strip().removeprefix("- ").startswith(CODE)):
            lines.append(line)
        if stage and line == "    deps:":
            in_deps = True
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with reported():
        raise SystemExit(main(sys.argv[1:]))
