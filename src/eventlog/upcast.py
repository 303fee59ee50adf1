"""An unsealed line of an older version, in today's form. Pure.

    v1    {"timestamp":"2025-10-22T10:00:00","type":"x","data":{…}}     or without `data`
    v2.0  {"ts":"2025-10-22T10:00:00Z","type":"x","duration_s":3.2,…}   payload at the top
    v2.1  {"ts":"2025-10-22T10:00:00Z","type":"x","data":{…}}

`convert` is the one rule, for the readers (which need an object) and for the migration (which
needs bytes). It moves and renames members and rewrites stamps; every other byte of the line,
spaces, number spelling, key order and escapes included, stays as it was found. What it can't
decide about, it leaves alone and says so.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, tzinfo
from typing import Any, NamedTuple, NoReturn

from .errors import EventInvalid
from .forms import KEPT, MATTER, Form
from .plain import plain
from .stamps import utc

__all__ = ["Converted", "Form", "convert", "convert_any", "upcast"]

_STAMPS = ("ts", "timestamp")
_BOM = "\ufeff"


class Converted(NamedTuple):
    """A line in today's form.

    Attributes:
        form: what it was.
        line: its bytes now; the same bytes where nothing had to change.
        left: why it was left as it is, where today's form could not be reached.
    """

    form: Form
    line: bytes
    left: str = ""


class _Member(NamedTuple):
    """One top-level member, cut so that joining all parts gives the line back."""

    lead: str  # the comma and the spaces before
    name: str  # the key, decoded
    key: str
    colon: str
    text: str  # the value, raw
    value: Any  # decoded; None for a number, whose value is nobody's business

    @property
    def body(self) -> str:
        return self.key + self.colon + self.text


class _Object(NamedTuple):
    head: str
    members: list[_Member]
    tail: str


def upcast(
    line: bytes, *, seq: int | None = None, offset: int | None = None, tz: tzinfo = UTC
) -> bytes:
    """Return the line as version 2.1 would have written it, or as it is if it is that.

    A byte order mark is taken off, because decoders refuse it.

    Args:
        line: without its newline.
        seq: its ordinal, named in errors.
        offset: where it begins, named in errors.
        tz: what a stamp without offset is taken for.

    Raises:
        EventInvalid: it is no JSON object, or says the same thing twice.
    """
    converted = convert(line, tz)
    if converted.form is Form.UNREADABLE:
        raise EventInvalid(f"the line can't be read: {converted.left}", seq=seq, offset=offset)
    return converted.line.removeprefix(_BOM.encode())


def convert(line: bytes, tz: tzinfo = UTC) -> Converted:
    """Return the line in today's form, and what it was; never raises.

    Args:
        line: without its newline.
        tz: what a stamp without offset is taken for.
    """
    (new,) = plain((line,), tz)
    return convert_any(line, tz) if new is None else Converted(_form(line, new), new)


def _form(line: bytes, new: bytes) -> Form:
    """Return what a plain line was, from it and from what it became."""
    if line.startswith(b'{"timestamp"'):
        return Form.V1
    return Form.V2_0 if new.count(b'"data"') > line.count(b'"data"') else Form.V2_1


def convert_any(line: bytes, tz: tzinfo = UTC) -> Converted:
    """Return what `convert` does, by the rule for any line: it takes thirty times as long."""
    try:
        found = _scan(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Converted(Form.UNREADABLE, line, f"byte {error.start} is not UTF-8")
    except RecursionError:
        return Converted(Form.UNREADABLE, line, "it nests too deep")
    except ValueError as error:
        return Converted(Form.UNREADABLE, line, f"it is no JSON object: {error}")
    names = [member.name for member in found.members]
    twice = sorted({name for name in names if name in MATTER and names.count(name) > 1})
    if twice:
        return Converted(Form.UNREADABLE, line, f"it has `{twice[0]}` twice")
    stamps = [member for member in found.members if member.name in _STAMPS]
    if not stamps:
        return Converted(Form.OTHER, line, "it has neither `ts` nor `timestamp`")
    if len(stamps) > 1:
        return Converted(Form.OTHER, line, "it has both `timestamp` and `ts`")
    ts = utc(stamps[0].value, tz)
    if ts is None:
        return Converted(Form.OTHER, line, f"`{stamps[0].name}` is no time: {stamps[0].text[:40]}")
    return _convert(found, stamps[0], ts)


def _convert(found: _Object, stamp: _Member, ts: str) -> Converted:
    members = [_stamped(member, ts) if member is stamp else member for member in found.members]
    payload = [member for member in members if member.name not in KEPT]
    moving = bool(payload) and all(member.name != "data" for member in members)
    form = Form.V2_0 if moving else Form.V2_1
    if stamp.name == "timestamp":
        form = Form.V1
    if moving:
        members = _move(members, payload)
    text = found.head + "".join(member.lead + member.body for member in members) + found.tail
    # Nothing is re-encoded but what was cut, so an unchanged line is the same bytes.
    return Converted(form, text.encode("utf-8"))


def _stamped(member: _Member, ts: str) -> _Member:
    text = member.text if member.value == ts else f'"{ts}"'
    key = member.key if member.name == "ts" else '"ts"'
    return member._replace(name="ts", key=key, text=text, value=ts)


def _move(members: list[_Member], payload: list[_Member]) -> list[_Member]:
    """Put the payload into one member `data` at the end; each keeps the comma it had."""
    kept = [member for member in members if member.name in KEPT]
    first = payload[0]
    lead = first.lead
    if first is members[0]:  # it had no comma; the first one kept had
        lead, kept[0] = kept[0].lead, kept[0]._replace(lead=first.lead)
    inner = first.body + "".join(member.lead + member.body for member in payload[1:])
    return [*kept, _Member(lead, "data", '"data"', first.colon, "{" + inner + "}", None)]


# --- the scanner ------------------------------------------------------------------------------


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Numbers stay text: their value is nobody's business here, and some are too long to have one.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_int=str, parse_float=str)
_SPACE = re.compile(r"[ \t\r\n]*")


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, wanted: str) -> str:
    found = text[position : position + 1]
    if not found or found not in wanted:
        what = repr(found) if found else "the end"
        raise ValueError(f"{what} at character {position} where one of {wanted} is due")
    return found


# A member whose key and value need no decoder: most are of this kind.
_SIMPLE = re.compile(
    r'[ \t\r\n]*("[^"\\\x00-\x1f]*")([ \t\r\n]*:[ \t\r\n]*)'
    r'("[^"\\\x00-\x1f]*"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)'
    r"[ \t\r\n]*([,}])"
)


def _scan(text: str) -> _Object:
    """Cut an object into its top-level members, and check all of it.

    Raises:
        ValueError, RecursionError: it is no JSON object.
    """
    start = _skip(text, 1 if text.startswith(_BOM) else 0)
    _expect(text, start, "{")
    members: list[_Member] = []
    done = position = start + 1  # what has been cut, and what has been looked at
    empty = _skip(text, position)
    closing = text[empty : empty + 1] == "}"
    if closing:
        position = empty + 1
    while not closing:
        simple = _SIMPLE.match(text, position)
        if simple is not None:
            key, colon, value, mark = simple.groups()
            name = key[1:-1]
            decoded = value[1:-1] if value[0] == '"' else None
            lead = text[done : simple.start(1)]
            done, position = simple.end(3), simple.end()
            members.append(_Member(lead, name, key, colon, value, decoded))
        else:
            member, end = _member(text, done, position)
            members.append(member)
            done, position = end, _skip(text, end)
            mark = _expect(text, position, ",}")
            position += 1
        closing = mark == "}"
    last = _skip(text, position)
    if last != len(text):
        raise ValueError(f"more follows the object at character {last}")
    return _Object(text[: start + 1], members, text[done:])


def _member(text: str, done: int, position: int) -> tuple[_Member, int]:
    """Cut any member, and return where it ends."""
    begin = _skip(text, position)
    _expect(text, begin, '"')
    name, key_end = _DECODER.raw_decode(text, begin)
    colon = _skip(text, key_end)
    _expect(text, colon, ":")
    value_start = _skip(text, colon + 1)
    value, end = _DECODER.raw_decode(text, value_start)
    member = _Member(
        lead=text[done:begin],
        name=name,
        key=text[begin:key_end],
        colon=text[key_end:value_start],
        text=text[value_start:end],
        value=value,
    )
    return member, end
