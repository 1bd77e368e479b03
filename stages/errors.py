"""Errors that a user can fix: printed as one line each, without a traceback."""

import io
import os
import shutil
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

OBEYED = ("Cc", "Cs", "Zl", "Zp")  # categories of characters: control, halves of others, separators of lines
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reverse the text after them
OUTPUTS = ("data/prepared", "models", "metrics")  # the folders that the stages write to


class InputError(Exception):
    """Invalid input, or an output that cannot be written.

    Each argument is one finding and becomes one line on stderr. It says what is wrong, where, and what to do.
    """


@contextmanager
def reported() -> Iterator[None]:
    """Run the body of a command; print an `InputError` or `OSError` as plain lines and exit with status 2."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 has no ± and no 猫.
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # as `| head` leaves it: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python writes when it ends
        raise SystemExit(1) from None
    except InputError as error:
        for finding in error.args:
            print(f"error: {one_line(str(finding))}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        # NOTE: a full disk, a read-only folder and a missing file all arrive here, with their path.
        path = error.filename if error.filename is not None else "input or output"
        is_output = isinstance(error, FileNotFoundError) and str(path).startswith(OUTPUTS)
        hint = "; run `dvc repro` to make it" if is_output else ""
        if isinstance(error, FileExistsError | NotADirectoryError):
            hint = "; a folder belongs there: move away what is in its place"
        print(one_line(f"error: {path}: {error.strerror or error}{hint}"), file=sys.stderr)
        raise SystemExit(2) from None


def has_control(text: str) -> bool:
    """Whether a text has control characters, such as a carriage return, a zero byte or an escape."""
    return not text.isprintable() and any(unicodedata.category(character) == "Cc" for character in text)


def one_line(text: str) -> str:
    """A text as one line that a terminal shows and does not obey: control characters are escaped."""
    return "".join(
        ascii(character)[1:-1]
        if unicodedata.category(character) in OBEYED or character in TURNING
        else character
        for character in text
    )


def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Handle exceptions that nothing else caught (`sys.excepthook`): Ctrl-C prints one line, no traceback."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("interrupted: nothing is half-written; run `dvc repro` to resume", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if multiprocessing := sys.modules.get("multiprocessing.util"):  # its exit handler is skipped, see below
        shutil.rmtree(multiprocessing.get_temp_dir(), ignore_errors=True)
    # Ending by the signal itself tells shells and DVC that the user interrupted it. It also skips the exit
    # handlers of libraries, which would turn it into an ordinary failure.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
