"""Files that are not as their stage wrote them: every reader refuses them before it trains or writes."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from stages.choose import every_budget
from stages.distil import small_budgets
from stages.errors import InputError
from stages.evaluate import every_model
from stages.evaluate.baselines import every_baseline
from stages.files.digests import TABLE, require_as_written, write_digests
from stages.files.json_files import write_json
from stages.files.paths import CLASSIFIERS, DISTILLED, ENCODERS, IMAGES, LABELS, RECIPES, TEST
from stages.files.provenance import hashes
from stages.files.tables import read_table, write_table
from stages.finetune import every_draw
from stages.pretrain import __main__ as pretrain
from stages.tools import suggest, tune, views
from tests.conftest import ROOT, seal
from tests.pipeline.conftest import SMALL, change
from tests.unit.test_stages import write_part

METHOD, ROWS = "simclr", 40


@pytest.fixture
def project(in_copy: Path, digits: tuple[Tensor, Tensor]) -> Path:
    """A working directory with prepared data; models are placeholders, because no reader gets that far."""
    (in_copy / "stages").symlink_to(ROOT / "stages")
    change(in_copy / "params.yaml", SMALL | {"finetune.budgets": [10]})
    images, labels = (part.numpy() for part in digits)
    write_part(IMAGES, "pool", images[:ROWS], labels[:ROWS])
    write_part(IMAGES, "validation", images[100:140], labels[100:140])
    write_part(TEST, "images", images[200:240], labels[200:240])
    (TEST / "images.csv").rename(TEST / "index.csv")
    write_table(LABELS / "pool.csv", read_table(IMAGES / "pool.csv")[["id", "label"]])
    write_json(LABELS / "classes.json", [str(digit) for digit in range(10)])
    for folder in (ENCODERS, CLASSIFIERS, DISTILLED):
        (folder / METHOD).mkdir(parents=True)
        (folder / METHOD / "index.csv").write_text("a placeholder\n")
    write_json(RECIPES / f"{METHOD}.json", {})
    seal()
    return in_copy


def rewritten(path: Path, content: bytes) -> None:
    """Write into the same file; its size, time and inode stay, and DVC notices nothing."""
    before = path.stat()
    assert len(content) == before.st_size
    assert content != path.read_bytes()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size, before.st_mtime_ns, before.st_ino,
    )  # fmt: skip


def replaced(path: Path, old: bytes, new: bytes) -> None:
    rewritten(path, path.read_bytes().replace(old, new, 1))


def pixels_flipped(path: Path) -> None:
    content = path.read_bytes()
    rewritten(path, content[:128] + bytes(255 - value for value in content[128:]))


def one_bit_flipped(path: Path) -> None:
    content = path.read_bytes()
    rewritten(path, content[:-1] + bytes([content[-1] ^ 1]))


def images_swapped(path: Path) -> None:
    content, size = path.read_bytes(), 28 * 28
    first, second = content[128 : 128 + size], content[128 + size : 128 + 2 * size]
    rewritten(path, content[:128] + second + first + content[128 + 2 * size :])


def fortran_order(path: Path) -> None:
    replaced(path, b"'fortran_order': False", b"'fortran_order': True ")


def another_shape(path: Path) -> None:
    replaced(path, b"1, 28, 28", b"1, 14, 56")


def first_label_moved(path: Path) -> None:
    """The label is the last field of a line."""
    header, first, *others = path.read_text().splitlines()
    moved = first[:-1] + str((int(first[-1]) + 1) % 10)
    rewritten(path, ("\n".join([header, moved, *others]) + "\n").encode())


def classes_permuted(path: Path) -> None:
    rewritten(path, (json.dumps(json.loads(path.read_text())[::-1], indent=2) + "\n").encode())


def last_row_removed(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


Alteration = Callable[[Path], object]
ALTERED: list[tuple[Path, Alteration]] = [
    (IMAGES / "pool.npy", pixels_flipped),
    (IMAGES / "pool.npy", one_bit_flipped),
    (IMAGES / "pool.npy", images_swapped),
    (IMAGES / "pool.npy", fortran_order),
    (IMAGES / "pool.npy", another_shape),
    (IMAGES / "pool.csv", last_row_removed),
    (IMAGES / "pool.csv", Path.unlink),
    (IMAGES / "validation.npy", images_swapped),
    (IMAGES / "validation.csv", first_label_moved),
    (LABELS / "pool.csv", first_label_moved),
    (LABELS / "pool.csv", last_row_removed),
    (LABELS / "classes.json", classes_permuted),
    (TEST / "images.npy", one_bit_flipped),
    (TEST / "index.csv", first_label_moved),
    (TEST / "index.csv", last_row_removed),
]
EVERYTHING = (IMAGES, LABELS, TEST)
READERS: dict[str, tuple[Callable[[], object], tuple[Path, ...]]] = {
    "pretrain": (lambda: pretrain.main(METHOD), (IMAGES,)),
    "choose": (lambda: every_budget.main(METHOD), (IMAGES, LABELS)),
    "finetune": (lambda: every_draw.main(METHOD), (IMAGES, LABELS)),
    "distil": (lambda: small_budgets.main(METHOD), (IMAGES, LABELS)),
    "evaluate": (lambda: every_model.main(METHOD), EVERYTHING),
    "baselines": (lambda: every_baseline.main(), EVERYTHING),
    "tune": (lambda: tune.tune(METHOD, [4], 1), (IMAGES, LABELS)),
    "views": (lambda: views.main([]), (IMAGES, LABELS)),
    # It reads the pool only.
    "suggest": (
        lambda: suggest.main(["--count", "5", "--method", METHOD]),
        (IMAGES / "pool.npy", IMAGES / "pool.csv", LABELS / "pool.csv"),
    ),
}


READINGS = [
    (path, alter, reader)
    for path, alter in ALTERED
    for reader, (_, read) in READERS.items()
    if path in read or path.parent in read
]


def state() -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and path.parts[0] not in ("stages", ".dvc")
    }


@pytest.mark.parametrize(
    ("path", "alter", "reader"),
    READINGS,
    ids=[f"{path.name}-{alter.__name__}-{reader}" for path, alter, reader in READINGS],
)
@pytest.mark.usefixtures("project")
def test_what_its_stage_did_not_write_is_refused_before_anything_is_written(
    path: Path, alter: Alteration, reader: str
) -> None:
    run, _ = READERS[reader]
    alter(path)
    before = state()
    with pytest.raises(InputError) as caught:
        run()
    (finding,) = caught.value.args
    assert finding.startswith(f"{path}: is not as its stage wrote it (")
    assert f"run `rm -r {path.parent} && dvc repro`" in finding
    assert state() == before


@pytest.mark.usefixtures("project")
def test_files_that_are_as_written_are_hashed_and_the_table_is_no_input() -> None:
    hashed = hashes("evaluate", METHOD)
    assert hashed[str(IMAGES / "pool.npy")] == hashlib.sha256((IMAGES / "pool.npy").read_bytes()).hexdigest()
    assert not [name for name in hashed if name.endswith(TABLE)]  # else a new label would change each key


@pytest.mark.usefixtures("project")
def test_a_folder_that_nothing_has_made_is_missing_and_not_old() -> None:
    shutil.rmtree(LABELS)
    with pytest.raises(FileNotFoundError):  # of which the command says: run `dvc repro` to make it
        hashes("finetune", METHOD)


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (None, f"{LABELS / TABLE}: is missing, as where an earlier version of the code made the folder"),
        (b"", f"{LABELS / TABLE}: is not as its stage wrote it (it is not the table of {LABELS})"),
        (b"\xff\n", f"{LABELS / TABLE}: is not as its stage wrote it (it is not the table of {LABELS})"),
        (
            f"# {LABELS}\n".encode(),
            f"{LABELS / 'classes.json'}: is not as its stage wrote it ({TABLE} does not list it)",
        ),
        (
            f"# {LABELS}\n{'0' * 63}  pool.csv\n".encode(),
            f"{LABELS / TABLE}: is not as its stage wrote it (it is no table",
        ),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_folder_without_a_whole_table_is_refused(content: bytes | None, how: str) -> None:
    (LABELS / TABLE).unlink() if content is None else (LABELS / TABLE).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(how)):
        hashes("finetune", METHOD)


@pytest.mark.usefixtures("project")
def test_the_whole_folder_of_another_method_is_refused() -> None:
    models, others = CLASSIFIERS / METHOD, CLASSIFIERS / "another"
    (models / "n10-draw0.safetensors").write_bytes(b"content")
    seal()
    hashes("evaluate", METHOD)
    shutil.copytree(models, others)
    write_digests(others)
    shutil.rmtree(models)
    others.rename(models)
    message = f"{models / TABLE}: is not as its stage wrote it (it is not the table of {models})"
    with pytest.raises(InputError, match=re.escape(message)):
        hashes("evaluate", METHOD)


@pytest.mark.usefixtures("project")
def test_models_and_their_index_are_refused_too() -> None:
    first, second = (
        CLASSIFIERS / METHOD / "n10-draw0.safetensors",
        CLASSIFIERS / METHOD / "n10-draw1.safetensors",
    )
    first.write_bytes(b"first")
    with pytest.raises(InputError, match=rf"n10-draw0\.safetensors: .*{TABLE} does not list it"):
        hashes("evaluate", METHOD)
    second.write_bytes(b"other")
    seal()
    hashes("evaluate", METHOD)
    rewritten(first, b"other")  # both are models with a valid digest of their own
    rewritten(second, b"first")
    with pytest.raises(InputError, match=r"n10-draw0\.safetensors: .*its SHA-256 is not that in"):
        hashes("distil", METHOD)


def test_files_in_folders_have_digests_too_and_the_command_sha256sum_reads_the_table(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"content")
    (tmp_path / "a").write_bytes(b"")
    write_digests(tmp_path)
    digests = {
        str(tmp_path / name): hashlib.sha256(of).hexdigest()
        for name, of in (("a", b""), ("inner/file", b"content"))
    }
    require_as_written(tmp_path, digests)
    if shutil.which("sha256sum"):
        subprocess.run(
            ["sha256sum", "--check", "--strict", TABLE], cwd=tmp_path, check=True, capture_output=True
        )
