"""Equal parameters give equal bytes: in another clone, beside other methods, with several at a time."""

import shutil
from pathlib import Path

import pytest

from stages.files import weights
from stages.settings.values import available_methods
from tests.pipeline.conftest import Project, change
from tests.pipeline.test_honesty import files
from tests.pipeline.test_kill import results

pytestmark = pytest.mark.full
IMPORTED = "models/imported.safetensors"
STAGES = ("prepare", "pretrain@scratch", "choose@simclr", "distil@simclr", "evaluate@simclr", "compare")
EVERY_METHOD = [name for name in available_methods() if name != "mae"]


def fresh(baseline: Project, path: Path, *, warm: bool = True, **changes: object) -> Project:
    """A clone without results of any stage; `changes` to its parameters, if there are any."""
    baseline.run("git", "clone", "--quiet", str(baseline.path), str(path))
    project = Project(path, warm=warm)
    shutil.rmtree(path / "metrics")
    (path / "dvc.lock").unlink()
    if changes:
        change(path / "params.yaml", changes)
    return project


def short_pretraining(baseline: Project, project: Project) -> dict[str, object]:
    """Parameters for every method: few steps, and weights for the imported one."""
    trained = [name for name in available_methods() if name not in ("scratch", "imported")]
    short: dict[str, object] = {
        f"pretrain.{name}.{key}": value
        for name in trained
        for key, value in (("images", 1), ("steps", 7), ("batch_size", 64))
    }
    (project.path / IMPORTED).parent.mkdir(exist_ok=True)
    shutil.copy(baseline.path / "models/encoders/simclr/run0.safetensors", project.path / IMPORTED)
    short["pretrain.imported.start.digest"] = weights.read_digest(project.path / IMPORTED)
    return short


@pytest.mark.parametrize(
    ("methods", "encoder"), [(EVERY_METHOD, "residual"), (["mae"], "vit")], ids=["residual", "vit"]
)
def test_two_clones_pretrain_the_same_encoders(
    methods: list[str], encoder: str, baseline: Project, tmp_path: Path
) -> None:
    """Only pretraining has code for each method; whole pipelines are compared below."""
    encoders = []
    for name in ("anna", "ben"):
        project = fresh(baseline, tmp_path / name, **{"methods": methods, "encoder.name": encoder})
        change(project.path / "params.yaml", short_pretraining(baseline, project))
        assert len(project.repro("pretrain")) == 1 + len(methods)
        encoders.append(files(project, "models/encoders"))
    assert len(encoders[0]) == 2 * len(methods)  # the weights and their SHA256SUMS
    assert encoders[0] == encoders[1]


def test_two_threads_give_the_same_bytes_each_time(baseline: Project, tmp_path: Path) -> None:
    """With one thread sums always have the same order; params.yaml has two."""
    changes = {
        "methods": ["simclr"], "runtime.threads": {"pretrain": 2, "finetune": 2, "evaluate": 2},
        # As little as shows it: two threads wait for each other at every step where another program runs.
        "pretrain.simclr.steps": 4, "finetune.schedule.steps": 2, "finetune.draws": 1,
        "baselines": ["majority"],
    }  # fmt: skip
    first, second = (fresh(baseline, tmp_path / name, **changes) for name in ("anna", "ben"))
    for project in (first, second):  # one after another: four threads on two cores are very slow
        project.repro()
    assert results(first) == results(second)


def test_methods_in_parallel_in_a_clone_give_the_same_bytes_as_one_after_another(
    baseline: Project, tmp_path: Path
) -> None:
    """The baseline's stages ran one after another, in warm forks; these are real processes."""
    assert baseline.warm
    parallel = fresh(baseline, tmp_path / "parallel", warm=False)
    (parallel.path / "dvc.lock").write_bytes(b"")  # as a DVC leaves it that is killed while it writes it
    # make must not build an environment: the tests have one.
    run = parallel.start("make", "repro", "JOBS=3", "GPUS=2", "--assume-old=.venv/.requirements.lock")
    output, _ = run.communicate()
    assert run.returncode == 0, output
    assert "dvc.lock: was cut off, as by a DVC that was killed" in output
    for stage in STAGES:
        assert output.count(f"Running stage '{stage}'") == 1, output
    assert "models/classifiers/simclr/index.csv" in results(parallel)
    assert results(parallel) == results(baseline)
    assert parallel.repro() == []


def test_a_failing_method_stops_make_and_keeps_finished_results(baseline: Project, tmp_path: Path) -> None:
    project = fresh(baseline, tmp_path / "project", warm=False)
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
