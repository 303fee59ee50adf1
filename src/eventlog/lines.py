r"""Bytes -> lines, by position and within limits. Pure: reading is done by the `Source` given.

Only `\n` ends a line: other characters that end lines in text do occur inside values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from .errors import LineTooLong

CHUNK = 1 << 16
READ_LIMIT = 16 << 20
"""Longest line that is read, in bytes; ours are at most codec.MAX_LINE_BYTES."""


class Source(Protocol):
    """Where the bytes come from."""

    @property
    def size(self) -> int:
        """Bytes to look at; what is appended later is not seen."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`."""
        ...


class BytesSource:
    """Bytes that are already there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return a slice."""
        return self._data[offset : offset + size]


def blocks(source: Source, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of whole lines, about CHUNK at a time.

    What stands after the last newline comes last, alone: the only block without one.

    Args:
        source: where to read.
        start: offset of a line's first byte.

    Raises:
        LineTooLong: no newline within READ_LIMIT bytes.
    """
    offset, size = start, CHUNK
    while offset < source.size:
        chunk = _read(source, offset, min(size, source.size - offset))
        whole = chunk.rfind(b"\n") + 1
        if whole:
            # The rest is read again, from its line's start: cheaper than to put it together.
            yield offset, chunk[:whole]  # (no copy where it is all of it)
            offset, size = offset + whole, CHUNK
        elif len(chunk) > READ_LIMIT:
            del chunk  # the error's traceback would keep it
            raise _too_long(offset, READ_LIMIT)
        elif len(chunk) < size:
            if chunk:
                yield offset, chunk
            return
        else:
            del chunk  # else two are held at once
            size = min(2 * size, READ_LIMIT + 1)


def _read(source: Source, offset: int, size: int) -> bytes:
    chunk = source.read_at(offset, size)
    while len(chunk) < size:
        more = source.read_at(offset + len(chunk), size - len(chunk))
        if not more:
            break  # the file is shorter than it was
        chunk += more
    return chunk


def each(block: bytes) -> Iterator[bytes]:
    """Yield the lines of a block, with their newlines."""
    lines = block.split(b"\n")
    last = lines.pop()
    for line in lines:
        yield line + b"\n"
    if last:
        yield last


def split(
    source: Source, start: int = 0, limit: int = READ_LIMIT, *, skip_long: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of each line, with its newline; the last may lack it.

    Args:
        source: where to read.
        start: offset of a line's first byte.
        limit: of a line, in bytes.
        skip_long: go on after a longer line, without it.

    Raises:
        LineTooLong: no newline within `limit` bytes.
    """
    offset = start
    position = start
    pending: list[bytes] = []
    held = 0
    while position < source.size:
        chunk = source.read_at(position, min(CHUNK, source.size - position))
        if not chunk:
            break
        position += len(chunk)
        first = 0
        while (newline := chunk.find(b"\n", first)) >= 0:
            line = chunk[first : newline + 1]
            first = newline + 1
            if held > limit:
                offset += held + len(line)
                pending, held = [], 0
                continue
            if held:
                line = b"".join([*pending, line])
                pending, held = [], 0
            yield offset, line
            offset += len(line)
        if first < len(chunk):
            pending.append(chunk[first:])
            held += len(chunk) - first
            if held <= limit:
                continue
            if skip_long:
                pending = []  # what is held no more is no line; `held` keeps saying so
            else:
                raise _too_long(offset, limit)
    if pending:
        yield offset, b"".join(pending)


def _too_long(offset: int, limit: int) -> LineTooLong:
    return LineTooLong(
        f"a line is longer than {limit} bytes",
        offset=offset,
        hint="this is no event log, or it is damaged here",
    )
