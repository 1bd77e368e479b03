"""What the labels of a table may be: names of classes, one for each image."""

from collections import Counter
from collections.abc import Mapping

from stages.errors import has_control

UNLABELLED = ("unlabeled", "unlabelled")
LONGEST = 255  # characters of a label, as of the name of a folder; also of a split and a group
MANY_VALUES = 20  # distinct numbers from which a column of labels may be a measurement
FEW_EACH = 3  # images of each number, if it is one


def is_unlabelled(name: str) -> bool:
    """Whether a label or the name of a folder says that there is no label."""
    return name.casefold() in UNLABELLED


def length_error(column: str, value: str) -> str | None:
    """Why a value cannot be used, if it is too long: a name stands in charts, tables and messages."""
    if len(value) <= LONGEST:
        return None
    return f"{column} has {len(value):,} characters ({value[:20]!a}…); allowed: up to {LONGEST}"


def control_error(column: str, value: str) -> str | None:
    """Why a value cannot be used, if it has control characters."""
    if not has_control(value):
        return None
    return f"{column} {value!a} has control characters; remove them"


def several_labels(labels: Mapping[str, str]) -> list[str]:
    """Why some cells seem to hold several labels.

    `a|b` always does. A name such as `Smith, John` may have a comma; but where a part stands alone in another
    cell, or at another position, the parts are labels.

    Args:
        labels: for each distinct label, where it stands first.
    """
    for separator in "|;,":
        cells = {label: [part.strip() for part in label.split(separator)] for label in labels}
        positions: dict[str, set[tuple[int, bool]]] = {}
        for parts in cells.values():
            for position, part in enumerate(parts):
                positions.setdefault(part, set()).add((position, len(parts) > 1))
        several = [
            label
            for label, parts in cells.items()
            if len(parts) > 1 and (separator == "|" or any(len(positions[part]) > 1 for part in parts))
        ]
        if several:
            return [
                f"{labels[several[0]]}: label {several[0]!r} seems to hold several labels, as do "
                f"{len(several):,} distinct labels in all; an image can have one class: keep one label, or "
                "leave the cell empty"
            ]
    return []


def measurement(counts: Counter[str]) -> str | None:
    """Why the labels seem to be measured numbers and not classes; None if they do not.

    Args:
        counts: the number of images of each label.
    """
    try:
        numbers = sorted({float(label.replace(",", ".")) for label in counts})
    except ValueError:
        return None
    whole = all(number.is_integer() for number in numbers)
    consecutive = whole and numbers[-1] - numbers[0] < 1.5 * len(numbers)
    few_each = counts.total() < FEW_EACH * len(numbers)
    if len(numbers) < MANY_VALUES or consecutive or (whole and not few_each):
        return None
    return (
        f"the labels are {len(numbers):,} different numbers from {numbers[0]:g} to {numbers[-1]:g} on "
        f"{counts.total():,} images, which looks like a measurement; classes are needed: put ranges of "
        "it into classes, such as low, middle and high"
    )
