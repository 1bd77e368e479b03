"""Whatever is in a file that another stage writes: its readers name the file in one line, or do their work.

Each field of each file that `compare`, `compare --show`, `predict` and `suggest` read is changed.
"""

import contextlib
import copy
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.compare import every_method, inputs, predictions, report, terminal
from stages.compare.baselines import SimpleBaselines
from stages.compare.evidence import Evidence
from stages.compare.fitting_together import require_one_run
from stages.compare.measured import Evaluations
from stages.compare.written_figures import Summary
from stages.errors import InputError
from stages.files.json_files import read_json
from stages.files.packs import write_array
from stages.files.paths import BASELINES, LABEL_EFFICIENCY, METRICS, PREDICTED_IMAGES, PREDICTIONS, SUMMARY
from stages.files.records import FILES, OWN, write_record
from stages.files.tables import write_table
from stages.settings import load
from stages.settings.schema import Params
from stages.tasks.model_index import INDEX, Model, read_index, write_index
from stages.tools import predict, suggest
from tests import invented_results
from tests.conftest import ROOT, seal
from tests.pipeline.conftest import change
from tests.unit.test_report import without_drawing

METHODS, NAMES = ["scratch", "simclr"], ["majority", "hog_svm"]
LABELS, DRAWS, TEST = {"n10": 10, "n20": 20}, 2, 200
CLASSES = [str(digit) for digit in range(10)]
LABELLED = [9] * len(CLASSES)  # of the pool, as the invented results have them
WRONG: list[Any] = [[], {}, None, "text", 7.0, -1]
# In a JSON document: what nobody reads, and what is read like its neighbour.
SKIPPED = (
    FILES, OWN, "inputs", "seeds", "scratch", "n20", "linear", "distilled", "nll", "ece", "recall",
    "f1_macro", "precision_macro", "accuracy_gain", "recall_macro_gain",
)  # fmt: skip
GONE = object()


@dataclass(frozen=True)
class Complete:
    """The results of all stages in a folder, for a method, the control and two baselines."""

    folder: Path
    evidence: Evidence
    evaluations: Evaluations
    settings: Params

    def in_report(self, *, made: bool = False) -> None:
        """Read what the page is made of, and make it without its charts."""
        data, results = inputs.read_data(), [self.evidence.results[0], inputs.read_method("simclr")]
        require_one_run(self.evaluations, data, results)
        if made:
            with pytest.MonkeyPatch.context() as patch:
                without_drawing(patch)
                report.render(replace(self.evidence, data=data, results=results))

    def in_statistics(self) -> None:
        predictions.read(METHODS, list(LABELS), LABELLED)
        SimpleBaselines.read(NAMES, list(LABELS), LABELLED, METHODS[0])

    def in_terminal(self) -> None:
        terminal.show()

    def in_predict(self) -> None:
        predict.best_on_validation()

    def in_suggest(self) -> None:
        suggest.best_method(self.settings)


Reader = Callable[[Complete], None]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Complete:
    folder = tmp_path_factory.mktemp("complete")
    with contextlib.chdir(folder):
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(ROOT / name, name)
        Path("stages").symlink_to(ROOT / "stages")  # a record has a hash of the code
        values = {"methods": METHODS, "finetune.budgets": [10, 20], "baselines": NAMES}
        change(Path("params.yaml"), values)
        evidence = invented_results.write(METHODS, LABELS, DRAWS, CLASSES, test=TEST, predictions=True)
        validation = {budget: dict.fromkeys(NAMES, 0.3) for budget in LABELS}
        write_record(METRICS / "baselines.json", {"validation": validation})
        for name in NAMES:
            models = [Model(f"{b}-{d}.npy", "baseline", b, d, 0, "") for b in LABELS for d in range(DRAWS)]
            for number, model in enumerate(models):
                probabilities = np.random.default_rng(number).dirichlet(np.ones(10), TEST)
                write_array(BASELINES / name / model.file, probabilities.astype(np.float32))
            write_index(BASELINES / name, models)
            shutil.copy(PREDICTIONS / "simclr" / PREDICTED_IMAGES, BASELINES / name)
        seal(*(PREDICTIONS / method for method in METHODS), *(BASELINES / name for name in NAMES))
        with pytest.MonkeyPatch.context() as patch:
            without_drawing(patch)
            every_method.main()
        evaluations = predictions.read(METHODS, list(LABELS), LABELLED)
        return Complete(folder, evidence, evaluations, load.validated(load.read(load.PARAMS)))


