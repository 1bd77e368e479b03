"""What dvc.yaml lists for a stage, if a person has not changed it into something else."""

from pathlib import Path
from typing import Any

from stages.errors import InputError, has_control

PIPELINE = Path("dvc.yaml")
BACK = f"`git checkout {PIPELINE}` brings the committed one back"  # the remedy for a change by hand


def stage_names(content: Any) -> list[str]:
    """The names of the stages in dvc.yaml, whose content this is; of empty ones none.

    Raises:
        InputError: they are not as DVC needs them.
    """
    stages = content.get("stages") or {} if isinstance(content, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(stage or {}, dict) for stage in stages.values()):
        raise InputError(f"{PIPELINE}: its stages are not as DVC needs them; {BACK}")
    return [name for name, stage in stages.items() if stage]


def listed(content: Any, stage: str, what: str) -> list[str]:
    """The names in a list of a stage, such as `deps`; options that stand below a name are left out.

    Raises:
        InputError: there is no such stage, or the list is none of names.
    """
    try:
        entries = content["stages"][stage].get(what, [])
        names = [name for entry in entries for name in ([entry] if isinstance(entry, str) else dict(entry))]
    except (LookupError, TypeError, ValueError, AttributeError):
        raise not_as_needed(stage, what, "is not as DVC needs it") from None
    if not isinstance(entries, list) or not all(map(_is_name, names)):
        raise not_as_needed(stage, what, "is not as DVC needs it")
    return names


def _is_name(name: Any) -> bool:
    """Whether this can be a key of params.yaml or the path of a file: `.` and an empty text are none."""
    if not isinstance(name, str) or has_control(name) or not Path(name).parts:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def not_as_needed(stage: str, what: str, how: str) -> InputError:
    """The error for a list of a stage that a person has to mend."""
    return InputError(f"{PIPELINE}: stages.{stage}.{what} {how}; {BACK}")
