"""JSON files with sorted keys and no NaN."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stages.errors import InputError
from stages.files.digests import AGAIN
from stages.files.whole import whole_file
from stages.settings.findings import findings

LONGEST = 200  # characters of a finding: a value in the wrong place may be a whole file


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys.

    Raises:
        ValueError: a number is NaN or infinite, which is not JSON.
    """
    with whole_file(path) as temporary:
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, model: type[BaseModel] | None = None) -> Any:
    """Read a JSON file that a stage has written.

    Args:
        path: of the file.
        model: what the reader needs of it; None: nothing is checked.

    Returns:
        The content as it is in the file, also what the model does not mention.

    Raises:
        InputError: it is not valid JSON, or does not fit the model. The message names the first field.
    """
    remedy = f"run `rm {path} && dvc repro` {AGAIN}"
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if model is not None:
            model.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path}: {_first_finding(error, model or BaseModel)}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); {remedy}") from None
    return content


def _first_finding(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors()[0]
    if first["type"] == "json_invalid":  # what Python's parser takes, such as half of a surrogate pair
        return f"is not valid JSON ({first['ctx']['error']})"
    lines = findings(error, model)
    line = lines[0].strip()  # the key of the whole content is ""
    line = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
    return line if len(lines) == 1 else f"{line} (and {len(lines) - 1} more)"
