"""The log's contract without a disk: for tests, and for programs that keep nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import codec
from .event import Event, LogOpened, Opened, Record
from .reader import Decoder, Line


class MemoryLog:
    """Events in memory, as the same lines that a file would hold.

    Args:
        fields: as for `Log`.
        clock: nanoseconds since 1970.
    """

    def __init__(
        self,
        *,
        fields: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
        clock: Callable[[], int] = lambda: 0,
    ) -> None:
        self.lines: list[bytes] = []
        self.head = codec.GENESIS
        self.epoch = 1
        self._fields = fields
        self._clock = clock
        self._stamp = codec.Stamper()
        self.append(
            LogOpened(
                data=Opened(format=codec.FORMAT, log_id="memory", epoch=1, pid=0, host="memory")
            )
        )

    @property
    def next_seq(self) -> int:
        """The seq that the next event gets."""
        return len(self.lines)

    def append(self, *events: Event | Mapping[str, Any], time_ns: int | None = None) -> range:
        """Take the events in and return their seqs.

        Raises:
            EventInvalid, LineTooLong: nothing is taken in.
        """
        first, head = self.next_seq, self.head
        lines: list[bytes] = []
        ts = self._stamp(self._clock() if time_ns is None else time_ns)
        for seq, event in enumerate(events, first):
            fields = self._fields(event) if callable(self._fields) else self._fields
            members = codec.encode_members(event)
            if fields:
                own = codec.encode_members(fields)
                members = own + b"," + members if members else own
            line, head = codec.seal(seq, ts, members, head)
            codec.check_length(line, codec.MAX_LINE_BYTES, seq=seq)
            lines.append(line)
        self.lines += lines
        self.head = head
        return range(first, self.next_seq)

    def sync(self) -> None:
        """Promise nothing: there is no disk."""

    def close(self) -> None:
        """Keep the lines readable."""

    def read(self, types: Any) -> Iterator[Record[Any]]:
        """Yield the records, as `eventlog.read` does of a file."""
        decode: Decoder[Any] = Decoder(types)
        offset = 0
        for seq, line in enumerate(self.lines):
            yield decode(Line(seq, offset, line[:-1]))
            offset += len(line)
