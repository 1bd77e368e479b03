"""README.md and docs/: what they name exists, and their examples work."""

import importlib.util
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from ruamel.yaml import YAML

from stages.files import weights
from stages.settings import load
from stages.settings.schema import Params, method_params
from stages.settings.values import available_methods
from stages.tools import experiment
from tests.conftest import ROOT, tiny_encoder

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDERS = ("METHOD", "NAME")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [content for name, content in BLOCK.findall(text_of(page)) if name == language]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return BLOCK.sub("", text_of(page))


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def local_links(page: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of each link that is not to another site."""
    for link in LINK.findall(prose(page)):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor


# Names


def test_the_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= 180


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in local_links(page):
        assert target.is_relative_to(ROOT), f"{target} is outside of the repository"
        name = target.relative_to(ROOT)
        if name.parts[:1] == ("metrics",):  # a run removes and writes it
            assert f"- {name}:" in (ROOT / "dvc.yaml").read_text(), f"no stage writes {name}"
        else:
            assert target.exists(), f"{name} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{target.name} has no heading for #{anchor}"


def test_every_page_is_reachable_from_the_readme() -> None:
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += [target for target, _ in local_links(page) if target.suffix == ".md"]
    assert set(PAGES) <= reached


@every_page
def test_every_module_that_is_to_be_run_has_a_main(page: Path) -> None:
    for name in set(re.findall(r"python3? -m ([\w.]+\w)", text_of(page))):
        assert has_main(name), f"python -m {name}"


def has_main(name: str) -> bool:
    if name.partition(".")[0] not in ("stages", "benchmarks"):
        return importlib.util.find_spec(f"{name}.__main__") is not None
    if importlib.util.find_spec(name) is None:
        return False
    path = ROOT / name.replace(".", "/")
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    return file.is_file() and '__name__ == "__main__"' in file.read_text(encoding="utf-8")


@every_page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [*code_spans(page), *blocks(page, "sh"), *re.findall(r"^    .+$", prose(page), re.MULTILINE)]
    named = {name for text in commands for name in re.findall(r"(?:^|&& |\s{4})make ([a-z-]+)", text, re.M)}
    assert named <= targets


@every_page
def test_every_path_of_the_repository_exists(page: Path) -> None:
    for span in code_spans(page):
        if re.fullmatch(r"(stages|benchmarks|experiments|tests|docs|\.ci)/[\w./-]*", span):
            assert (ROOT / span).exists(), span


@every_page
def test_every_parameter_exists(page: Path) -> None:
    sections = "|".join(name for name, field in Params.model_fields.items() if name != "methods")
    keys = [span for span in code_spans(page) if re.fullmatch(rf"({sections})(\.\w+)+(: .+)?", span)]
    keys += re.findall(r"-S ([\w.]+)=", text_of(page))
    for key in keys:
        parts = key.partition(":")[0].split(".")
        assert is_parameter(Params, parts), key


def is_parameter(model: Any, path: list[str]) -> bool:
    """Whether a dotted key, which may have METHOD or NAME for a name, is one of a model's."""
    if not path:
        return True
    first, *rest = path
    if first == "pretrain" and model is Params and rest[:1] != ["runs"]:
        names = available_methods() if rest[:1] == ["METHOD"] else rest[:1]
        known = [name for name in names if name in available_methods()]
        return any(is_parameter(method_params(name), rest[1:]) for name in known)
    field = model.model_fields.get(first) if is_model(model) else None
    if field is None:
        return False
    values = models_in(field.annotation)
    if "dict" in str(field.annotation) and rest:
        if rest[0] not in (*PLACEHOLDERS, *load.read(ROOT / load.PARAMS)[path_of(first)][first]):
            return False
        rest = rest[1:]
    return not rest or any(is_parameter(value, rest) for value in values)


def path_of(mapping: str) -> str:
    """The section of params.yaml that has a mapping of names."""
    return {"presets": "views", "recipe": "finetune"}[mapping]


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation such as `Folder`, `Start | None` or `dict[str, Views]`."""
    if is_model(annotation):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in models_in(part)]


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("finetune.schedule.steps", True),
        ("finetune.schedule.stepz", False),
        ("data.folder.twins", True),
        ("pretrain.simclr.temperature", True),
        ("pretrain.simcrl.temperature", False),
        ("pretrain.simclr.momentum", False),
        ("pretrain.METHOD.start.digest", True),
        ("pretrain.METHOD.start.hash", False),
        ("views.presets.NAME.crop", True),
        ("views.presets.digits.crob", False),
        ("finetune.recipe.default.weight_decay", True),
        ("finetune.recipe.METHOD", True),
        ("finetune.recipe.nobody", False),
    ],
)
def test_a_parameter_is_known_by_the_typed_model(key: str, known: bool) -> None:
    assert is_parameter(Params, key.split(".")) == known


# Examples


@pytest.mark.parametrize(
    "content", [content for page in PAGES for content in blocks(page, "yaml")], ids=lambda text: text[:20]
)
def test_values_for_params_yaml_are_valid(content: str) -> None:
    changes = YAML(typ="safe").load(content)
    raw = load.read(ROOT / load.PARAMS)
    dotted = any("." in key for key in changes)
    load.validated(experiment.applied(raw, changes) if dotted else merged(raw, changes))


def merged(raw: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = deepcopy(raw)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def test_the_encoder_is_used_as_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks(README, "python")
    (named,) = re.findall(r'Path\("(.+?)"\)', example)
    file = tmp_path / named
    file.parent.mkdir(parents=True)
    encoder = tiny_encoder().eval()
    weights.write_encoder(file, encoder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 (our own example)
    assert names["features"].shape == (8, encoder.features)
    assert torch.equal(names["features"], encoder(names["images"]))
    assert not names["encoder"].training
