"""The code deps in dvc.yaml, on a small tree of Python files. tests/pipeline checks those of the project."""

from pathlib import Path

import pytest

from stages.tools import dag

FILES = {
    "__init__.py": "",
    "errors.py": "",
    "unused.py": "",
    "evaluate/__init__.py": "",
    "evaluate/more/__init__.py": "",
    "evaluate/more/__main__.py": "import stages.errors",
    "files/__init__.py": "",
    "files/packs.py": "import numpy\nfrom stages.errors import InputError\n",
    "files/late.py": "",
    "prepare/__init__.py": "",
    "prepare/__main__.py": "from stages.files import packs\ndef main():\n    import stages.files.late\n",
    "prepare/page.html.j2": "<p>",
    "pretrain/__init__.py": "",
    "pretrain/__main__.py": "from .train import train\nfrom . import start\n",
    "pretrain/train.py": "",
    "pretrain/start.py": "from ..errors import InputError\n",
    "pretrain/methods/__init__.py": "",
    "pretrain/methods/gan.py": "from stages.pretrain import decoder\n",
    "pretrain/methods/simclr.py": "import torch\n",
    "pretrain/decoder.py": "",
}
PREPARE = [
    "stages/__init__.py",
    "stages/errors.py",
    "stages/files",
    "stages/prepare",
]
PRETRAIN = [
    "stages/__init__.py",
    "stages/errors.py",
    "stages/pretrain/__init__.py",
    "stages/pretrain/__main__.py",
    "stages/pretrain/decoder.py",
    "stages/pretrain/methods/${item.method}.py",
    "stages/pretrain/methods/__init__.py",
    "stages/pretrain/start.py",
    "stages/pretrain/train.py",
]
# Odd on purpose: comments, spaces, an inline list, a plot that is named like a stage, deps at the end.
PIPELINE = """\
# a comment
stages:
  prepare:
    cmd:   python -m stages.prepare
    params: [seed]
    deps:
      - ${data.path}  # an input
      # a comment between the inputs
      - 'data/é'
%(prepare)s    outs:
      - stages/are/not/deps

  pretrain:
    matrix:
      method: ${methods}
    cmd: python -m stages.pretrain ${item.method}
    outs:
      - models
    deps:
      - data/prepared
%(pretrain)s
plots:
  prepare:
    deps:
      - stages/left/as/it/is.py
"""


def pipeline(prepare: list[str], pretrain: list[str]) -> str:
    """The text of dvc.yaml with these code deps of the two stages."""
    stages = {"prepare": prepare, "pretrain": pretrain}
    return PIPELINE % {name: "".join(f"      - {file}\n" for file in files) for name, files in stages.items()}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files above."""
    for name, content in FILES.items():
        file = tmp_path / "stages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("tree")
def test_deps_are_the_files_that_a_stage_imports_or_whole_folders_of_them() -> None:
    assert dag.code_deps("prepare") == PREPARE


@pytest.mark.parametrize("script", ["__main__.py", "server.py"])
def test_a_folder_that_is_used_as_a_whole_may_have_scripts(tree: Path, script: str) -> None:
    (tree / "stages/files" / script).write_text("import stages.unused")
    assert dag.code_deps("prepare") == PREPARE


@pytest.mark.parametrize("unused", ["more.py", "page.html.j2", "nested/__init__.py"])
def test_files_are_named_where_a_stage_does_not_use_all_of_a_folder(tree: Path, unused: str) -> None:
    (tree / "stages/files" / unused).parent.mkdir(exist_ok=True)
    (tree / "stages/files" / unused).write_text("")
    files = [f"stages/files/{name}" for name in ("__init__.py", "late.py", "packs.py")]
    assert dag.code_deps("prepare") == sorted({*PREPARE, *files} - {"stages/files"})


@pytest.mark.usefixtures("tree")
def test_deps_of_pretrain_have_one_method_and_what_all_methods_import() -> None:
    assert dag.code_deps("pretrain") == PRETRAIN


def test_deps_are_those_of_the_package_that_a_stage_runs(tree: Path) -> None:
    file, start = (
        tree / "dvc.yaml",
        "stages:\n  other:\n    cmd: python -m stages.evaluate.more x\n    deps:\n",
    )
    file.write_text(start)
    assert dag.main([]) == 0
    package = ["__init__.py", "errors.py", "evaluate/__init__.py", "evaluate/more"]
    assert file.read_text() == start + "".join(f"      - stages/{name}\n" for name in package)


@pytest.mark.usefixtures("tree")
def test_imports_in_a_circle_come_to_an_end() -> None:
    Path("stages/errors.py").write_text("import stages.files.packs\n")
    assert Path("stages/files/packs.py") in dag.import_closure([Path("stages/errors.py")])
    assert dag.code_deps("prepare") == PREPARE


@pytest.mark.parametrize("old", [([], []), (PREPARE, PRETRAIN), (["stages/gone.py"], PREPARE)])
def test_only_code_deps_are_replaced(tree: Path, old: tuple[list[str], list[str]]) -> None:
    file = tree / "dvc.yaml"
    file.write_text(pipeline(*old), encoding="utf-8")
    assert dag.main([]) == 0
    assert file.read_bytes() == pipeline(PREPARE, PRETRAIN).encode()


@pytest.mark.parametrize("end", ["", "\n", "\n\n# the end"])
def test_deps_may_be_the_last_lines(tree: Path, end: str) -> None:
    file, inputs = tree / "dvc.yaml", "stages:\n  prepare:\n    deps:\n      - data"
    file.write_text(inputs + end)
    assert dag.main([]) == 0
    assert file.read_text() == inputs + "".join(f"\n      - {name}" for name in PREPARE) + end


def test_check_compares_and_writes_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tree / "dvc.yaml"
    file.write_text(pipeline(PREPARE, PRETRAIN), encoding="utf-8")
    assert dag.main(["--check"]) == 0
    assert capsys.readouterr().err == ""
    stale = pipeline(PREPARE[1:], PRETRAIN)
    file.write_text(stale, encoding="utf-8")
    assert dag.main(["--check"]) == 1
    assert "run `python -m stages.tools.dag`" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == stale


def test_an_unknown_option_is_refused_before_anything_is_written(tree: Path) -> None:
    file = tree / "dvc.yaml"
    file.write_text(pipeline([], []), encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        dag.main(["--chekc"])
    assert caught.value.code == 2
    assert file.read_text(encoding="utf-8") == pipeline([], [])
