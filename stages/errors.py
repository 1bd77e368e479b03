"""Errors that a person can mend: said in one line each, without a traceback."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

MADE = ("data/prepared", "models", "metrics")  # what the stages write


class InputError(Exception):
    """Bad input or an unusable place to write: what is wrong, where, and what is allowed.

    Each argument is one finding and becomes one line on stderr.
    """


@contextmanager
def reported() -> Iterator[None]:
    """Run a command's body; print an `InputError` or a failing disk as plain lines and exit 2."""
    try:
        yield
    except InputError as error:
        for finding in error.args:
            print(f"error: {finding}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        # NOTE: a full disk, a read-only folder and a vanished file all arrive here, with their path.
        where = error.filename if error.filename is not None else "input or output"
        made = isinstance(error, FileNotFoundError) and str(where).startswith(MADE)
        hint = "; `dvc repro` makes it" if made else ""
        print(f"error: {where}: {error.strerror or error}{hint}", file=sys.stderr)
        raise SystemExit(2) from None


def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's last resort (`sys.excepthook`), but for Ctrl-C one plain line instead of a traceback."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("interrupted: nothing is half-written; `dvc repro` goes on", file=sys.stderr, flush=True)
    sys.stdout.flush()
    # To end by the signal itself tells shells and DVC that a person wanted it; libraries' exit handlers would
    # turn that into a plain failure.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
