"""The process in which the SQL of people runs: it loads, locks itself up, answers, and ends.

    python -c "…import main; main()"     (see `warden`, which starts it and may kill it)

It reads one `Request` from its stdin and writes `Frame`s to its stdout. It has no environment,
may write no file while the statement runs, and gets no more memory than the statement may use.
It ends when the process that asked for it does.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from typing import Any

import msgspec

from .errors import EventLogError, LogLocked, LogNotFound, QueryError
from .find import LogRef
from .found import LineRejected
from .jail import Limits
from .stock import Kept

_PART = 1 << 20
_SLACK = 384 << 20
"""Address space beyond the statement's memory: stacks of threads, what allocators set aside."""

_ERRORS = {kind.__name__: kind for kind in (QueryError, LogNotFound, LogLocked, EventLogError)}


class Request(msgspec.Struct, kw_only=True, array_like=True):
    """What is asked.

    Attributes:
        sql: one statement; empty for the schema.
        form: how rows are written: a value of `output.Format`.
        width: of the terminal, for tables; None cuts nothing.
        others: as of `query.Database`.
    """

    logs: list[tuple[str, str | None]]
    sql: str
    params: dict[str, Any] | None
    views: list[tuple[str, str]]
    limits: Limits
    kept: tuple[str, str] | None
    hot: dict[str, str]
    own: bool
    form: str
    width: int | None


class Locked(msgspec.Struct, tag=True):
    """Everything is loaded and locked; the statement begins."""


class Part(msgspec.Struct, tag=True):
    """A piece of the answer."""

    data: bytes


class Answered(msgspec.Struct, tag=True):
    """The answer is whole."""

    rejected: list[LineRejected]
    rejected_count: int


class Ended(msgspec.Struct, tag=True):
    """What was read is kept for the next query, or why not."""

    trouble: str


class Failed(msgspec.Struct, tag=True):
    """It can't be answered."""

    kind: str
    message: str
    path: str
    hint: str

    def error(self) -> EventLogError:
        """Return the error, to be raised where the question came from."""
        return _ERRORS[self.kind](self.message, path=self.path, hint=self.hint)

    @classmethod
    def of(cls, error: EventLogError) -> Failed:
        """Take down an error."""
        kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
        return cls(kind, error.message, error.path, error.hint)


Frame = Locked | Part | Answered | Ended | Failed


def main() -> None:
    """Answer the one request on stdin."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints must not get between the frames
    request = msgspec.msgpack.decode(_read(0), type=Request)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _answer(out, request)
    except EventLogError as error:
        _send(out, Failed.of(error))
    except MemoryError:
        from .jail import needs_too_much

        _send(out, Failed.of(needs_too_much(request.limits)))
    # Nothing is left to do, and a database with much in it takes its time to be taken apart.
    os._exit(0)


def _answer(out: int, request: Request) -> None:
    from .query import Database

    kept = None if request.kept is None else Kept(*request.kept)
    database = Database(
        [LogRef(*log) for log in request.logs],
        views=request.views,
        limits=request.limits,
        kept=kept,
        hot=request.hot,
        own=request.own,
    )
    _send(out, Locked())
    free = _confine(request)
    rejected, count = database.rejected
    for part in _render(database, request, rejected, count):
        _send(out, Part(part))
    _send(out, Answered(rejected, count))
    free()
    _send(out, Ended(database.keep()))


def _render(
    database: Any, request: Request, rejected: list[LineRejected], count: int
) -> list[bytes]:
    from .output import Format, rows_as

    form = Format(request.form)
    if form is Format.PARQUET:
        data = database.parquet(request.sql, request.params)
    else:
        found = database.query(request.sql, request.params)
        extra = {
            "rejected_count": count,
            "rejected": [line._asdict() for line in rejected],
        }
        text = rows_as(
            form,
            found.columns,
            found.rows,
            types=found.types,
            extra=extra,
            limit=request.width,
        )
        data = text.encode("utf-8", "replace")
    return [data[start : start + _PART] for start in range(0, len(data), _PART)]


# --- walls ------------------------------------------------------------------------------------


def _confine(request: Request) -> Any:
    """Limit what this process may use from now on; return what gives it back."""
    before = [(which, resource.getrlimit(which)) for which in (_FILES, _MEMORY)]
    # Only a Parquet file has to be written, into memory of our own.
    size = request.limits.memory_mb << 20 if request.form == "parquet" else 0
    _limit(_FILES, size)
    if used := _address_space():
        _limit(_MEMORY, used + (request.limits.memory_mb << 20) + _SLACK)

    def free() -> None:
        for which, (soft, _) in before:
            _limit(which, soft)

    return free


_FILES, _MEMORY = resource.RLIMIT_FSIZE, resource.RLIMIT_AS


def _limit(which: int, soft: int) -> None:
    try:
        hard = resource.getrlimit(which)[1]
        within = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(which, (within, hard))
    except (OSError, ValueError):
        pass  # a system without this limit: the database's own remain


def _address_space() -> int:
    """Return the bytes of address space in use; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


# --- talking ----------------------------------------------------------------------------------


def _read(fd: int) -> bytes:
    size = int.from_bytes(_exactly(fd, 8), "big")
    return _exactly(fd, size)


def _exactly(fd: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.read(fd, min(size, _PART))
        if not part:
            sys.exit(1)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _send(fd: int, frame: Frame) -> None:
    data = msgspec.msgpack.encode(frame)
    view = memoryview(len(data).to_bytes(8, "big") + data)
    while view:
        view = view[os.write(fd, view) :]


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when nobody can write there any more
    os._exit(1)
