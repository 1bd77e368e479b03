import fcntl
import math
import os
import pickle
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from stages.errors import InputError, reported
from stages.evaluate.held_out import HeldOut
from stages.files import packs
from stages.files.json_files import read_json, write_json
from stages.files.locks import CLAIMS, require_writable
from stages.files.packs import PART, part_size, read_pack, write_array, write_pack
from stages.files.paths import IMAGES, LABELS, TEST
from stages.files.tables import read_table, write_pieces, write_table
from stages.files.whole import whole_file, whole_folder
from stages.images.tensors import as_tensor, pixels
from stages.tasks.labels import class_number, read_labels, read_pool_labels
from stages.tasks.validation import validation_labelled
from tests.conftest import ROOT, Bomb

# --- atomic writing


def interrupted(path: Path) -> None:
    path.write_text("half")
    raise KeyboardInterrupt


def test_a_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename works only within one file system
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "a.txt"
    if before is not None:
        path.write_text(before)
    with pytest.raises(KeyboardInterrupt), whole_file(path) as temporary:
        interrupted(temporary)
    files = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert files == ({"a.txt": before} if before else {})


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "models" / "column"
    path.mkdir(parents=True)
    (path / "stale").write_text("old")
    with whole_folder(path) as temporary:
        (temporary / "fresh").write_text("new")
        assert [file.name for file in path.iterdir()] == ["stale"]
    assert [file.name for file in path.iterdir()] == ["fresh"]
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "column"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_folder(path) as temporary:
        interrupted(temporary / "old")
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "old").read_text() == "old"


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "column"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(FileNotFoundError), whole_folder(path) as temporary:
        temporary.rmdir()  # so that the last rename fails, after the old folder was moved
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "old").read_text() == "old"


@pytest.mark.parametrize("making", ["a file", "a folder"])
def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path, making: str) -> None:
    for stale in (f".column.{os.getpid()}.new.tmp", ".column.1.old.tmp"):
        (tmp_path / stale).mkdir()
        (tmp_path / stale / "half").write_text("half")
    (tmp_path / f".column.{os.getpid()}.tmp").write_text("half")
    (tmp_path / ".column.2.tmp").symlink_to(tmp_path)
    if making == "a file":
        write_json(tmp_path / "column", 1)
    else:
        with whole_folder(tmp_path / "column") as temporary:
            (temporary / "fresh").write_text("new")
    assert [file.name for file in tmp_path.iterdir()] == ["column"]


