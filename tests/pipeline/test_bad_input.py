"""Bad input: one clear message, non-zero exit, nothing lost."""

import errno
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.files import locks
from stages.files.packs import write_pack
from stages.prepare import __main__ as prepare
from stages.prepare import parts
from tests.pipeline.conftest import Project
from tests.pipeline.test_honesty import files
from tests.unit.test_digests import rewritten
from tests.unit.test_written import last_digit


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pretrain__simclr__temprature", 0.5, ["pretrain.simclr", "temprature", "did you mean temperature"]),
        ("pretrain__simclr__temperature", -1, ["pretrain.simclr.temperature", "-1", "greater than 0"]),
        ("finetune__draws", "three", ["finetune.draws", "'three'", "integer"]),
        ("methods", ["scratch", "simcrl"], ["methods", "'simcrl'", "did you mean simclr", "autoencoder"]),
        (
            "encoder__name",
            "resnet",
            ["encoder.name", "'resnet'", "allowed: cnn, residual, vit, or timm/NAME"],
        ),
        ("finetune__budgets", [10, 100_000], ["finetune.budgets[1]", "100000", "500"]),
        ("finetune__budgets", [5], ["finetune.budgets[0]", "5", "10"]),
    ],
)
def test_bad_parameters_are_refused_by_name_before_any_work(
    project: Project, key: str, value: object, words: list[str]
) -> None:
    before = files(project, "models") | files(project, "metrics") | files(project, "data")
    project.set(**{key: value})
    for command in (["stages.settings"], ["stages.finetune", "simclr"]):
        result = project.stage(*command, check=False)
        assert result.returncode == 2
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 1
        assert all(word in lines[0] for word in ["params.yaml", *words]), lines[0]
    assert files(project, "models") | files(project, "metrics") | files(project, "data") == before


def test_dvc_repro_stops_at_a_bad_parameter_and_comes_back_without_running(project: Project) -> None:
    before = files(project, "models") | files(project, "metrics") | files(project, "data")
    project.set(pretrain__simclr__temperature=-1)
    result = project.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert "error: params.yaml: pretrain.simclr.temperature is -1; allowed: " in result.stderr
    assert "Traceback" not in result.stderr
    # NOTE: DVC removes a stage's outputs before it starts it; they come back from the cache.
    project.run("git", "checkout", "--quiet", "params.yaml")
    assert project.repro() == []
    assert files(project, "models") | files(project, "metrics") | files(project, "data") == before


def test_failing_disk_in_prepare_leaves_all_three_outputs(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(project, "data")
    project.set(data__train_limit=700)
    monkeypatch.chdir(project.path)
    write = write_pack

    def failing(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
        if path.name == "images.npy":  # of the test split: the last of the three
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, images, rows)

    monkeypatch.setattr(parts, "write_pack", failing)
    monkeypatch.setattr(locks, "_claimed", {})  # as a process that ends
    with pytest.raises(OSError, match="No space left"):
        prepare.main()
    assert files(project, "data") == before
    monkeypatch.undo()
    project.stage("stages.prepare")
    assert files(project, "data") != before


def test_every_error_is_listed_at_once(project: Project) -> None:
    project.set(seeds__split=-1, encoder__width="wide", finetune__budgets=[3])
    lines = project.stage("stages.settings", check=False).stderr.splitlines()
    assert len(lines) == 3
    for line, key in zip(lines, ("seeds.split", "encoder.width", "finetune.budgets[0]"), strict=True):
        assert line.startswith(f"error: params.yaml: {key} is ")


def test_truncated_source_is_refused_with_both_checksums(project: Project) -> None:
    before = files(project, "data/prepared")
    raw = project.path / "data" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b truncated")
    result = project.stage("stages.prepare", check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    for word in ("train-images-idx3-ubyte.gz", "440fcabf73cc", "expected"):
        assert word in result.stderr
    assert files(project, "data/prepared") == before


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        pytest.param("metrics/pretrain/simclr.csv", ["stages.compare"], marks=pytest.mark.full),
        ("metrics/finetune/simclr.json", ["stages.compare"]),
        ("models/recipes/simclr.json", ["stages.finetune", "simclr"]),
    ],
)
def test_the_printed_remedy_repairs_a_file_that_was_altered_unseen(
    project: Project, name: str, reader: list[str]
) -> None:
    assert project.repro() == []  # DVC knows the files of this copy
    before = files(project, "models") | files(project, "metrics")
    path = project.path / name
    content = path.read_bytes()
    at = last_digit(content)
    rewritten(path, content[:at] + str(int(content[at : at + 1]) ^ 1).encode() + content[at + 1 :])
    assert project.repro() == []  # DVC goes by size and time
    refused = project.stage(*reader, check=False)
    assert refused.returncode == 2
    (message,) = refused.stderr.splitlines()
    remedy = re.search(f"{name}: is not as its stage wrote it .*; run `(.*)` to make it again", message)
    assert remedy
    project.run("sh", "-c", remedy[1])
    after = files(project, "models") | files(project, "metrics")
    differ = {key for key in before | after if before.get(key) != after.get(key)}
    assert {key for key in differ if not key.startswith("metrics/timings/")} <= {"metrics/report.html"}
    project.stage(*reader)


