"""Many messages with few causes: the first of each cause, and how many more there are."""

from collections.abc import Iterable

SHOWN = 5  # messages of one cause


def summarised(messages: Iterable[tuple[str, str]]) -> list[str]:
    """The messages in their order, but of each cause the first `SHOWN` and one line about the others.

    Args:
        messages: pairs of a cause and a message.
    """
    lines: list[str] = []
    counts: dict[str, int] = {}
    for cause, message in messages:
        counts[cause] = counts.get(cause, 0) + 1
        if counts[cause] <= SHOWN:
            lines.append(message)
    return lines + [
        f"and {count - SHOWN:,} more of this kind: {cause}"
        for cause, count in counts.items()
        if count > SHOWN
    ]