def test_ctrl_c_right_after_the_last_rename_leaves_the_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "column", Path.replace
    path.mkdir()
    (path / "stale").write_text("old")

    def late(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if target == path:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "replace", late)
    with pytest.raises(KeyboardInterrupt), whole_folder(path) as temporary:
        (temporary / "fresh").write_text("new")
    assert [file.name for file in tmp_path.iterdir()] == ["column"]
    assert [file.name for file in path.iterdir()] == ["fresh"]


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (
            "write_array(path, numpy.zeros(9000))",
            "could not be written completely; is the disk full?",
        ),
        ("write_pack(path, numpy.zeros((9, 1, 99, 99), 'u1'), numpy.arange(9))", "File too large"),
        ("write_json(path, [0] * 9000)", "File too large"),
        ("write_table(path, pandas.DataFrame({'a': range(9000)}))", "File too large"),
    ],
)
def test_the_error_of_a_full_disk_names_the_file(tmp_path: Path, write: str, words: str) -> None:
    program = (
        "import pathlib, numpy, pandas\nfrom stages.errors import reported\n"
        "from stages.files.json_files import write_json\n"
        "from stages.files.packs import write_array, write_pack\n"
        "from stages.files.tables import write_table\n"
        f"path = pathlib.Path({str(tmp_path / 'a')!r})\nwith reported():\n    {write}\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit_file_size,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'a'}: {words}")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_file_in_a_folder_has_the_final_path(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError) as caught,
        whole_folder(tmp_path / "column") as temporary,
    ):
        (temporary / "new" / "a").write_text("in a folder that does not exist")
    assert caught.value.filename == str(tmp_path / "column" / "new" / "a")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_fails_early(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "a.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="file") as caught:
        require_writable(tmp_path / "new" / "a.json", tmp_path / "file" / "a.json")
    assert str(tmp_path / "file") in str(caught.value.filename)


def test_an_output_that_another_process_makes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    CLAIMS.mkdir(parents=True)
    with (CLAIMS / "metrics-a.json").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process holds it
        file.write("123")
        file.flush()
        with pytest.raises(
            InputError, match=r"^metrics/a\.json: another run \(process 123\) is making it; wait"
        ):
            require_writable(Path("metrics/a.json"))
    require_writable(Path("metrics/a.json"))
    assert (CLAIMS / "metrics-a.json").read_text() == str(os.getpid())
    require_writable(Path("metrics/a.json"))  # the lock of this process


# --- JSON and tables


def test_json_comes_back_and_is_sorted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, None], "a": {"d": 0.5, "c": "é"}})
    assert read_json(path) == {"a": {"c": "é", "d": 0.5}, "b": [1, None]}
    write_json(tmp_path / "b.json", {"a": {"c": "é", "d": 0.5}, "b": [1, None]})
    assert path.read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_refuses_nan_and_infinity(tmp_path: Path, number: float) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"loss": [number]})
    assert read_json(path) == {"loss": 1.0}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        read_json(path)