@pytest.mark.parametrize(
    "name",
    [
        "data/prepared/images/pool.npy",
        pytest.param("models/recipes/simclr.json", marks=pytest.mark.full),
    ],
)
def test_the_printed_remedies_repair_what_is_damaged_in_the_cache_too(project: Project, name: str) -> None:
    assert project.repro() == []
    path = project.path / name
    before = path.read_bytes()
    digest = hashlib.md5(before).hexdigest()  # noqa: S324 (DVC's)
    cached = project.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    assert cached.read_bytes() == before
    for file in (path, cached):
        mode = file.stat().st_mode
        file.chmod(0o644)
        rewritten(file, before[:-3] + bytes([before[-3] ^ 1]) + before[-2:])
        file.chmod(mode)
    refused = project.stage("stages.finetune", "simclr", check=False)
    first, second = re.findall("run `(.*?)`", refused.stderr)
    project.run("sh", "-c", first)
    again = project.stage("stages.finetune", "simclr", check=False)
    assert again.stderr == refused.stderr  # DVC has brought the damaged one back
    assert "1 damaged" in project.run("sh", "-c", second).stdout
    project.run("sh", "-c", first)
    assert path.read_bytes() == before
    project.stage("stages.finetune", "simclr")


def test_unwritable_output_is_said(project: Project) -> None:
    encoders = project.path / "models" / "encoders"
    shutil.rmtree(encoders)
    encoders.write_text("a file where a folder should be")
    result = project.stage("stages.pretrain", "scratch", check=False)
    assert result.returncode == 2
    assert "models/encoders" in result.stderr
    assert "Traceback" not in result.stderr


def test_unwritable_figures_are_found_before_the_training(project: Project) -> None:
    before = files(project, "models")
    folder = project.path / "metrics" / "pretrain"
    folder.rename(project.path / "aside")
    folder.write_text("a file where a folder should be")
    project.set(pretrain__simclr__temperature=0.3)
    result = project.stage("stages.pretrain", "simclr", check=False)
    assert result.returncode == 2
    assert result.stdout == ""  # no line of progress
    assert "metrics/pretrain" in result.stderr
    assert files(project, "models") == before


def test_half_written_method_is_named(project: Project) -> None:
    (project.path / "stages" / "pretrain" / "methods" / "mine.py").write_text("def half(:\n")
    project.set(pretrain__mine={}, methods=["scratch", "mine"])
    result = project.stage("stages.settings", check=False)
    assert result.returncode == 2
    assert "methods/mine.py: cannot be used as a method (SyntaxError" in result.stderr
    assert "Traceback" not in result.stderr


def test_damaged_input_is_named(project: Project) -> None:
    before = files(project, "models/classifiers")
    encoder = project.path / "models" / "encoders" / "simclr" / "run0.safetensors"
    encoder.write_bytes(encoder.read_bytes()[:-100])
    result = project.stage("stages.finetune", "simclr", check=False)
    assert result.returncode == 2
    assert "models/encoders/simclr/run0.safetensors" in result.stderr
    assert "Traceback" not in result.stderr
    assert files(project, "models/classifiers") == before


def test_diverging_training_stops_and_leaves_the_old_encoder(project: Project) -> None:
    curve = "metrics/pretrain/simclr.csv"  # written row by row: it shows how the loss diverges
    before = files(project, "models") | files(project, "metrics")
    project.set(pretrain__simclr__learning_rate=10.0, pretrain__simclr__weight_decay=10.0)
    project.set(pretrain__simclr__temperature=1e-30)
    result = project.stage("stages.pretrain", "simclr", check=False)
    assert result.returncode == 2
    line = result.stderr.splitlines()[-1]
    assert "the loss is" in line
    assert "at step" in line
    assert "last good figures" in line
    after = files(project, "models") | files(project, "metrics")
    assert after[curve].startswith(b"run,step,epoch,loss,")
    assert after | {curve: b""} == before | {curve: b""}


def test_missing_params_file_is_said(project: Project) -> None:
    Path(project.path / "params.yaml").unlink()
    result = project.stage("stages.settings", check=False)
    assert result.returncode == 2
    assert "params.yaml" in result.stderr
