"""Where results of commands go: stdout, or a file; and what to do where neither takes them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .errors import EventLogError
from .fs import HINTS


def open_standard() -> None:
    """See to it that descriptors 0 to 2 are open.

    Where one is closed, as by `>&-`, the next file to be opened would get its number, and what
    a child says would end up in it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115 - the same


def forget(stream: TextIO) -> None:
    """Let what could not be written go: Python would try again at its end, and complain."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def result_file(out: str) -> Iterator[Callable[[bytes], Any]]:
    """Yield what takes the bytes of a file that is there as a whole or not at all.

    A link is written through; a device or a pipe is written to, never replaced.

    Raises:
        EventLogError: it can't be written.
    """
    try:
        if _is_special(out):
            with open(out, "wb") as file:
                yield file.write
            return
        target = os.path.realpath(out)
        temporary = f"{target}.tmp-{os.getpid()}"
        try:
            with open(temporary, "wb") as file:
                yield file.write
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
    except OSError as error:
        raise EventLogError(
            f"the result can't be written: {error.strerror}",
            path=out,
            hint=HINTS.get(error.errno or 0, "name another file"),
        ) from error


def _is_special(out: str) -> bool:
    try:
        mode = os.stat(out).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