def test_a_table_comes_back_without_its_index(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", "b"], "label": [3, 4]}, index=[7, 8])
    write_table(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_bytes() == b"id,label\na,3\nb,4\n"
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.csv"), table.reset_index(drop=True))
    labels = read_labels(tmp_path / "a.csv")
    assert labels.dtype == torch.int64
    assert labels.tolist() == [3, 4]


def test_a_missing_column_is_named_with_the_present_ones(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,lable\na,1\n")
    with pytest.raises(InputError, match=r"a\.csv: column label is missing; it has id, lable"):
        read_labels(tmp_path / "a.csv")


@pytest.mark.parametrize("content", [b"", b'label\n"1\n', b"label\n\xff\xfe\n"])
def test_damaged_table_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        read_table(path, "label")


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("label", ["cat", "1.5", "-1"])
def test_a_label_that_is_not_a_class_number_is_refused(tmp_path: Path, label: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,label\na,1\nb,{label}\n")
    with pytest.raises(InputError, match=str(path)):
        read_labels(path)


def test_an_empty_label_is_no_label_and_a_truncated_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,label,file\na,1,x\nb,,y\n")
    assert read_labels(path).tolist() == [1, -1]
    path.write_text("id,label,file\na,1,x\nb\n")
    with pytest.raises(InputError, match="line 3 has 1 fields, the header 3"):
        read_labels(path)
    path.write_text("id,label,file\na,\x003,x\n")
    with pytest.raises(InputError, match="line 2 has a zero byte"):
        read_labels(path)


@pytest.mark.parametrize("text", ["\x003", "3\x00", "3\n", " 3", "+3", "-1", "1_0", "٣", "²", "1" * 10])
def test_text_that_is_not_a_class_number(text: str) -> None:
    assert class_number(text) is None
    assert [class_number(text) for text in ("", "0", "007", "9" * 9)] == [-1, 0, 7, 999_999_999]


def test_a_table_in_pieces_has_the_same_bytes(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", 'b "c"', "d,e", "é", "\n"], "label": ["", "1", "", "2", ""]})
    table.to_csv(tmp_path / "pandas.csv", index=False, lineterminator="\n")
    write_table(tmp_path / "whole.csv", table)
    write_pieces(tmp_path / "pieces.csv", (table[start : start + 2] for start in range(0, 5, 2)))
    write_pieces(tmp_path / "empty.csv", iter([table[:0]]))
    for name in ("whole", "pieces"):
        assert (tmp_path / f"{name}.csv").read_bytes() == (tmp_path / "pandas.csv").read_bytes()
    assert (tmp_path / "empty.csv").read_bytes() == b"id,label\n"


def test_a_pack_written_in_parts_has_the_bytes_of_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "PART", 2 * 3 * 8 * 8)  # two images
    images = np.random.default_rng(1).integers(0, 255, (50, 3, 8, 8), dtype=np.uint8)
    rows = np.array([4, 0, 49, 3, 3, 20, 21])
    write_pack(tmp_path / "parts.npy", images, rows)
    np.save(tmp_path / "whole.npy", images[rows])
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize(
    ("shape", "images"), [((1, 28, 28), 4096), ((3, 32, 32), 1045), ((3, 224, 224), 21), ((3, 2048, 2048), 1)]
)
def test_the_size_of_a_part_is_a_number_of_bytes(shape: tuple[int, int, int], images: int) -> None:
    assert part_size(shape) == images


def test_writing_large_images_takes_little_memory(tmp_path: Path) -> None:
    images = np.zeros((80, 3, 512, 512), dtype=np.uint8)  # 63 MB
    tracemalloc.start()
    write_pack(tmp_path / "pool.npy", images, np.arange(80))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * PART


@pytest.mark.parametrize("label", ["2", "12345678"])
def test_labels_of_validation_and_test_are_those_of_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (IMAGES / "validation.csv", TEST / "index.csv"):
        write_table(path, pd.DataFrame({"id": ["a", "b"], "label": ["1", label]}))
    for read in (validation_labelled, HeldOut.read):
        with pytest.raises(InputError, match=rf"column label, row 2, is {label}; allowed: 0 to 1"):
            read(2)
    (TEST / "index.csv").write_text("id,label\na,1\nb,\n")
    with pytest.raises(InputError, match=r"index\.csv: column label, row 2, is empty; allowed: the number"):
        HeldOut.read(2)


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ("id,label\na,0\nb,2\n", "row 2, is 2; allowed: 0 to 1"),
        ("id,label\na,-1\nb,1\n", "row 1, is '-1'; allowed: the number of a class"),
        ("id,label\nb,1\na,0\n", "its ids differ"),
        ("id,label\na,0\n", "its ids differ"),
    ],
)
def test_labels_that_do_not_fit_the_pool_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: str, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(IMAGES / "pool.csv", pd.DataFrame({"id": ["a", "b"]}))
    write_json(LABELS / "classes.json", ["zero", "one"])
    table = LABELS / "pool.csv"
    table.write_text("id,label\na,0\nb,1\n")
    numbers, classes = read_pool_labels()
    assert numbers.tolist() == [0, 1]
    assert classes == ["zero", "one"]
    table.write_text(labels)
    with pytest.raises(InputError, match=f"{table}: .*{word}"):
        read_pool_labels()


# --- images


def test_images_come_back_memory_mapped(tmp_path: Path, digits: tuple[Tensor, Tensor]) -> None:
    path = tmp_path / "pool.npy"
    write_array(path, digits[0].numpy())
    images = read_pack(path)
    assert isinstance(images, np.memmap)
    assert torch.equal(as_tensor(images), digits[0])


def test_tensor_of_images_is_a_copy() -> None:
    array = np.zeros((2, 1, 2, 2), np.uint8)
    as_tensor(array).fill_(9)
    assert array.max() == 0


def test_pixels_are_fractions_of_white() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    floats = pixels(images, torch.device("cpu"))
    assert floats.dtype == torch.float32
    torch.testing.assert_close(floats.flatten(), torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize("classes", [["a", ""], ["a", "a"], ["\ud800"], ["a\x1b[31m"], "a", [1], {"a": 1}])
def test_classes_that_are_not_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: object
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(LABELS / "classes.json", classes)
    with pytest.raises(InputError, match=r"classes\.json: is not a list of distinct names"):
        read_pool_labels()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 4, 4), np.uint8),
        np.zeros((2, 1, 4, 4), np.float32),
        np.zeros((2, 1, 4, 4), np.int8),
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((), np.uint8),
    ],
)
def test_an_array_that_is_not_an_image_pack_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "pool.npy"
    write_array(path, array)
    with pytest.raises(InputError, match=f"{path}: holds {array.dtype}.*allowed: uint8"):
        read_pack(path)


