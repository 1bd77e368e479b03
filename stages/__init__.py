"""Headstart: self-supervised pretraining, measured honestly, as a DVC pipeline."""

import gc
import sys
from types import FrameType, TracebackType

_interrupts: list[int] = []


def _unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from stages import errors  # late: Ctrl-C in an import before the hook is set would print a traceback

    errors.unhandled(KeyboardInterrupt if _interrupts else kind, error, trace)


def _interrupted(number: int, _: FrameType | None) -> None:
    """Raise what Python raises; a library that is interrupted in its import may make another error of it."""
    _interrupts.append(number)
    raise KeyboardInterrupt


# Before anything else is imported, because Ctrl-C often arrives in the imports of a command.
sys.excepthook = _unhandled

import signal  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nobody ignores it or handles it
    signal.signal(signal.SIGINT, _interrupted)

# Imports make a quarter of a million objects that stay: Python's own thresholds would look through them again
# and again, which takes half a second of each command.
gc.set_threshold(50_000, 20, 50)
