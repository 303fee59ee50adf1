"""The log's contract without a disk: for tests, and for programs that keep nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from . import codec
from .errors import LogPoisoned
from .event import Event, LogOpened, Opened, Record
from .group import Append, Outcome
from .reader import Decoder, Line
from .sealer import Fields, Sealer


class MemoryLog:
    """Events in memory, as the same lines that a file would hold.

    Args:
        fields: as for `Log`.
        clock: nanoseconds since 1970.
    """

    def __init__(
        self, *, fields: Fields | None = None, clock: Callable[[], int] = lambda: 0
    ) -> None:
        self.lines: list[bytes] = []
        self.head = codec.GENESIS
        self.epoch = 1
        self.offset = 0
        self._seal = Sealer(fields)
        self._clock = clock
        self._closed = False
        opened = Opened(format=codec.FORMAT, log_id="memory", epoch=1, pid=0, host="memory")
        self._append((LogOpened(data=opened),), None, ours=True)

    @property
    def next_seq(self) -> int:
        """The seq that the next event gets."""
        return len(self.lines)

    def append(self, *events: Event | Mapping[str, Any], time_ns: int | None = None) -> range:
        """Take the events in and return their seqs.

        Raises:
            EventInvalid, LineTooLong: nothing is taken in.
            LogPoisoned: it is closed.
        """
        first = self.next_seq
        if events:
            self._check()
            self._append(events, time_ns)
        return range(first, self.next_seq)

    def append_all(self, appends: Sequence[Append]) -> list[Outcome]:
        """Take several appends in, as `Log.append_all` does: a bad event spoils its own only.

        Raises:
            LogPoisoned: it is closed.
        """
        self._check()
        outcomes: list[Outcome] = []
        for events, time_ns in appends:
            try:
                outcomes.append(self.append(*events, time_ns=time_ns))
            except Exception as error:  # noqa: BLE001 - `fields` may raise anything
                outcomes.append(error)
        return outcomes

    def sync(self) -> None:
        """Promise nothing: there is no disk.

        Raises:
            LogPoisoned: it is closed.
        """
        self._check()

    def close(self) -> None:
        """Take no more events; the lines stay readable."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, types: Any = Event) -> Iterator[Record[Any]]:
        """Yield the records, as `eventlog.read` does of a file."""
        decode: Decoder[Any] = Decoder(types)
        offset = 0
        for seq, line in enumerate(self.lines):
            yield decode(Line(seq, offset, line[:-1]))
            offset += len(line)

    def _check(self) -> None:
        if self._closed:
            raise LogPoisoned("the log is closed")

    def _append(
        self,
        events: tuple[Event | Mapping[str, Any], ...],
        time_ns: int | None,
        *,
        ours: bool = False,
    ) -> None:
        lines, self.head = self._seal(
            events,
            seq=self.next_seq,
            head=self.head,
            time_ns=self._clock() if time_ns is None else time_ns,
            ours=ours,
        )
        self.lines += lines
        self.offset += sum(map(len, lines))
