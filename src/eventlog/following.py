"""Follow a log that grows, as typed records.

    for record in follow("events.jsonl", Paid | Refunded): …
    async for record in follow("events.jsonl", Paid | Refunded): …

What happens when the file is cut or replaced meanwhile is told in `follower`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .decode import Decoder, Line, Rejected
from .errors import EventLogError
from .event import Event, Record
from .follower import FIRST_POLL_S, POLL_S, Follower
from .reader import Place
from .versions import Upcasters

R = TypeVar("R")


class Following(Generic[R]):
    """The records of a growing log, for `for` and for `async for`; made by `follow`.

    An error is raised where it is met. Iterating again goes on after the line it is about.
    """

    def __init__(
        self,
        path: str,
        open_: Callable[[], Follower],
        decode: Decoder[Any],
        until: Callable[[], bool],
        rejected: list[Rejected] | None,
        poll_s: float,
    ) -> None:
        self._path = path
        self._open = open_
        self._decode = decode
        self._until = until
        self._rejected = rejected
        self._longest_s = poll_s
        self._pause_s = 0.0
        self._ready: Iterator[Any] = iter(())
        self._follower: Follower | None = None
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> R:
        while (record := self._next()) is None:
            if self._ended:
                raise StopIteration
            if not self._look():
                time.sleep(self._pause_s)
        return record

    async def __anext__(self) -> R:
        import anyio

        while (record := self._next()) is None:
            if self._ended:
                raise StopAsyncIteration
            # Looking takes no time worth a thread; others get their turn between two looks.
            await anyio.sleep(0 if self._look() else self._pause_s)
        return record

    def close(self) -> None:
        """Close the file; more than once is fine."""
        self._ended = True
        self._ready = iter(())
        if self._follower is not None:
            self._follower.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self) -> R | None:
        """Return a record that is there already, if any."""
        for found in self._ready:
            if not isinstance(found, Line):
                return found  # type: ignore[no-any-return]  # no Line
            if not found.raw.strip():
                continue
            try:
                return self._decode(found)  # type: ignore[return-value]  # R is what it gives
            except EventLogError as error:
                if self._rejected is None:
                    error.path = self._path
                    raise
                self._rejected.append(Rejected(found.seq, found.offset, error.message))
        return None

    def _look(self) -> bool:
        """Take in what is new, or learn that nothing will be; return whether either was so."""
        if self._follower is None:
            self._follower = self._open()
        last = self._until()
        block = self._follower.block()
        if block is not None:
            many = self._decode.records(block)
            self._ready = block.lines() if many is None else iter(many)
            self._pause_s = 0.0
            return True
        if last:
            self.close()
        else:
            self._pause_s = min(max(2 * self._pause_s, FIRST_POLL_S), self._longest_s)
        return last


def follow(
    path: str | os.PathLike[str],
    types: Any = Event,
    *,
    from_end: bool = False,
    after: Place | None = None,
    until: Callable[[], bool] = lambda: False,
    verify: bool = False,
    upcasters: Upcasters | None = None,
    rejected: list[Rejected] | None = None,
    poll_s: float = POLL_S,
) -> Following[Record[Any]]:
    """Return the records of a log that grows, to be used in a `for` or an `async for`.

    Args:
        path: the log file; it is opened when the first record is asked for.
        types: as for `read`.
        from_end: begin with what comes after the lines that are there now.
        after: begin after this record or checkpoint.
        until: whether no more will come; what is there then is still handed out.
        verify: check each sealed line's own sum.
        upcasters: for events of older versions.
        rejected: where to note lines that can't be read; without it they raise.
        poll_s: the longest pause between two looks; after a change it is a millisecond.

    Raises:
        LogNotFound, LogRewritten, LineTooLong: while iterating, as `Follower`.
        EventInvalid, LogDamaged: while iterating, as `Decoder`.
    """
    return Following(
        os.fspath(path),
        lambda: Follower(path, from_end=from_end, after=after),
        Decoder(types, verify=verify, upcasters=upcasters),
        until,
        rejected,
        poll_s,
    )