def with_header(header: str) -> Callable[[Path], object]:
    """Writes a .npy file with this header."""
    magic = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little")
    return lambda path: path.write_bytes(magic + header.encode() + b"\n" + bytes(256))


def broken_packs() -> dict[str, Callable[[Path], object]]:
    images = np.zeros((4, 1, 8, 8), np.uint8)

    def truncated(path: Path) -> None:
        np.save(path, images)
        path.write_bytes(path.read_bytes()[:-10])

    def pickled(path: Path) -> None:
        np.save(path, np.array([Bomb(path.parent / "boom")]), allow_pickle=True)

    return {
        "empty": lambda path: path.write_bytes(b""),
        "no array": lambda path: path.write_bytes(b"some text that is longer than a header"),
        "truncated": truncated,
        "pickled array": pickled,
        "pickle": lambda path: path.write_bytes(pickle.dumps(Bomb(path.parent / "boom"))),
        "archive": lambda path: np.savez(path.open("wb"), images=images),
        "header without a type": with_header("{'descr': (), 'fortran_order': False, 'shape': (4, 1, 8, 8)}"),
        "header with half a type": with_header(
            "{'descr': ('|u1',), 'fortran_order': False, 'shape': (4, 1, 8, 8)}"
        ),
        "deeply nested header": with_header("[" * 5000 + "]" * 5000),
        "header with many operators": with_header("-" * 5000 + "1"),
    }


@pytest.mark.parametrize("kind", broken_packs())
def test_broken_image_pack_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pool.npy"
    broken_packs()[kind](path)
    with pytest.raises(InputError, match=str(path)):
        read_pack(path)
    assert not (tmp_path / "boom").exists()


def test_a_pack_that_does_not_fit_its_table_is_refused(tmp_path: Path) -> None:
    write_array(tmp_path / "pool.npy", np.zeros((4, 1, 8, 8), np.uint8))
    assert len(read_pack(tmp_path / "pool.npy", rows=4)) == 4
    for rows in (3, 5, 0):
        with pytest.raises(InputError, match=f"pool.npy: holds 4 images; its table has {rows} rows; run"):
            read_pack(tmp_path / "pool.npy", rows=rows)


@pytest.mark.parametrize("read", [read_pack, read_json, read_table])
def test_missing_file_is_reported_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], read: Callable[[Path], object]
) -> None:
    path = tmp_path / "missing"
    with pytest.raises(SystemExit, match="2"), reported():
        read(path)
    assert capsys.readouterr().err == f"error: {path}: No such file or directory\n"


def test_in_a_clone_that_may_only_be_read_an_output_elsewhere_is_writable(tmp_path: Path) -> None:
    """As `predict --output` in a colleague's clone."""
    clone = tmp_path / "clone"
    (clone / ".dvc").mkdir(parents=True)
    clone.chmod(0o555)
    (clone / ".dvc").chmod(0o555)
    code = """
import ctypes, os, sys
from pathlib import Path
if os.geteuid() == 0:  # root ignores permissions until it drops the capability
    class Header(ctypes.Structure): _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
    sets = (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(ctypes.byref(Header(0x20080522, 0)), sets) == 0
from stages.files.locks import require_writable
require_writable(Path(sys.argv[1]))
"""
    for output, status in ((tmp_path / "a.csv", 0), (clone / "a.csv", 1)):
        run = subprocess.run(
            [sys.executable, "-c", code, str(output)], cwd=clone, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == status, run.stderr
    assert "Permission denied" in run.stderr
