import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from stages.files import digests, provenance
from stages.settings import load
from tests.conftest import ROOT, seal


@pytest.fixture
def project(in_copy: Path) -> Path:
    """A copy of the code with the inputs of finetuning, small."""
    shutil.copytree(ROOT / "stages", in_copy / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("images", "labels"):
        (in_copy / "data" / "prepared" / folder).mkdir(parents=True)
        (in_copy / "data" / "prepared" / folder / "pool.csv").write_text(f"{folder}\n")
    (in_copy / "models" / "encoders" / "simclr").mkdir(parents=True)
    (in_copy / "models" / "encoders" / "simclr" / "run0.safetensors").write_bytes(b"weights")
    (in_copy / "models" / "recipes").mkdir()
    (in_copy / "models" / "recipes" / "simclr.json").write_text("{}")
    seal()
    return in_copy


def test_parameters_code_and_inputs_are_recorded(project: Path) -> None:
    record = provenance.made_from("finetune", "simclr")
    assert record["parameters"] == load.declared_values("finetune", "simclr")
    assert record["parameters"]["seeds.draws"] == 1
    assert set(record["inputs"]) == {
        "data/prepared/images", "data/prepared/labels", "models/encoders/simclr",
        "models/recipes/simclr.json",
    }  # fmt: skip
    assert all(len(value) == provenance.DIGITS for value in (record["code"], *record["inputs"].values()))
    assert provenance.made_from("finetune", "simclr") == record
    assert provenance.made_from("finetune", "simclr", inputs=False)["inputs"] == {}


def test_given_hashes_are_not_computed_again(project: Path) -> None:
    hashed = provenance.hashes("finetune", "simclr")
    record = provenance.made_from("finetune", "simclr")
    (project / "data" / "prepared" / "images" / "pool.csv").unlink()  # it is not read again
    assert provenance.made_from("finetune", "simclr", hashed=hashed) == record


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("stages/tasks/finetuning.py", "code"),
        ("stages/views/augment.py", "code"),
        ("data/prepared/labels/pool.csv", "data/prepared/labels"),
        ("models/encoders/simclr/run0.safetensors", "models/encoders/simclr"),
        ("stages/evaluate/cost.py", None),  # finetuning does not depend on it
    ],
)
def test_a_changed_file_changes_only_its_own_hash(project: Path, file: str, changed: str | None) -> None:
    def hashes() -> dict[str, str]:
        record = provenance.made_from("finetune", "simclr")
        return {"code": record["code"], **record["inputs"]}

    before = hashes()
    with (project / file).open("a") as opened:
        opened.write("# changed\n")
    seal()
    after = hashes()
    assert {name for name in before if before[name] != after[name]} == ({changed} if changed else set())


def test_a_renamed_file_changes_the_hash_of_its_folder(project: Path) -> None:
    before = provenance.made_from("finetune", "simclr")["inputs"]["data/prepared/images"]
    folder = project / "data" / "prepared" / "images"
    (folder / "pool.csv").rename(folder / "other.csv")
    seal()
    assert provenance.made_from("finetune", "simclr")["inputs"]["data/prepared/images"] != before


def test_a_file_is_read_again_only_if_it_was_written_to(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, read = project / "data/prepared/images/pool.csv", []
    digests._sha256.cache_clear()  # the fixture has read it in this process
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: read.append(Path(file.name).name) or digest(file, name)
    )
    first = provenance.hashes("finetune", "simclr")
    assert read.count("pool.csv") == 2
    read.clear()
    assert provenance.hashes("finetune", "simclr") == first
    assert read == []
    time.sleep(0.02)  # a clock tick of the file system
    before = pool.stat()
    pool.write_text("IMAGES\n")  # as long as before, with the time of before
    os.utime(pool, ns=(before.st_atime_ns, before.st_mtime_ns))
    seal()
    after = provenance.hashes("finetune", "simclr")
    assert read == ["pool.csv"]
    assert {name for name in first if first[name] != after[name]} == {"data/prepared/images/pool.csv"}