@pytest.fixture
def complete(written: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """The results, in a copy that is the working directory."""
    shutil.copytree(written.folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return written


def refused(path: Path, reader: Callable[[], None]) -> bool:
    """Whether a reader refuses a changed file, in one line that names it or its folder."""
    try:
        reader()
    except InputError as error:
        (message,) = error.args
        assert str(path) in message or str(path.parent) in message, message
        assert "\n" not in message
        assert len(message) < 400
        return True
    return False


def as_if_written(path: Path) -> None:
    """Renew the digests that are of a changed file, as if its stage had written it so."""
    content = json.loads(path.read_text()) if path.suffix == ".json" else None
    if isinstance(content, dict) and content.pop(OWN, None):
        write_record(path, content, *map(Path, content.pop(FILES, {})))
    for record in METRICS.rglob("*.json"):
        if f'"{path}"' in record.read_text():
            as_if_written(record)


def places(content: Any, *keys: str | int) -> Iterator[tuple[str | int, ...]]:
    """The keys of each value in a JSON document; of a list, the first element."""
    yield keys
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in SKIPPED:
                yield from places(value, *keys, key)
    if isinstance(content, list) and content:
        yield from places(content[0], *keys, 0)


def changed(content: Any, keys: Sequence[str | int], value: Any) -> Any:
    """A copy of a JSON document with another value, or without it (GONE)."""
    if not keys:
        return value
    first, *further = keys
    inner = copy.copy(content)
    if further or value is not GONE:
        inner[first] = changed(content[first], further, value)
    else:
        del inner[first]
    return inner


JSON: dict[str, list[Reader]] = {
    "baselines.json": [Complete.in_statistics],
    "choose/simclr.json": [Complete.in_report],
    "data.json": [Complete.in_report, Complete.in_terminal, Complete.in_predict, Complete.in_suggest],
    "details.json": [Complete.in_terminal],
    "distil/simclr.json": [Complete.in_report],
    "evaluate/simclr_model.json": [Complete.in_report, Complete.in_predict],
    "finetune/simclr.json": [Complete.in_report],
    "prepare.json": [Complete.in_report],
    "pretrain/simclr.json": [Complete.in_report, Complete.in_terminal, Complete.in_suggest],
    "summary.json": [Complete.in_terminal, Complete.in_predict],
    "timings/evaluate/simclr.json": [Complete.in_report],
    "timings/pretrain/simclr.json": [Complete.in_report],
}


@pytest.mark.parametrize("name", JSON)
def test_a_wrong_field_of_a_json_file_is_named_or_does_no_harm(complete: Complete, name: str) -> None:
    path = METRICS / name
    text = path.read_text()
    content = json.loads(text)
    for keys in places(content):
        for value in [*WRONG, GONE] if keys else WRONG:
            path.write_text(json.dumps(changed(content, keys, value)))
            as_if_written(path)
            for reader in JSON[name]:
                was_refused = refused(path, partial(reader, complete))
                # The summary, the details and the choice on validation may be empty: nothing was finetuned.
                if not was_refused and reader is Complete.in_report and value not in ("text", GONE):
                    complete.in_report(made=True)  # what is taken can be shown
                assert was_refused or keys or (name, value) == ("summary.json", {}), (keys, value)
    for damaged in ("", text[: len(text) // 2], "\x00", '"\\ud800"', "[" * 5000, "NaN"):
        path.write_text(damaged)
        for reader in JSON[name]:
            assert refused(path, partial(reader, complete)), damaged


@pytest.mark.parametrize(
    ("name", "keys", "value", "message"),
    [
        ("pretrain/simclr.json", ("knn",), 7.0, "knn is 7.0; allowed: less than or equal to 1"),
        ("pretrain/simclr.json", ("rankme",), None, "rankme is None; allowed: a valid number"),
        ("pretrain/simclr.json", ("shown",), [], "shown is []; allowed: "),
        (
            "choose/simclr.json",
            ("budgets", "n10", "recipe"),
            {},
            "budgets.n10.recipe.encoder_learning_rate is",
        ),
        ("data.json", (), [], "data.json: is []; allowed: a section of keys and values"),
        ("data.json", ("test_units",), 39, "data.json 200 (39 units)"),
        ("distil/simclr.json", ("draws",), [], "does not have the 2 draws of n10 that were measured"),
        ("evaluate/simclr_model.json", ("validation",), {}, "validation has no n10.finetuned"),
        (
            "prepare.json",
            ("made_from", "parameters", "data"),
            {},
            "made_from.parameters.data.source is missing",
        ),
        ("timings/evaluate/simclr.json", ("latency_ms_p50",), GONE, "latency_ms_p50 is missing"),
    ],
)
def test_the_message_names_the_field(
    complete: Complete, name: str, keys: tuple[str, ...], value: Any, message: str
) -> None:
    path = METRICS / name
    path.write_text(json.dumps(changed(json.loads(path.read_text()), keys, value)))
    as_if_written(path)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        complete.in_report()
    assert name in str(caught.value)


def test_no_text_of_a_file_reaches_the_terminal_raw(
    complete: Complete, capsys: pytest.CaptureFixture[str]
) -> None:
    path = METRICS / "pretrain/simclr.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"doubts": ["\x1b[31m"], "collapse": "step 3\r\u202e"}))
    as_if_written(path)
    complete.in_terminal()
    printed = capsys.readouterr().out
    assert "warning: pretrain simclr: \\x1b[31m\n" in printed
    assert "collapse at step 3\\r\\u202e\n" in printed
    assert "\x1b" not in printed


@pytest.mark.usefixtures("complete")
@pytest.mark.parametrize("folder", [PREDICTIONS / "simclr", BASELINES / "hog_svm"], ids=str)
def test_altered_predictions_are_refused_before_anything_is_written(folder: Path) -> None:
    file = next(folder.glob("*.npy"))
    summary = SUMMARY.read_bytes()
    SUMMARY.write_bytes(b"{}")
    write_array(file, np.load(file)[:, ::-1])
    with pytest.raises(InputError, match=rf"^{file}: is not as its stage wrote it"):
        every_method.main()
    assert SUMMARY.read_bytes() == b"{}" != summary


@pytest.mark.parametrize("name", [*JSON, "evaluate/simclr_map.csv", "label_efficiency.csv"])
def test_a_value_that_would_be_allowed_is_refused_where_no_stage_wrote_it(
    complete: Complete, name: str
) -> None:
    path = METRICS / name
    before = path.read_bytes()
    readers = JSON.get(name, [Complete.in_terminal if name.startswith("label") else Complete.in_report])
    at = before.rindex(b".") + 1 if b"." in before and path.suffix == ".csv" else last_digit(before)
    path.write_bytes(before[:at] + str(int(before[at : at + 1]) ^ 1).encode() + before[at + 1 :])
    for reader in readers:
        with pytest.raises(InputError, match=f"{name}: is not as its stage wrote it"):
            reader(complete)
    path.write_bytes(before)
    for reader in readers:
        reader(complete)


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("evaluate/simclr_confusion.csv", Complete.in_report),
        ("evaluate/simclr_mistakes.png", Complete.in_report),
        ("pretrain/simclr.csv", Complete.in_report),
        ("data_left_out.csv", Complete.in_report),
        ("data_classes.csv", Complete.in_terminal),
        ("label_efficiency.csv", Complete.in_terminal),
    ],
)
def test_the_remedy_for_a_damaged_table_or_picture_removes_it(
    complete: Complete, name: str, reader: Reader
) -> None:
    """`dvc repro` alone may see no change, and would leave it."""
    path = METRICS / name
    path.write_bytes(path.read_bytes().replace(b"1", b"x").replace(b"IHDR", b"IxDR"))
    with pytest.raises(InputError, match=re.escape(f"run `rm {path} && dvc repro`")):
        reader(complete)


@pytest.mark.parametrize("name", [name for name in JSON if "simclr" in name])
def test_the_figures_of_another_method_are_refused_though_each_is_whole(
    complete: Complete, name: str
) -> None:
    first, second = (METRICS / name.replace("simclr", method) for method in METHODS)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for method, path in zip(METHODS, (first, second), strict=True):
        with pytest.raises(InputError, match=f"{path}: is not as its stage wrote it"):
            inputs.read_method(method)
    for reader in JSON[name]:
        with pytest.raises(InputError, match="is not as its stage wrote it"):
            reader(complete)


def last_digit(content: bytes) -> int:
    return max(content.rfind(str(digit).encode()) for digit in range(10))


TABLES: dict[Path, Reader] = {
    **{
        METRICS / "evaluate" / f"simclr_{name}.csv": Complete.in_report
        for name in ("confusion", "map", "mistakes", "reliability")
    },
    METRICS / "pretrain" / "simclr.csv": Complete.in_report,
    METRICS / "data_classes.csv": Complete.in_report,
    METRICS / "data_left_out.csv": Complete.in_report,
    LABEL_EFFICIENCY: Complete.in_terminal,
    PREDICTIONS / "simclr" / INDEX: Complete.in_statistics,
    PREDICTIONS / "simclr" / PREDICTED_IMAGES: Complete.in_statistics,
    BASELINES / "hog_svm" / INDEX: Complete.in_statistics,
}


@pytest.mark.parametrize("path", TABLES, ids=str)
def test_a_wrong_field_of_a_table_is_named_or_does_no_harm(complete: Complete, path: Path) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in table:
        for value in ("", "text", "-1", "1e400", "999999999", "../x"):
            write_table(path, table.assign(**{column: [value, *table[column][1:]]}))
            as_if_written(path)
            try:
                was_refused = refused(path, partial(TABLES[path], complete))
            except FileNotFoundError:  # `reported` names the file
                assert column == "file"
            if not was_refused and TABLES[path] is Complete.in_report and value in ("", "999999999"):
                complete.in_report(made=True)
        write_table(path, table.drop(columns=column))
        as_if_written(path)
        refused(path, partial(TABLES[path], complete))
    for rows in (table[:0], table[1:], table[:-1], pd.concat([table, table[:1]])):
        write_table(path, rows)
        as_if_written(path)
        refused(path, partial(TABLES[path], complete))
    content = path.read_bytes()
    for damaged in (b"", b"\x00", b"\xff\xfe", content[: len(content) // 2], b"a,b\n1\n"):
        path.write_bytes(damaged)
        refused(path, partial(TABLES[path], complete))


@pytest.mark.parametrize(
    ("name", "column", "value", "message"),
    [
        (
            "evaluate/simclr_confusion.csv",
            "share",
            "7.0",
            "column share, row 1, is '7.0'; allowed: a number from",
        ),
        (
            "evaluate/simclr_confusion.csv",
            "actual",
            "cat",
            "column actual has 'cat', which is none of the cl",
        ),
        ("evaluate/simclr_mistakes.csv", "budget", "n7", "column budget has 'n7', which was not measured"),
        ("evaluate/simclr_map.csv", "x", "", "column x, row 1, is ''; allowed: a number"),
        ("pretrain/simclr.csv", "run", "1", "has no rows of run 0"),
    ],
)
def test_the_message_names_the_column(
    complete: Complete, name: str, column: str, value: str, message: str
) -> None:
    path = METRICS / name
    write_table(path, pd.read_csv(path, dtype=str, keep_default_na=False).assign(**{column: value}))
    as_if_written(path)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        complete.in_report()
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "name", ["evaluate/simclr_mistakes.png", "pretrain/simclr_shown.png", "data_samples.png"]
)
def test_a_damaged_picture_is_named(complete: Complete, name: str) -> None:
    path = METRICS / name
    content = path.read_bytes()
    # The fourth declares 50,000 × 50,000 pixels.
    bomb = content[:16] + (50_000).to_bytes(4) * 2 + content[24:]
    for damaged in (b"", b"text", content[: len(content) // 2], bomb):
        path.write_bytes(damaged)
        assert refused(path, complete.in_report)
    with Image.open(io.BytesIO(content)) as picture:
        picture.transpose(Image.Transpose.ROTATE_180).save(path)
    with pytest.raises(InputError, match=f"{name}: is not as its stage wrote it"):
        complete.in_report()
    if "mistakes" in name:
        for size in ((1, 1), (40, 1), (1000, 31)):
            Image.new("L", size).save(path)
            as_if_written(path)
            assert refused(path, complete.in_report)


def test_fewer_draws_of_one_protocol_or_other_classes_are_refused(complete: Complete) -> None:
    for method in METHODS:
        index = read_index(PREDICTIONS / method)
        rest = [model for model in index if (model.protocol, model.draw) != ("linear", 1)]
        write_index(PREDICTIONS / method, rest)
    with pytest.raises(InputError, match="scratch: its linear models of n10 have other draws or runs than"):
        complete.in_statistics()
    for method in METHODS:
        shutil.copy(complete.folder / PREDICTIONS / method / INDEX, PREDICTIONS / method)
    folder = PREDICTIONS / "scratch"
    write_array(folder / "n10-draw0-finetuned.npy", np.full((TEST, 9), 1 / 9, dtype=np.float32))
    with pytest.raises(
        InputError, match=r"n10-draw0-finetuned\.npy: is of 9 classes, not 10; run `dvc repro`"
    ):
        complete.in_statistics()


def test_the_metrics_in_git_are_read() -> None:
    with contextlib.chdir(ROOT):
        if (METRICS / "summary.json").exists():
            inputs.read_data()
            for method in read_json(METRICS / "summary.json", Summary):
                inputs.read_method(method)
