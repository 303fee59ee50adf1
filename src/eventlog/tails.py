"""What follows the stamp of plain lines: what stays at the top, and the payload. Pure.

See `plain`: lines of one look come here together, cut after their stamps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import compress, repeat
from operator import itemgetter, methodcaller
from typing import Annotated, NamedTuple

import msgspec

from .forms import MATTER

CACHED = 4096
"""Of what was seen before, so many are known; then it begins anew."""

_SPACES = frozenset(b" \t\r\n")
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


class Look(NamedTuple):
    """How a line begins, up to the quote after its stamp.

    Attributes:
        zeros: these bytes, each digit a zero.
        start, end: of the stamp.
        is_ts: whether it is called `ts`.
        has_zone: whether it ends in Z.
        offset: the length of its offset, if it ends in one.
        colon, comma: as the line's program wrote them.
    """

    zeros: bytes
    start: int
    end: int
    is_ts: bool
    has_zone: bool
    offset: int
    colon: bytes
    comma: bytes


def today(rests: list[bytes], look: Look) -> list[bytes | None]:
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
    bad = _unsound(heads)
    objects = _are_objects(b'{"_":', tails)
    if not bad and all(objects):
        return rests  # type: ignore[return-value]  # a wider list
    return [
        rest if head not in bad and fits else None
        for rest, head, fits in zip(rests, heads, objects, strict=True)
    ]


def _without_data(rests: list[bytes], look: Look) -> list[bytes | None]:
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
    bad = _unsound(heads)
    moves = {first: _is_first(first, look) for first in set(firsts)}
    ends = {pair: _is_end(pair) for pair in set(map(itemgetter(slice(-2, None)), payloads))}
    objects = _are_objects(b"{", payloads)
    data = b"".join((look.comma, b'"data"', look.colon, b"{"))
    news = list(map(b"".join, zip(heads, repeat(data), payloads, repeat(b"}"))))
    if all(firsts) and all(objects) and not bad and all((*moves.values(), *ends.values())):
        return news  # type: ignore[return-value]  # a wider list
    fits = (
        is_object and head not in bad and moves[first] and ends[payload[-2:]]
        for is_object, head, first, payload in zip(objects, heads, firsts, payloads, strict=True)
    )
    return [
        (new if first else rest) if fit else None
        for new, first, rest, fit in zip(news, firsts, rests, fits, strict=True)
    ]


def _kept_end(rest: bytes) -> int:
    found = _KEPT_HEAD.match(rest, 1)
    return found.end() if found else 1


def _is_first(first: bytes, look: Look) -> bool:
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


# --- what stays at the top -------------------------------------------------------------------

_heads: set[bytes] = set()


def _unsound(heads: Sequence[bytes]) -> set[bytes]:
    """Return the heads that are not members of simple values, of which none matters twice."""
    bad: set[bytes] = set()
    if _heads.issuperset(heads):
        return bad
    for head in set(heads) - _heads:
        # What opens a sealed part is for `recover` to judge.
        if b"log.opened" in head or not (_USUAL_HEAD.fullmatch(head, 1) or _is_sound(head)):
            bad.add(head)
            continue
        if len(_heads) >= CACHED:
            _heads.clear()
        _heads.add(head)
    return bad


def _is_sound(head: bytes) -> bool:
    position = 1  # after the stamp's quote
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
