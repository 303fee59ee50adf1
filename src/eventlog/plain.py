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
from itertools import compress, repeat
from operator import is_, itemgetter, methodcaller
from typing import Annotated, NamedTuple

import msgspec

from .forms import MATTER
from .stamps import utc

MAX_LOOKS = 12
"""Told apart in one call; the lines of more are not plain."""

_OPENING = re.compile(rb'\{"(timestamp|ts)":( ?)"')
_STAMP = re.compile(rb'0000-00-00T00:00:00(?:\.0{1,9})?(Z?)"')
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_MINUTE = len("2025-10-22T10:00:")
_HOUR = len("2025-10-22T10:")
_FIVE = ord("5")
_SPACES = frozenset(b" \t\r\n")
_CACHED = 4096

_STRING = rb'"[^"\\\x00-\x1f]*+"'
_USUAL_HEAD = re.compile(
    rb'(?:, ?"level": ?S)?+(?:, ?"job_id": ?S)?+(?:, ?"type": ?S)?+'
    rb'(?:, ?"step": ?(?:S|null))?+'.replace(b"S", _STRING)
)
_MEMBER = re.compile(
    rb", ?(S): ?(?:S|true|false|null|"
    rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)".replace(b"S", _STRING)
)
_KEPT_HEAD = re.compile(
    rb'(?:, ?"(?:level|job_id|type|step)": ?(?:S|null))*+'.replace(b"S", _STRING)
)
_FIRST = re.compile(rb"(, ?)S(: ?)[^ \t\r]".replace(b"S", _STRING), re.DOTALL)

_Never = Annotated[int, msgspec.Meta(gt=1, lt=1)]


class _NoMore(msgspec.Struct, gc=False):
    """An object without any member that matters: such a value is invalid, whatever it is."""

    ts: _Never = 0
    timestamp: _Never = 0
    level: _Never = 0
    job_id: _Never = 0
    type: _Never = 0
    step: _Never = 0
    data: _Never = 0


_DECODER = msgspec.json.Decoder(_NoMore)


class _Look(NamedTuple):
    """How a line begins, up to the quote after its stamp.

    Attributes:
        zeros: these bytes, each digit a zero.
        start, end: of the stamp.
        is_ts: whether it is called `ts`.
        has_zone: whether it ends in Z.
        colon, comma: as the line's program wrote them.
    """

    zeros: bytes
    start: int
    end: int
    is_ts: bool
    has_zone: bool
    colon: bytes
    comma: bytes


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
        begins = list(map(itemgetter(slice(look.end + 1)), left.lines))
        if b"".join(begins).translate(_ZEROS) == look.zeros * len(begins):
            alike, left = left, _Some((), ())
        else:
            fits = [begin.translate(_ZEROS) == look.zeros for begin in begins]
            begins = list(compress(begins, fits))
            alike, left = left.that(fits), left.that([not fit for fit in fits])
        alike, now = _with_sound_stamps(alike, begins, look, UTC if look.has_zone else tz)
        news = _today(alike, look, now)
        if len(news) == len(found):
            return news
        for number, new in zip(alike.numbers, news, strict=True):
            found[number] = new
    return found


def _first_look(some: _Some) -> tuple[_Some, _Look | None]:
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
        look = _Look(
            zeros=line[: end + 1].translate(_ZEROS),
            start=start,
            end=end,
            is_ts=opening[1] == b"ts",
            has_zone=bool(stamp[1]),
            colon=b":" + opening[2],
            comma=b"," + opening[2],
        )
        return _Some(some.numbers[at:], some.lines[at:]), look
    return some, None


