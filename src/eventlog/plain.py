"""Plain old lines: what the rule for any line says of them, many at once. Pure.

Programs of older versions wrote nearly all lines in one way: the stamp first, then what stays at
the top, then the payload, with `json.dumps`' separators or the compact ones:

    {"timestamp":"2025-10-22T10:00:00.25","level":"INFO","type":"x","step":"a","data":{…}}
     look: opening and stamp              head                                 tail

Lines of one look are taken together, in strides of Python's C parts, and each part proves
itself: the digits of a stamp by a minute that the calendar knows, a head by a pattern (or by
having been seen before), a tail by a decoder that refuses members that matter once more.

What does not fit is no error: it is left to `upcast.convert_any`, with which this agrees.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from itertools import compress
from operator import is_, itemgetter
from typing import NamedTuple

from . import tails
from .stamps import utc
from .tails import CACHED, Look

MAX_LOOKS = 12
"""Told apart in one call; the lines of more are not plain."""

_OPENING = re.compile(rb'\{"(timestamp|ts)":( ?)"')
_STAMP = re.compile(rb'0000-00-00T00:00:00(?:\.0{1,9})?(Z|[+-]00:00|)"')
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_MINUTE = len("2025-10-22T10:00:")
_HOUR = len("2025-10-22T10:")
_FIVE = ord("5")


class _Some(NamedTuple):
    """Some of the lines, and which they are."""

    numbers: Sequence[int]
    lines: Sequence[bytes]

    def that(self, fits: Sequence[object]) -> _Some:
        """Return those for which the value at their place is true."""
        if all(fits):
            return self
        return _Some(list(compress(self.numbers, fits)), list(compress(self.lines, fits)))


def plain(lines: Sequence[bytes], tz: tzinfo = UTC) -> list[bytes | None]:
    """Return each line in today's form, None for one that is not plain.

    A line that needs no change comes back as the same object.

    Args:
        lines: without newlines.
        tz: what a stamp without offset is taken for.
    """
    found: list[bytes | None] = [None] * len(lines)
    left = _Some(range(len(lines)), lines)
    if not all(map(bytes.isascii, lines)):
        left = left.that(list(map(_is_utf8, lines)))
    for _ in range(MAX_LOOKS):
        left, look = _first_look(left)
        if look is None:
            break
        alike, now, left = _alike(left, look, tz)
        for number, new in zip(alike.numbers, _made(_cut(alike, look, now)), strict=True):
            found[number] = new
    return found


def plain_block(block: bytes, tz: tzinfo = UTC) -> tuple[bytes, int, int] | None:
    """Return whole lines in today's form, how many they are, and how many have changed.

    None if not all are plain and look alike.

    Args:
        block: lines, each with its newline.
        tz: what a stamp without offset is taken for.
    """
    lines = block[:-1].split(b"\n")
    some, look = _first_look(_Some(range(len(lines)), lines))
    if look is None or len(some.lines) < len(lines) or not (block.isascii() or _is_utf8(block)):
        return None
    alike, now, _ = _alike(some, look, tz)
    if len(alike.lines) < len(lines):
        return None
    cut = _cut(alike, look, now)
    same = len(lines) if cut.news is cut.rests else sum(map(is_, cut.news, cut.rests))
    if cut.is_same and same == len(lines):
        return block, len(lines), 0
    if cut.news is not cut.rests and None in cut.news:
        return None
    made = map(cut.zone.join, zip(cut.stamps, cut.news, strict=True))  # type: ignore[arg-type]  # none is None
    new = cut.begin + (b"\n" + cut.begin).join(made) + b"\n"
    return new, len(lines), len(lines) - same if cut.is_same else len(lines)


def _alike(some: _Some, look: Look, tz: tzinfo) -> tuple[_Some, dict[bytes, bytes], _Some]:
    """Return the lines of a look that have sound stamps, what minutes become, and the others."""
    left = _Some((), ())
    begins = list(map(itemgetter(slice(look.end + 1)), some.lines))
    if b"".join(begins).translate(_ZEROS) != look.zeros * len(begins):
        fits = [begin.translate(_ZEROS) == look.zeros for begin in begins]
        begins = list(compress(begins, fits))
        some, left = some.that(fits), some.that([not fit for fit in fits])
    return *_with_sound_stamps(some, begins, look, UTC if look.has_zone else tz), left


def _first_look(some: _Some) -> tuple[_Some, Look | None]:
    """Return the look of the first line that has one, and the lines from there on."""
    for at, line in enumerate(some.lines):
        opening = _OPENING.match(line)
        if opening is None:
            continue
        start = opening.end()
        stamp = _STAMP.match(line[start : start + 40].translate(_ZEROS))
        if stamp is None:
            continue
        end = start + stamp.end() - 1
        look = Look(
            zeros=line[: end + 1].translate(_ZEROS),
            start=start,
            end=end,
            is_ts=opening[1] == b"ts",
            has_zone=stamp[1] == b"Z",
            offset=len(stamp[1]) if stamp[1] != b"Z" else 0,
            colon=b":" + opening[2],
            comma=b"," + opening[2],
        )
        return _Some(some.numbers[at:], some.lines[at:]), look
    return some, None


def _with_sound_stamps(
    some: _Some, begins: list[bytes], look: Look, tz: tzinfo
) -> tuple[_Some, dict[bytes, bytes]]:
    """Leave out lines whose stamps are none; return what minutes become, if they change.

    Args:
        some: lines that look alike.
        begins: how they begin, as far as their stamps go.
        look: of these lines.
        tz: of their stamps.
    """
    minute = slice(look.start, look.start + _MINUTE)
    tens = itemgetter(minute.stop)  # of the seconds
    first, last = min(begins), max(begins)
    hour = slice(look.start, look.start + _HOUR)
    now: dict[bytes, bytes] = {}
    is_known = False
    if tz is UTC and not look.offset and first[hour] == last[hour] and last[hour.stop] <= _FIVE:
        # All lie between two minutes of one hour: if the first is one, they are.
        is_known = bool(_in_utc({first[minute]}, tz)[first[minute]])
    are_seconds = max(map(tens, begins)) <= _FIVE
    if is_known and are_seconds:
        return some, now
    minutes = list(map(itemgetter(minute), begins))
    if look.offset:
        offset = slice(look.end - look.offset, look.end)
        minutes = [begin[minute] + begin[offset] for begin in begins]
    if not is_known:
        now = _in_utc(set(minutes), tz)
    if not all(now.values()) or not are_seconds:
        some = some.that(
            [
                now.get(key, b"?") != b"" and tens(begin) <= _FIVE
                for key, begin in zip(minutes, begins, strict=True)
            ]
        )
    return some, now if any(map(bytes.__ne__, now, now.values())) else {}


class _Cut(NamedTuple):
    """Lines that look alike, cut.

    Attributes:
        lines: as they are.
        stamps: in UTC, without what stands around them.
        rests: what follows their stamps.
        news: that in today's form, None where a line is not plain.
        begin, zone: what stands before and after a stamp in today's form.
        is_same: whether a line whose rest does not change does not change.
    """

    lines: Sequence[bytes]
    stamps: list[bytes]
    rests: list[bytes]
    news: list[bytes | None]
    begin: bytes
    zone: bytes
    is_same: bool


def _cut(some: _Some, look: Look, now: dict[bytes, bytes]) -> _Cut:
    """Cut lines that look alike, and have sound stamps."""
    rests = list(map(itemgetter(slice(look.end, None)), some.lines))
    stamps = list(map(itemgetter(slice(look.start, look.end)), some.lines))
    if look.offset:
        cut = -look.offset
        stamps = [now[stamp[:_MINUTE] + stamp[cut:]] + stamp[_MINUTE:cut] for stamp in stamps]
    elif now:
        stamps = [now[stamp[:_MINUTE]] + stamp[_MINUTE:] for stamp in stamps]
    return _Cut(
        lines=some.lines,
        stamps=stamps,
        rests=rests,
        news=tails.today(rests, look) if rests else [],
        begin=b'{"ts"%b"' % look.colon,
        zone=b"" if look.has_zone else b"Z",
        is_same=look.is_ts and look.has_zone,
    )


def _made(cut: _Cut) -> list[bytes | None]:
    """Return the lines in today's form."""
    if cut.is_same and cut.news is cut.rests:
        return list(cut.lines)
    made: list[bytes | None] = []
    for line, stamp, rest, new in zip(cut.lines, cut.stamps, cut.rests, cut.news, strict=True):
        if new is None or (cut.is_same and new is rest):
            made.append(new and line)
        else:
            made.append(b"".join((cut.begin, stamp, cut.zone, new)))
    return made


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# --- what was seen before --------------------------------------------------------------------

_minutes: dict[tuple[tzinfo, bytes], bytes] = {}


def _in_utc(minutes: Iterable[bytes], tz: tzinfo) -> dict[bytes, bytes]:
    """Return each `2025-10-22T10:00:` as it is in UTC, empty if it is none, or not as a whole.

    An offset may stand after it.
    """
    found: dict[bytes, bytes] = {}
    for minute in minutes:
        known = _minutes.get((tz, minute))
        if known is None:
            if len(_minutes) >= CACHED:
                _minutes.clear()
            text, offset = minute[:_MINUTE].decode("ascii"), minute[_MINUTE:].decode("ascii")
            first, last = utc(f"{text}00{offset}", tz) or "", utc(f"{text}59{offset}", tz) or ""
            # A shift by seconds would put the two into different minutes.
            whole = first[:-3] == last[:-3]
            known = _minutes[tz, minute] = first[:-3].encode("ascii") if whole else b""
        found[minute] = known
    return found
