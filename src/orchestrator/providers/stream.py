"""Streams of the wire formats, cut into events: server-sent events, and JSON by the line. Pure.

Bytes come in as the network brings them, in pieces of any size; memory stays within one line
and one event, both of which are limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..errors import FailureKind, StepError

EVENT_MAX_BYTES = 8 * 1024 * 1024

Event = tuple[str, bytes]
"""The event's name (empty for none, and for a line of JSON), and its data."""


class Splitter(Protocol):
    """Cuts one body into events."""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are whole with this chunk."""
        ...

    def end(self) -> Iterator[Event]:
        """Yield what stands at the body's end without its line break."""
        ...


class _Lines:
    """Whole lines out of chunks; a line ends with LF, CR LF or CR."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep(chunk)
            return
        lines = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._keep(lines[0])
        yield bytes(self._rest)
        yield from lines[1:-1]
        self._rest = bytearray()
        self._keep(lines[-1])

    def _keep(self, part: bytes) -> None:
        self._rest += part
        _bounded(len(self._rest))

    def rest(self) -> bytes:
        return bytes(self._rest)


class ServerSentEvents:
    """`text/event-stream`: fields by the line, an event by the empty line.

    Comments and fields other than `event` and `data` say nothing here. An event that the body's
    end cuts off is dropped, as the standard asks.
    """

    def __init__(self) -> None:
        self._lines = _Lines()
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are whole with this chunk."""
        for line in self._lines.feed(chunk):
            if line:
                self._field(line)
            elif self._data:
                yield self._name, b"\n".join(self._data)
                self._clear()
            else:
                self._clear()

    def end(self) -> Iterator[Event]:
        """Yield nothing."""
        return iter(())

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value)
            _bounded(self._size)
            self._data.append(value)
        elif name == b"event":
            self._name = value[:100].decode("utf-8", "replace")

    def _clear(self) -> None:
        self._name, self._data, self._size = "", [], 0


class JsonLines:
    """`application/x-ndjson`: an event is a line."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the lines that are whole with this chunk."""
        for line in self._lines.feed(chunk):
            if line.strip():
                yield "", line

    def end(self) -> Iterator[Event]:
        """Yield the last line, if no line break ended it."""
        rest = self._lines.rest()
        if rest.strip():
            yield "", rest


SPLITTERS: dict[str, type[Splitter]] = {
    "text/event-stream": ServerSentEvents,
    "application/x-ndjson": JsonLines,
    "application/jsonl": JsonLines,
    "application/json-lines": JsonLines,
}
"""By media type."""


def _bounded(size: int) -> None:
    if size > EVENT_MAX_BYTES:
        raise StepError(
            f"the answer can't be read: an event of it is longer than {EVENT_MAX_BYTES >> 20} MiB",
            kind=FailureKind.PROVIDER,
        )
