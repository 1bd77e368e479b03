"""dvc.yaml and the code: a stage declares exactly what it reads and imports."""

import importlib
import shutil
from pathlib import Path
from typing import Any

import grimp
import pytest
from ruamel.yaml import YAML

from stages.settings import load, schema, values
from stages.settings.recipes import Choose, Distil, Finetune
from tests.pipeline.conftest import ROOT, Project

PIPELINE = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
METHODS = values.available_methods()
COLUMNS = {
    "prepare": [None],
    "pretrain": METHODS,
    "choose": METHODS,
    "finetune": METHODS,
    "distil": METHODS,
    "evaluate": METHODS,
    "baselines": [None],
    "compare": [None],
}
ENTRIES = {"baselines": "evaluate.baselines"}  # the packages that are not called as their stage is


@pytest.mark.parametrize("stage", COLUMNS)
def test_code_deps_are_the_import_closure(stage: str) -> None:
    used: set[str] = set()
    for method in COLUMNS[stage]:
        closure = import_closure(stage, method)
        assert closure <= code_files(deps(stage, method)), method
        used |= {dep.replace(f"/{method}.py", "/${item.method}.py") for dep in closure}
    # Nothing is declared that no column imports, but for scripts in a folder that is declared as a whole.
    unused = code_files(PIPELINE[stage]["deps"]) - used
    assert not [file for file in unused if not file.endswith(("/__main__.py", "/server.py"))]


def code_files(declared: list[str]) -> set[str]:
    """The files below `stages/` among deps, those of whole folders too."""
    code = [ROOT / dep for dep in declared if dep.startswith("stages")]
    files = [file for path in code for file in (path.glob("*.*") if path.is_dir() else [path])]
    return {str(file.relative_to(ROOT)) for file in files}


def deps(stage: str, method: str | None) -> list[str]:
    return [dep.replace("${item.method}", method or "") for dep in PIPELINE[stage]["deps"]]


def import_closure(stage: str, method: str | None) -> set[str]:
    graph = grimp.build_graph("stages", cache_dir=None)
    entry = ENTRIES.get(stage, stage)
    roots = {f"stages.{entry}.__main__"}
    if stage == "pretrain":
        roots.add(f"stages.pretrain.methods.{method}")  # imported by its name
    imported = roots.union(*(graph.find_upstream_modules(root) for root in roots))
    packages = {".".join(name.split(".")[:end]) for name in imported for end in range(1, name.count(".") + 1)}
    templates = {
        str(path.relative_to(ROOT)) for path in (ROOT / "stages" / Path(*entry.split("."))).glob("*.j2")
    }
    return {source_file(name) for name in imported | packages} | templates


def source_file(module: str) -> str:
    path = Path(*module.split("."))
    return str(path / "__init__.py") if (ROOT / path).is_dir() else f"{path}.py"


@pytest.mark.parametrize("stage", ["pretrain", "choose", "finetune", "distil"])
def test_no_test_image_or_label_is_an_input_before_evaluate(stage: str) -> None:
    deps = PIPELINE[stage]["deps"]
    assert not [dep for dep in deps if "test" in dep]
    # A folder above the test split would contain it.
    assert not [dep for dep in deps if "data/prepared/test".startswith(dep.rstrip("/") + "/")]
    if stage == "pretrain":
        assert not [dep for dep in deps if dep.startswith("data") and "labels" in dep]


def test_every_stage_has_a_description() -> None:
    assert [name for name, stage in PIPELINE.items() if not stage.get("desc")] == []


NESTED = (
    *(schema.Seeds, schema.Runtime, schema.Threads, schema.ViewPresets, schema.Pretrain),
    *(Finetune, Choose, Distil, dict),
)


class Recorder:
    """Wraps a section and records every value that is read, as a dotted key."""

    def __init__(self, section: Any, seen: set[str], prefix: str = "") -> None:
        self._section, self._seen, self._prefix = section, seen, prefix

    def _wrapped(self, name: str, value: Any) -> Any:
        key = f"{self._prefix}{name}"
        self._seen.add(key)
        # Other sections are passed on as a whole.
        nested = isinstance(value, NESTED)
        return Recorder(value, self._seen, f"{key}.") if nested else value

    def __getattr__(self, name: str) -> Any:  # noqa: D105
        return self._wrapped(name, getattr(self._section, name))

    def __getitem__(self, name: str) -> Any:  # noqa: D105
        return self._wrapped(name, self._section[name])

    def get(self, name: str) -> Any:
        """A value that may be missing."""
        return self._wrapped(name, self._section.get(name))


@pytest.mark.parametrize(
    ("module", "method"),
    [
        ("prepare.__main__", None),
        ("pretrain.__main__", "simclr"),
        ("choose.every_budget", "scratch"),
        ("finetune.every_draw", "simclr"),
        ("distil.small_budgets", "simclr"),
        ("evaluate.every_model", "simclr"),
        ("evaluate.baselines.every_baseline", None),
        ("compare.every_method", None),
    ],
)
def test_declared_parameters_are_the_parameters_read(
    module: str, method: str | None, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    shutil.rmtree("models/checkpoints")  # so that everything is computed
    seen: set[str] = set()
    parameters = load.parameters
    monkeypatch.setattr(load, "parameters", lambda *names, **raw: Recorder(parameters(*names, **raw), seen))
    importlib.import_module(f"stages.{module}").main(*([method] if method else []))
    stage = "baselines" if "baselines" in module else module.partition(".")[0]
    read = {key for key in seen if not any(other.startswith(f"{key}.") for other in seen)}
    # `distil` fits a probe only where the encoder stays frozen; here validation has labels enough, so that
    # `choose` needs no folds.
    unread = {"distil": {"probe"}, "choose": {"choose.folds"}}.get(stage, set())
    assert read | unread == set(load.declared_keys(stage, method, load.read(load.PARAMS)))
