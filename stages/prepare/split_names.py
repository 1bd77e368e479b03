"""Names of splits, as people write them in tables and as names of folders."""

import re
from collections.abc import Iterable

SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "val": "validation",
    "valid": "validation", "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip
LAYOUTS = (
    "known layouts: CLASS/…; train/CLASS/… with test/CLASS/…, val/CLASS/… or both; images and a table "
    "labels.csv with the columns file and label; images alone, without labels"
)
_ADDITION = re.compile(r"[ _-]*(set|data|images|imgs|split)?[ _-]*\d*")  # training_set, val2017, test1


def folder_split(name: str) -> str | None:
    """The split that a folder's name means: train, validation or test; None if it means none."""
    text = name.casefold()
    for known in sorted(SPLITS, key=len, reverse=True):
        if text.startswith(known) and _ADDITION.fullmatch(text.removeprefix(known)):
            return SPLITS[known]
    return None


def doubtful(names: Iterable[str]) -> str | None:
    """Why folders with these names are neither classes nor splits for sure; None if there is no doubt."""
    known = {name: folder_split(name) for name in sorted(names)}
    if len(known) < 2 or not all(
        name.casefold().startswith(("train", "test", "val", "dev")) for name in known
    ):
        return None
    if any(name.casefold().startswith("train") for name in known) and not all(known.values()):
        return f"the folders {', '.join(known)} look like splits, but not all names are known"
    if all(known.values()) and "train" not in known.values():
        return f"the folders {', '.join(known)} are splits, but none of them is train"
    return None
