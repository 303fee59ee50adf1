"""Read a log: lines, typed records, events or plain dicts.

Readers never lock, and stop at the last complete line: what stands after the last newline is
either being written now or was cut off, and both are for the next writer to settle. (To wait
for more, see `follow`.)

Unsealed lines (an older version's, or another tool's) are handed out in today's form: see
`upcast`. Events of a program's own older versions go through its upcasters: see `versions`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Protocol, TypeVar

from .codec import unseal
from .decode import Block, Decoder, Line, Rejected
from .dicts import as_dict, as_dicts
from .errors import EventLogError
from .event import Event, Record
from .fs import HINTS
from .lines import blocks
from .source import LogFile
from .versions import Upcasters

__all__ = [
    "Block",
    "Decoder",
    "Line",
    "Place",
    "Rejected",
    "as_dict",
    "read",
    "read_dicts",
    "read_events",
    "read_file",
    "read_lines",
    "resume_at",
    "told",
]

T = TypeVar("T")


def read_lines(
    path: str | os.PathLike[str], *, start: int = 0, first_seq: int = 0
) -> Iterator[Line]:
    """Yield the complete lines of a log, from offset `start`, which has the seq `first_seq`.

    Raises:
        LogNotFound: there is no file at `path`.
        LineTooLong: a line is longer than lines.READ_LIMIT.
        EventLogError: the file can't be read.
    """
    return _read(path, lambda block: list(block.lines()), None, None, start, first_seq)


def read(
    path: str | os.PathLike[str],
    types: Any = Event,
    *,
    verify: bool = False,
    upcasters: Upcasters | None = None,
    rejected: list[Rejected] | None = None,
    start: int = 0,
    first_seq: int = 0,
) -> Iterator[Record[Any]]:
    """Yield a log's records.

    Args:
        path: the log file.
        types: a union of event structs; a line of another type becomes an UnknownEvent.
        verify: check each sealed line's own sum.
        upcasters: for events of older versions.
        rejected: where to note lines that can't be read; without it the first one raises.
        start: offset of the line to begin with.
        first_seq: the seq of that line.

    Raises:
        LogNotFound, LineTooLong: as `read_lines`.
        EventInvalid, LogDamaged: as `Decoder`.
    """
    decode: Decoder[Any] = Decoder(types, verify=verify, upcasters=upcasters)
    return _read(path, decode.records, decode, rejected, start, first_seq)


def read_events(
    path: str | os.PathLike[str],
    types: Any = Event,
    *,
    verify: bool = False,
    upcasters: Upcasters | None = None,
    rejected: list[Rejected] | None = None,
) -> Iterator[Any]:
    """Yield a log's events without their places: twice as fast as `read`.

    Args and errors are those of `read`.
    """
    decode: Decoder[Any] = Decoder(types, verify=verify, upcasters=upcasters)
    return _read(path, decode.events, decode.event, rejected)


def read_dicts(
    path: str | os.PathLike[str],
    *,
    upcasters: Upcasters | None = None,
    rejected: list[Rejected] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a log's lines as plain dicts in today's form: `seq`, `ts`, `type`, `data`, ….

    Args and errors are those of `read`.
    """
    return _read(
        path,
        lambda block: as_dicts(block, upcasters),
        lambda line: as_dict(line, upcasters),
        rejected,
    )


def _read(
    path: str | os.PathLike[str],
    many: Callable[[Block], list[T] | None],
    one: Callable[[Line], T] | None,
    rejected: list[Rejected] | None,
    start: int = 0,
    first_seq: int = 0,
) -> Iterator[T]:
    def opened() -> Iterator[Iterable[T]]:
        with LogFile(path) as file:
            yield from _pieces(file, many, one, rejected, start, first_seq)

    return chain.from_iterable(opened())


def read_file(
    file: LogFile,
    many: Callable[[Block], list[T] | None],
    one: Callable[[Line], T] | None,
    rejected: list[Rejected] | None,
    start: int = 0,
    first_seq: int = 0,
) -> Iterator[T]:
    """Yield what `many` makes of each block, or `one` of each line where it makes nothing."""
    return chain.from_iterable(_pieces(file, many, one, rejected, start, first_seq))


def _pieces(
    file: LogFile,
    many: Callable[[Block], list[T] | None],
    one: Callable[[Line], T] | None,
    rejected: list[Rejected] | None,
    start: int,
    first_seq: int,
) -> Iterator[Iterable[T]]:
    seq = first_seq
    with told(file.path, lambda: seq):
        for offset, raw in blocks(file, start):
            if not raw.endswith(b"\n"):
                return
            block = Block(seq, offset, raw)
            found = many(block)
            if found is None and one is not None:
                yield _each(block, one, file.path, rejected)
                seq += raw.count(b"\n")
            elif found is not None:
                yield found
                seq += len(found)


@contextmanager
def told(path: str, seq: Callable[[], int]) -> Iterator[None]:
    """Say in errors which log they are about, and which event is due there."""
    try:
        yield
    except EventLogError as error:
        error.path, error.seq = path, seq()
        raise
    except OSError as error:
        raise EventLogError(
            f"the log can't be read: {error.strerror or error}",
            path=path,
            seq=seq(),
            hint=HINTS.get(error.errno or 0, "check the disk"),
        ) from error


class Place(Protocol):
    """Where a line stands, and its sum, which stands for all lines up to it.

    A Record is one, and a Checkpoint.
    """

    @property
    def seq(self) -> int:
        """The line's ordinal."""
        ...

    @property
    def offset(self) -> int:
        """Of its first byte."""
        ...

    @property
    def sum(self) -> str:
        """Its sum; an unsealed line has none, and proves nothing."""
        ...


def resume_at(file: LogFile, place: Place) -> int | None:
    """Return where the line after a place begins, None if its line is not there any more.

    Raises:
        LineTooLong, OSError: the file can't be read.
    """
    if not 0 <= place.offset < file.size or not place.sum:
        return None
    if place.offset and file.read_at(place.offset - 1, 1) != b"\n":
        return None
    _, raw = next(blocks(file, place.offset), (0, b""))
    line, newline, _ = raw.partition(b"\n")
    said = unseal(line) if newline else None
    if said is None or (said.seq, said.sum) != (place.seq, place.sum):
        return None
    return place.offset + len(line) + 1


def _each(
    block: Block, one: Callable[[Line], T], path: str, rejected: list[Rejected] | None
) -> Iterator[T]:
    for line in block.lines():
        if not line.raw.strip():
            continue
        try:
            made = one(line)
        except EventLogError as error:
            if rejected is None:
                error.path = path
                raise
            rejected.append(Rejected(line.seq, line.offset, error.message))
            continue
        yield made
