"""Read a log: lines, typed records or plain dicts; whole files or what is new in them.

Readers never lock, and stop at the last complete line: what stands after the last newline is
either being written now or was cut off, and both are for the next writer to settle.

Unsealed lines (an older version's, or another tool's) are handed out in today's form: see
`upcast`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar, get_args

import msgspec

from .codec import UNREADABLE, looks_sealed, said_sum, unseal
from .errors import EventInvalid, EventLogError, LogDamaged
from .event import Event, Record, UnknownEvent
from .lines import split
from .source import LogFile
from .upcast import upcast

E = TypeVar("E")

POLL_S = 0.1


class Line(NamedTuple):
    """One complete line: its ordinal, where it begins, and its bytes without the newline."""

    seq: int
    offset: int
    raw: bytes

    @property
    def sealed(self) -> bool:
        """Whether it has the shape of a sealed line."""
        return looks_sealed(self.raw)

    @property
    def end(self) -> int:
        """The offset of the next line."""
        return self.offset + len(self.raw) + 1


class Rejected(NamedTuple):
    """A line that can't be read, and why."""

    seq: int
    offset: int
    reason: str


def read_lines(
    path: str | os.PathLike[str], *, start: int = 0, first_seq: int = 0
) -> Iterator[Line]:
    """Yield the complete lines of a log, from offset `start`, which has the seq `first_seq`.

    Raises:
        LogNotFound: there is no file at `path`.
        LineTooLong: a line is longer than recover.READ_LIMIT.
        EventLogError: the file can't be read.
    """
    with LogFile(path) as file:
        yield from _lines(file, start, first_seq)


def _lines(file: LogFile, start: int, first_seq: int) -> Iterator[Line]:
    seq = first_seq
    try:
        for offset, line in split(file, start):
            if not line.endswith(b"\n"):
                return
            yield Line(seq, offset, line[:-1])
            seq += 1
    except EventLogError as error:
        error.path, error.seq = file.path, seq
        raise
    except OSError as error:
        raise EventLogError(
            f"the log can't be read: {error.strerror}", path=file.path, seq=seq
        ) from error


class _Head(msgspec.Struct):
    type: Any = ""  # in another tool's lines these may be anything
    ts: Any = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class Decoder(Generic[E]):
    """Turn lines into records of the given event types.

    Args:
        types: a struct below `Event`, or a union of such.
        verify: check each sealed line's own sum.
    """

    def __init__(self, types: Any, *, verify: bool = False) -> None:
        members = get_args(types) or (types,)
        self._known = {member.__struct_config__.tag for member in members}
        self._event = msgspec.json.Decoder(types)
        self._head = msgspec.json.Decoder(_Head)
        self._verify = verify

    def __call__(self, line: Line) -> Record[E | UnknownEvent]:
        """Return the record of one line.

        Raises:
            EventInvalid: it is no JSON object, or not as its type declares.
            LogDamaged: its sum is wrong (only if asked to verify).
        """
        raw, total = line.raw, ""
        if line.sealed:
            total = said_sum(raw)
            if self._verify and unseal(raw) is None:
                raise LogDamaged("the line's sum is wrong", seq=line.seq, offset=line.offset)
        else:
            raw = upcast(raw, seq=line.seq, offset=line.offset)
        try:
            head = self._head.decode(raw)
            kind = head.type if isinstance(head.type, str) else ""
            event: E | UnknownEvent
            if kind in self._known:
                event = self._event.decode(raw)
            else:
                event = UnknownEvent(type=kind, data=msgspec.json.decode(head.data))
        except UNREADABLE as error:
            raise EventInvalid(
                f"the line can't be read: {error}", seq=line.seq, offset=line.offset
            ) from error
        ts = head.ts if isinstance(head.ts, str) else ""
        return Record(seq=line.seq, ts=ts, event=event, offset=line.offset, sum=total)


def read(
    path: str | os.PathLike[str],
    types: Any = Event,
    *,
    verify: bool = False,
    rejected: list[Rejected] | None = None,
) -> Iterator[Record[Any]]:
    """Yield a log's records.

    Args:
        path: the log file.
        types: a union of event structs; a line of another type becomes an UnknownEvent.
        verify: check each sealed line's own sum.
        rejected: where to note lines that can't be read; without it the first one raises.

    Raises:
        LogNotFound, LineTooLong: as `read_lines`.
        EventInvalid, LogDamaged: as `Decoder`.
    """
    decode: Decoder[Any] = Decoder(types, verify=verify)
    for line in read_lines(path):
        if not line.raw.strip():
            continue
        try:
            record = decode(line)
        except EventLogError as error:
            if rejected is None:
                error.path = os.fspath(path)
                raise
            rejected.append(Rejected(line.seq, line.offset, error.message))
            continue
        yield record


def read_dicts(
    path: str | os.PathLike[str], *, rejected: list[Rejected] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a log's lines as plain dicts in today's form: `seq`, `ts`, `type`, `data`, ….

    Args and errors are those of `read`.
    """
    for line in read_lines(path):
        if not line.raw.strip():
            continue
        try:
            yield as_dict(line)
        except EventLogError as error:
            if rejected is None:
                error.path = os.fspath(path)
                raise
            rejected.append(Rejected(line.seq, line.offset, error.message))


def as_dict(line: Line) -> dict[str, Any]:
    """Return one line as a dict, upcast if it is not sealed.

    Raises:
        EventInvalid: it is no JSON object.
    """
    raw = line.raw if line.sealed else upcast(line.raw, seq=line.seq, offset=line.offset)
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE as error:
        raise EventInvalid(
            f"the line can't be read: {error}", seq=line.seq, offset=line.offset
        ) from error
    if not isinstance(value, dict):
        raise EventInvalid("the line is no JSON object", seq=line.seq, offset=line.offset)
    return {"seq": line.seq} | value | {"seq": line.seq}  # it stands first, and it counts


class Follower:
    """Hand out the lines that a growing log gained, without missing or repeating one.

    Args:
        path: the log file; the same file is read on if its name goes to another one.
        from_end: begin with what comes after the lines that are there now.

    Raises:
        LogNotFound: there is no file at `path`.
    """

    def __init__(self, path: str | os.PathLike[str], *, from_end: bool = False) -> None:
        self._file = LogFile(path)
        self._offset = 0
        self._seq = 0
        if from_end:
            try:
                for _ in self.poll():
                    pass
            except BaseException:
                self.close()
                raise

    def poll(self) -> Iterator[Line]:
        """Yield what is complete now and was not handed out yet.

        Raises:
            LogDamaged: the file is shorter than what was already read.
        """
        self._file.refresh()
        if self._file.size < self._offset:
            raise LogDamaged(
                f"the log shrank to {self._file.size} bytes while it was read",
                path=self._file.path,
                seq=self._seq,
                offset=self._offset,
                hint="it was cut or replaced; read it again from the start",
            )
        for line in _lines(self._file, self._offset, self._seq):
            self._offset, self._seq = line.end, line.seq + 1
            yield line

    def follow(
        self, ended: Callable[[], bool], sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Line]:
        """Yield lines until `ended()` says that no more will come and all are handed out."""
        while True:
            last = ended()
            yield from self.poll()
            if last:
                return
            sleep(POLL_S)

    def close(self) -> None:
        """Close the file; more than once is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
