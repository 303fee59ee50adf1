"""A log's bytes in today's form, block by block, and counted. Pure.

Plain lines, which are nearly all, are taken many at once (see `plain`); the others, and only
they, one by one by the rule for any line (see `upcast`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from operator import is_
from typing import NamedTuple

import msgspec

from .codec import looks_sealed
from .forms import Form
from .lines import BytesSource, Source, blocks
from .plain import plain, plain_block
from .recover import Verdict, scan
from .upcast import convert_any

MAX_NAMED = 1000
"""How many of the lines that were left are named; all are counted."""


class Left(msgspec.Struct, frozen=True):
    """A line that stays as it is, and why; lines count from 1, as editors do."""

    line: int
    reason: str


class Counts(msgspec.Struct, kw_only=True):
    """What was found in a log.

    Attributes:
        lines: complete lines, blank ones too.
        migrated, already_new, left, blank: of these lines; they add up to `lines`.
        named: the first MAX_NAMED of those left.
        torn_bytes: after the last line; kept as they are.
        bytes_before, bytes_after: of the file.
    """

    lines: int = 0
    migrated: int = 0
    already_new: int = 0
    left: int = 0
    blank: int = 0
    named: list[Left] = []
    torn_bytes: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


class Piece(NamedTuple):
    """Some bytes of a log: where they begin, how many they are, and what they become."""

    offset: int
    size: int
    new: bytes
    is_changed: bool


class SealFoundError(Exception):
    """A line is sealed, or opens a sealed part: whether it may be rewritten needs a scan."""


def converted(
    source: Source, counts: Counts, tz: tzinfo, *, trusted: bool = False
) -> Iterator[Piece]:
    """Yield all bytes of a log, and count.

    Args:
        source: where to read.
        counts: is added to.
        tz: what a stamp without offset is taken for.
        trusted: a scan has found that nothing is sealed.

    Raises:
        SealFoundError: there is a line that must not be changed.
        LineTooLong: a line is longer than lines.READ_LIMIT.
    """
    for offset, raw in blocks(source):
        if raw.endswith(b"\n"):
            new = _block(raw, counts, tz, trusted=trusted)
        elif _is_whole(raw):
            new = _lines([raw], counts, tz, trusted=trusted)
        else:
            counts.torn_bytes = len(raw)
            new = raw
        counts.bytes_before += len(raw)
        counts.bytes_after += len(new)
        yield Piece(offset, len(raw), new, new is not raw and new != raw)


def _block(raw: bytes, counts: Counts, tz: tzinfo, *, trusted: bool) -> bytes:
    found = plain_block(raw, tz)
    if found is None:
        return _lines(raw[:-1].split(b"\n"), counts, tz, trusted=trusted) + b"\n"
    new, lines, changed = found
    counts.lines += lines
    counts.migrated += changed
    counts.already_new += lines - changed
    return new


def _lines(lines: list[bytes], counts: Counts, tz: tzinfo, *, trusted: bool) -> bytes:
    news = plain(lines, tz)
    same = sum(map(is_, lines, news))
    counts.already_new += same
    if None not in news:
        counts.migrated += len(lines) - same
    else:
        odd = [number for number, new in enumerate(news) if new is None]
        counts.migrated += len(lines) - same - len(odd)
        for number in odd:
            if not trusted and may_be_sealed(lines[number]):
                raise SealFoundError
            news[number] = _any(lines[number], counts, counts.lines + number + 1, tz)
    counts.lines += len(lines)
    return b"\n".join(news)  # type: ignore[arg-type]  # none is None


def _any(line: bytes, counts: Counts, number: int, tz: tzinfo) -> bytes:
    if not line.strip(b" \t\r"):
        counts.blank += 1
        return line
    form, new, reason = convert_any(line, tz)
    if form is Form.UNREADABLE or reason:
        counts.left += 1
        if len(counts.named) < MAX_NAMED:
            counts.named.append(Left(number, reason))
    elif new == line:
        counts.already_new += 1
    else:
        counts.migrated += 1
    return new


def may_be_sealed(line: bytes) -> bool:
    """Return whether `recover` may take this line for a sealed one, right or wrong."""
    return b"log.opened" in line or looks_sealed(line)


def _is_whole(line: bytes) -> bool:
    """Return whether a last line without newline lacks nothing but that."""
    return scan(BytesSource(line)).verdict is Verdict.UNTERMINATED
