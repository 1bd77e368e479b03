"""Which figures another version of the code has made: a summary or report says so, because DVC does not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.files import provenance
from stages.files.json_files import read_json
from stages.files.paths import METRICS
from stages.files.records import OWN, read_record

# The file in which a stage records what its figures were made from; {} is the method.
RECORDS = {
    "prepare": "prepare.json",
    "pretrain": "pretrain/{}.json",
    "choose": "choose/{}.json",
    "finetune": "finetune/{}.json",
    "distil": "distil/{}.json",
    "evaluate": "evaluate/{}_model.json",
    "baselines": "baselines.json",
    "compare": "compare.json",
}


def note(methods: Sequence[str]) -> str | None:
    """A sentence that names the stages whose figures are not of the present code, with their methods."""
    named = []
    for stage, record in RECORDS.items():
        if "{}" not in record:
            named += [stage] if _is_other(stage, None, METRICS / record) else []
        elif others := [m for m in methods if _is_other(stage, m, METRICS / record.format(m))]:
            named.append(f"{stage} ({', '.join(others)})")
    if not named:
        return None
    return f"made by another version of the code: {', '.join(named)}; run `dvc repro` to make them anew"


def _is_other(stage: str, method: str | None, record: Path) -> bool:
    """Whether a record names another code than the stage has now; False where there is no record.

    One that does not state its own SHA-256 is of earlier code.
    """
    if not record.is_file():
        return False
    content: Any = read_json(record)
    if isinstance(content, dict) and OWN not in content:
        return True
    made_from = read_record(record).get("made_from")
    if not isinstance(made_from, dict):
        return False
    try:
        present = provenance.code(stage, method)
    except FileNotFoundError:  # the code of this method is gone
        return True
    return bool(made_from.get("code") != present)
