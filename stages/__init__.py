"""Headstart: self-supervised pretraining, measured honestly, as a DVC pipeline."""

import gc
import sys
from types import TracebackType


def _unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from stages import errors  # imported late, see below

    errors.unhandled(kind, error, trace)


# Set here, before anything else is imported, because Ctrl-C often arrives in the imports of a command.
sys.excepthook = _unhandled

# Imports make a quarter of a million objects that stay: Python's own thresholds would look through them again and
# again, which takes half a second of each command.
gc.set_threshold(50_000, 20, 50)
