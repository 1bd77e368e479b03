"""JSON files with sorted keys and no NaN."""

import json
from pathlib import Path
from typing import Any

from stages.errors import InputError
from stages.files.whole import whole_file


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys.

    Raises:
        ValueError: a number is NaN or infinite, which is not JSON.
    """
    with whole_file(path) as temporary:
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage has written.

    Raises:
        InputError: it is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); run `dvc repro` to make it again") from None
