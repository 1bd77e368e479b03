"""Headstart: self-supervised pretraining, measured honestly, as a DVC pipeline."""

import gc
import os
import sys
from types import FrameType, TracebackType

_interrupts: list[int] = []


def _unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from stages import errors  # late: Ctrl-C in an import before the hook is set would print a traceback

    # A library that is interrupted in its import may make an ImportError of it.
    known = any(isinstance(one, KeyboardInterrupt | ImportError) for one in _chain(error))
    errors.unhandled(KeyboardInterrupt if _interrupts and known else kind, error, trace)


def _chain(error: BaseException | None) -> list[BaseException]:
    return [error, *_chain(error.__cause__ or error.__context__)] if error else []


def _interrupted(number: int, _: FrameType | None) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


# Before anything else is imported, because Ctrl-C often arrives in the imports of a command.
sys.excepthook = _unhandled

import signal  # noqa: E402
from contextlib import suppress  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nobody ignores it or handles it
    with suppress(ValueError):  # a thread of somebody's program imports this; only the main one may set it
        signal.signal(signal.SIGINT, _interrupted)

# Imports make a quarter of a million objects that stay: Python's own thresholds would look through them again
# and again, which takes half a second of each command.
gc.set_threshold(50_000, 20, 50)

_CODE = os.path.dirname(__file__)


def _written() -> dict[str, tuple[int, int]]:
    """When each file of the code was written, and its size, by its path from the project on."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(_CODE) for name in names]
    written = {}
    for file in files:
        if file.endswith((".py", ".j2")):
            with suppress(FileNotFoundError):  # an editor's, which is gone again
                state = os.stat(file)
                written[os.path.relpath(file, os.path.dirname(_CODE))] = state.st_mtime_ns, state.st_size
    return written


_at_start = _written()


def changed_code() -> set[str]:
    """The files of the code that were written to since this process began to import it."""
    now = _written()
    return {file for file in _at_start.keys() | now if _at_start.get(file) != now.get(file)}
