"""What goes where: data to stdout, talk to stderr."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import stat
import sys
from typing import Any, TextIO

SCHEMA_VERSION = 1


def data(text: str) -> None:
    """Print a line of data; whether anybody still reads it changes nothing."""
    _write(sys.stdout, text + "\n")


def talk(text: str) -> None:
    """Print a line for the person at the terminal, if they are still there."""
    show(text + "\n")


def show(text: str) -> None:
    """Put text on the terminal as it is, if that is still there."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    """Write at once; a job must not end because a pager, `head` or a terminal has."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and not _hung_up(error, stream):
            raise
        # What is written from here on goes nowhere, and so does the flush when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _hung_up(error: OSError, stream: TextIO) -> bool:
    """Return whether a write failed because the terminal was closed."""
    return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)


def end_with_reader() -> None:
    """Let this process end quietly when nobody reads its output any more.

    For commands that only print: the system ends them, as it ends `cat`.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def document(value: dict[str, Any]) -> None:
    """Print a JSON document; it says which version of its schema it has."""
    import msgspec

    encoded = msgspec.json.encode({"schema_version": SCHEMA_VERSION, **value})
    data(msgspec.json.format(encoded, indent=2).decode())


def colours(stream: Any) -> bool:
    """Return whether a stream should get colours: a terminal, and nobody said no."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: Any = sys.stderr) -> str:
    """Return `text` in a colour, where the stream shows colours."""
    codes = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}
    return f"\x1b[{codes[colour]}m{text}\x1b[0m" if colours(stream) else text


def seconds(value: float) -> str:
    """Return a duration as people read it."""
    if value < 60:
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def count(number: int, noun: str) -> str:
    """Return `1 step`, `2 steps`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def elsewhere(runs_dir: str) -> str:
    """Return the option that names where the jobs are, if they are elsewhere."""
    return "" if runs_dir == "runs" else f" --runs-dir {shlex.quote(runs_dir)}"