def _with_sound_stamps(
    some: _Some, begins: list[bytes], look: _Look, tz: tzinfo
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
    if tz is UTC and first[hour] == last[hour] and last[hour.stop] <= _FIVE:
        # All lie between two minutes of one hour: if the first is one, they are.
        is_known = bool(_in_utc({first[minute]}, tz)[first[minute]])
    if not is_known:
        now = _in_utc(set(map(itemgetter(minute), begins)), tz)
    if not all(now.values()) or max(map(tens, begins)) > _FIVE:
        some = some.that(
            [now.get(begin[minute], b"?") != b"" and tens(begin) <= _FIVE for begin in begins]
        )
    return some, now if any(map(bytes.__ne__, now, now.values())) else {}


def _today(some: _Some, look: _Look, now: dict[bytes, bytes]) -> list[bytes | None]:
    """Return lines that look alike, and have sound stamps, in today's form."""
    if not some.lines:
        return []
    rests = list(map(itemgetter(slice(look.end, None)), some.lines))
    news = _rests(rests, look)
    is_today = look.is_ts and look.has_zone
    if is_today and news is rests:
        return list(some.lines)
    stamps = list(map(itemgetter(slice(look.start, look.end)), some.lines))
    if now:
        stamps = [now[stamp[:_MINUTE]] + stamp[_MINUTE:] for stamp in stamps]
    begin = b'{"ts"%b"' % look.colon
    zone = b"" if look.has_zone else b"Z"
    if None not in news and not (is_today and any(map(is_, news, rests))):
        parts: Iterable[tuple[bytes, ...]] = zip(repeat(begin), stamps, repeat(zone), news)  # type: ignore[assignment]
        return list(map(b"".join, parts))
    made: list[bytes | None] = []
    for line, stamp, rest, new in zip(some.lines, stamps, rests, news, strict=True):
        if new is None or (is_today and new is rest):
            made.append(new and line)
        else:
            made.append(b"".join((begin, stamp, zone, new)))
    return made


# --- what follows the stamp -------------------------------------------------------------------


def _rests(rests: list[bytes], look: _Look) -> list[bytes | None]:
    """Return each rest in today's form, None where it is not plain; the same list if all is well.

    Args:
        rests: of lines, from the quote after the stamp.
        look: of all of them.
    """
    cuts = list(map(methodcaller("partition", look.comma + b'"data"' + look.colon), rests))
    marks = list(map(itemgetter(1), cuts))
    if all(marks):
        return _with_data(rests, cuts)
    if not any(marks):
        return _without_data(rests, look)
    some = iter(_with_data(list(compress(rests, marks)), list(compress(cuts, marks))))
    others = iter(
        _without_data([rest for rest, mark in zip(rests, marks, strict=True) if not mark], look)
    )
    return [next(some) if mark else next(others) for mark in marks]


def _with_data(
    rests: list[bytes], cuts: Sequence[tuple[bytes, bytes, bytes]]
) -> list[bytes | None]:
    heads, _, tails = zip(*cuts, strict=True)
    sound = {head: _is_head(head[1:]) for head in set(heads)}
    objects = _are_objects(b'{"_":', tails)
    if all(sound.values()) and all(objects):
        return rests  # type: ignore[return-value]
    return [
        rest if sound[head] and fits else None
        for rest, head, fits in zip(rests, heads, objects, strict=True)
    ]


def _without_data(rests: list[bytes], look: _Look) -> list[bytes | None]:
    """Move payloads into `data`."""
    step = b'"step"' + look.colon + b'"'
    comma, after = len(look.comma), len(look.colon) + 1
    heads: list[bytes] = []
    firsts: list[bytes] = []  # the first member of each payload, up to one byte of its value
    payloads: list[bytes] = []
    for rest in rests:
        at = rest.find(step)
        end = rest.find(b'"', at + len(step)) + 1 if at >= 0 else _kept_end(rest)
        heads.append(rest[:end])
        if len(rest) > end + 1:
            firsts.append(rest[end : rest.find(b":", end) + after] or rest[end:])
            payloads.append(rest[end + comma :])
        else:  # a brace is all that follows, or the line is none
            firsts.append(b"")
            payloads.append(rest[end:])
    sound = {head: _is_head(head[1:]) for head in set(heads)}
    moves = {first: _is_first(first, look) for first in set(firsts)}
    ends = {pair: _is_end(pair) for pair in set(map(itemgetter(slice(-2, None)), payloads))}
    objects = _are_objects(b"{", payloads)
    data = b"".join((look.comma, b'"data"', look.colon, b"{"))
    news = list(map(b"".join, zip(heads, repeat(data), payloads, repeat(b"}"))))
    if all(firsts) and all(objects) and all((*sound.values(), *moves.values(), *ends.values())):
        return news  # type: ignore[return-value]
    fits = (
        is_object and sound[head] and moves[first] and ends[payload[-2:]]
        for is_object, head, first, payload in zip(objects, heads, firsts, payloads, strict=True)
    )
    return [
        (new if first else rest) if fit else None
        for new, first, rest, fit in zip(news, firsts, rests, fits, strict=True)
    ]


def _kept_end(rest: bytes) -> int:
    found = _KEPT_HEAD.match(rest, 1)
    return found.end() if found else 1


def _is_first(first: bytes, look: _Look) -> bool:
    """Return whether a payload begins in its line's own way; without one all is well."""
    found = _FIRST.fullmatch(first)
    return not first or (found is not None and found.groups() == (look.comma, look.colon))


def _is_end(last: bytes) -> bool:
    """Return whether a payload ends with its last member's value and the line's brace."""
    return last.endswith(b"}") and last[0] not in _SPACES


def _are_objects(begin: bytes, tails: Sequence[bytes]) -> list[bool]:
    """Return of each whether it is an object without members that matter, with `begin` before it.

    The decoder takes many at once. It would let a value go on over a line's end, and two stand in
    a line; but after a `}` no value goes on with the `{` that begins each line, so that as many
    values as lines is one in each.
    """
    try:
        if {*map(_last, tails)} <= {b"}"}:
            found = _DECODER.decode_lines(begin + (b"\n" + begin).join(tails)) if tails else []
            if len(found) == len(tails):
                return [True] * len(tails)
    except (msgspec.DecodeError, RecursionError):
        pass
    return [_is_object(begin + tail) for tail in tails]


_last = itemgetter(slice(-1, None))


def _is_object(text: bytes) -> bool:
    try:
        _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# --- what was seen before ---------------------------------------------------------------------

_heads: dict[bytes, bool] = {}
_minutes: dict[tuple[tzinfo, bytes], bytes] = {}


def _is_head(head: bytes) -> bool:
    """Return whether this is members, each of a simple value, of which none matters twice."""
    known = _heads.get(head)
    if known is None:
        if len(_heads) >= _CACHED:
            _heads.clear()
        known = bool(_USUAL_HEAD.fullmatch(head)) or _is_sound(head)
        # What opens a sealed part is for `recover` to judge.
        known = _heads[head] = known and b"log.opened" not in head
    return known


def _is_sound(head: bytes) -> bool:
    position = 0
    names: list[bytes] = []
    while found := _MEMBER.match(head, position):
        names.append(found[1][1:-1])
        position = found.end()
    mattering = [name for name in names if name.decode("utf-8", "replace") in MATTER]
    return (
        position == len(head)
        and len(set(mattering)) == len(mattering)
        and {b"ts", b"timestamp", b"data"}.isdisjoint(mattering)
    )


def _in_utc(minutes: Iterable[bytes], tz: tzinfo) -> dict[bytes, bytes]:
    """Return each `2025-10-22T10:00:` as it is in UTC, empty if it is none, or not as a whole."""
    found: dict[bytes, bytes] = {}
    for minute in minutes:
        known = _minutes.get((tz, minute))
        if known is None:
            if len(_minutes) >= _CACHED:
                _minutes.clear()
            text = minute.decode("ascii")
            first, last = utc(f"{text}00", tz) or "", utc(f"{text}59", tz) or ""
            whole = first[:-3] == last[:-3] and first.endswith("00Z")
            known = _minutes[tz, minute] = first[:-3].encode("ascii") if whole else b""
        found[minute] = known
    return found
