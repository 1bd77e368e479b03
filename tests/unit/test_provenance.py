import shutil
from pathlib import Path

import pytest

from stages.files import provenance
from stages.settings import load
from tests.conftest import ROOT


@pytest.fixture
def project(in_copy: Path) -> Path:
    """A copy of the code with the inputs of finetuning, small."""
    shutil.copytree(ROOT / "stages", in_copy / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("images", "labels"):
        (in_copy / "data" / "prepared" / folder).mkdir(parents=True)
        (in_copy / "data" / "prepared" / folder / "pool.csv").write_text(f"{folder}\n")
    (in_copy / "models" / "encoders").mkdir(parents=True)
    (in_copy / "models" / "encoders" / "simclr.safetensors").write_bytes(b"weights")
    return in_copy


def test_it_names_parameters_code_and_inputs(project: Path) -> None:
    found = provenance.made_from("finetune", "simclr")
    assert found["parameters"] == load.declared_values("finetune", "simclr")
    assert found["parameters"]["seed"] == 1
    assert set(found["inputs"]) == {
        "data/prepared/images", "data/prepared/labels", "models/encoders/simclr.safetensors",
    }  # fmt: skip
    assert all(len(value) == provenance.DIGITS for value in (found["code"], *found["inputs"].values()))
    assert provenance.made_from("finetune", "simclr") == found
    assert provenance.made_from("finetune", "simclr", inputs=False)["inputs"] == {}


def test_hashes_that_were_taken_before_are_taken_on(project: Path) -> None:
    hashed, found = provenance.hashes("finetune", "simclr"), provenance.made_from("finetune", "simclr")
    (project / "data" / "prepared" / "images" / "pool.csv").unlink()  # it is not read again
    assert provenance.made_from("finetune", "simclr", hashed=hashed) == found


@pytest.mark.parametrize(
    ("file", "moved"),
    [
        ("stages/finetune/train.py", "code"),
        ("stages/views.py", "code"),
        ("data/prepared/labels/pool.csv", "data/prepared/labels"),
        ("models/encoders/simclr.safetensors", "models/encoders/simclr.safetensors"),
        ("stages/evaluate/metrics.py", None),  # no part of finetuning
    ],
)
def test_what_changes_changes_its_own_hash(project: Path, file: str, moved: str | None) -> None:
    def hashes() -> dict[str, str]:
        found = provenance.made_from("finetune", "simclr")
        return {"code": found["code"], **found["inputs"]}

    before = hashes()
    with (project / file).open("a") as opened:
        opened.write("# changed\n")
    after = hashes()
    assert {name for name in before if before[name] != after[name]} == ({moved} if moved else set())


def test_a_renamed_file_in_a_folder_is_noticed(project: Path) -> None:
    before = provenance.made_from("finetune", "simclr")["inputs"]["data/prepared/images"]
    folder = project / "data" / "prepared" / "images"
    (folder / "pool.csv").rename(folder / "other.csv")
    assert provenance.made_from("finetune", "simclr")["inputs"]["data/prepared/images"] != before
