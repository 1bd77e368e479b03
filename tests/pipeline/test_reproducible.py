"""Equal parameters give equal bytes: in another clone, beside other methods, with several at a time."""

import re
import shutil
from pathlib import Path

import pytest

from stages.files import weights
from stages.settings.values import available_methods
from tests.pipeline.conftest import Project, change
from tests.pipeline.test_kill import results

pytestmark = pytest.mark.full
IMPORTED = "models/imported.safetensors"
EVERY_METHOD = [name for name in available_methods() if name != "mae"]


def fresh(baseline: Project, path: Path, **changes: object) -> Project:
    """A clone without results of any stage, with parameters for a short run."""
    baseline.run("git", "clone", "--quiet", str(baseline.path), str(path))
    project = Project(path, warm=False)
    shutil.rmtree(path / "metrics")
    (path / "dvc.lock").unlink()
    trained = [name for name in available_methods() if name not in ("scratch", "imported")]
    short = {f"pretrain.{name}.{key}": value for name in trained
             for key, value in (("images", 1), ("steps", 7), ("batch_size", 64))}  # fmt: skip
    (path / IMPORTED).parent.mkdir(exist_ok=True)
    shutil.copy(baseline.path / "models" / "encoders" / "simclr" / "run0.safetensors", path / IMPORTED)
    short["pretrain.imported.start.digest"] = weights.read_digest(path / IMPORTED)
    change(path / "params.yaml", short | {"finetune.budgets": [10]} | changes)
    return project


@pytest.mark.parametrize(
    ("methods", "encoder"), [(EVERY_METHOD, "residual"), (["mae"], "vit")], ids=["residual", "vit"]
)
def test_two_clones_give_the_same_bytes(
    methods: list[str], encoder: str, baseline: Project, tmp_path: Path
) -> None:
    changes = {"methods": methods, "encoder.name": encoder}
    projects = [fresh(baseline, tmp_path / name, **changes) for name in ("anna", "ben")]
    runs = [project.start("dvc", "repro") for project in projects]
    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0, output
        assert len(re.findall(r"Running stage", output)) == 2 + 5 * len(methods)
    first, second = (results(project) for project in projects)
    assert len([name for name in first if name.startswith("models/encoders")]) == len(methods)
    assert first == second


def test_two_threads_give_the_same_bytes_each_time(baseline: Project, tmp_path: Path) -> None:
    """With one thread sums always have the same order; params.yaml has two."""
    changes = {"methods": ["simclr"], "runtime.threads": {"pretrain": 2, "finetune": 2, "evaluate": 2}}
    first, second = (fresh(baseline, tmp_path / name, **changes) for name in ("anna", "ben"))
    for project in (first, second):  # one after another: four threads on two cores are very slow
        project.repro()
    assert results(first) == results(second)


def test_methods_in_parallel_give_the_same_bytes_as_one_after_another(
    baseline: Project, tmp_path: Path
) -> None:
    methods = {"methods": ["scratch", "autoencoder", "simclr"]}
    serial, parallel = (fresh(baseline, tmp_path / name, **methods) for name in ("serial", "parallel"))
    serial.repro()
    # make must not build an environment: the tests have one.
    run = parallel.start("make", "repro", "JOBS=3", "GPUS=2", "--assume-old=.venv/.requirements.lock")
    output, _ = run.communicate()
    assert run.returncode == 0, output
    for stage in (
        "prepare",
        "pretrain@autoencoder",
        "choose@scratch",
        "distil@simclr",
        "evaluate@simclr",
        "compare",
    ):
        assert output.count(f"Running stage '{stage}'") == 1, output
    assert results(parallel) == results(serial)
    assert parallel.repro() == []


def test_a_failing_method_stops_make_and_keeps_finished_results(baseline: Project, tmp_path: Path) -> None:
    project = fresh(baseline, tmp_path / "project", methods=["scratch", "simclr"])
    method = project.path / "stages" / "pretrain" / "methods" / "simclr.py"
    method.write_text(
        method.read_text().replace(
            "        first, second =", "        raise OSError(28, 'full')\n        _ ="
        )
    )
    run = project.start("make", "repro", "JOBS=2", "--assume-old=.venv/.requirements.lock")
    output, _ = run.communicate()
    assert run.returncode != 0
    assert "error: input or output: full" in output
    assert (project.path / "models" / "encoders" / "scratch" / "run0.safetensors").exists()
    assert not (project.path / "metrics" / "summary.json").exists()
