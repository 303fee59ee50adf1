"""Ask logs with SQL that nobody vouches for: in a process of its own, which can be killed.

DuckDB can't be interrupted while it folds constants (`repeat('x', 3000000000)` goes on for a
minute), and takes memory there that its own limit does not count. So the statement runs in a
`cell`: it has nothing to lose, and it ends when its time is over, whatever it is doing.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from .cell import Answered, Ended, Failed, Frame, Locked, Part, Request
from .errors import QueryError
from .found import LineRejected
from .jail import took_too_long

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ANSWER = 1 << 30
"""Bytes of an answer that are taken."""

_GRACE_S = 1.0
"""Time to end by itself, which leaves the better error."""

_KEEP_S = 600.0
_PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
_READ = 1 << 20
_MAIN = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"
    " from eventlog.cell import main; main()"
)


class Told(msgspec.Struct):
    """An answer, written in the format that was asked for.

    Attributes:
        parts: its bytes.
        rejected: the first lines that could not be read.
        rejected_count: all of them.
    """

    parts: list[bytes] = []
    rejected: list[LineRejected] = []
    rejected_count: int = 0


class Cell:
    """A process that answers one request. Start it early: it loads DuckDB meanwhile."""

    def __init__(self) -> None:
        here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        path = msgspec.json.encode([here, *filter(None, sys.path)]).decode()
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            # -S: the paths are given; -I: nothing from the environment or the current folder.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _MAIN, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the process that asks
            )
        except OSError as error:
            raise QueryError(f"no process for the query can be started: {error}") from error

    def ask(self, request: Request) -> Told:
        """Return the answer.

        Raises:
            EventLogError: as `query.Database` and its `query`, or over a limit.
        """
        told = Told()
        size = 0
        self._give(msgspec.msgpack.encode(request))
        deadline_s: float | None = None
        while True:
            frame = self._take(deadline_s, request)
            match frame:
                case Locked():
                    deadline_s = time.monotonic() + request.limits.time_s + _GRACE_S
                case Part(data):
                    told.parts.append(data)
                    size += len(data)
                    if size > MAX_ANSWER:
                        raise QueryError(
                            f"the answer has more than {MAX_ANSWER >> 20} MiB",
                            hint="select fewer columns or rows",
                        )
                case Answered(rejected, count):
                    told.rejected, told.rejected_count = rejected, count
                    return told
                case Failed():
                    raise frame.error()
                case _:
                    raise _broken("said something out of turn")

    def keep(self) -> str:
        """Wait until what was read is kept for the next query; return why it is not, or nothing."""
        try:
            frame = self._take(time.monotonic() + _KEEP_S, None)
        except QueryError as error:
            return error.message
        return frame.trouble if isinstance(frame, Ended) else ""

    def end(self) -> None:
        """Kill it if it has not ended; more than once is fine."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass

    # --- talking -----------------------------------------------------------------------------

    def _give(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(len(data).to_bytes(8, "big") + data)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what became of it is told when its answer is read

    def _take(self, deadline_s: float | None, request: Request | None) -> Frame:
        size = int.from_bytes(self._exactly(8, deadline_s, request), "big")
        data = self._exactly(size, deadline_s, request)
        frame: Frame = msgspec.msgpack.decode(data, type=Frame)
        return frame

    def _exactly(self, size: int, deadline_s: float | None, request: Request | None) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        parts: list[bytes] = []
        with selectors.DefaultSelector() as ready:
            ready.register(fd, selectors.EVENT_READ)
            while size:
                left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
                if not ready.select(left_s):
                    self.end()
                    if request is None:
                        raise QueryError("it took too long")
                    raise took_too_long(request.limits)
                part = os.read(fd, min(size, _READ))
                if not part:
                    raise self._gone(request)
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

    def _gone(self, request: Request | None) -> QueryError:
        """Return the error of a process that ended without an answer."""
        code = self._process.wait()
        if request is not None and code in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV):
            return QueryError(
                f"the query's process was ended by {signal.Signals(-code).name}",
                hint="it may have needed more memory than there is: select fewer columns or rows",
            )
        return _broken(f"ended with code {code}")


def _broken(what: str) -> QueryError:
    return QueryError(f"the query's process {what}")


@contextmanager
def cell() -> Iterator[Cell]:
    """Have a process for one query; it is gone afterwards."""
    started = Cell()
    try:
        yield started
    finally:
        started.end()
