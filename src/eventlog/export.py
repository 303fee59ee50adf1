"""Lines for other programs: without what makes them a log's. Pure.

plain       what an unsealed log would hold: all members but `seq`, `dur`, `prev` and `sum`
csv         a row for each line, a column for each top-level member, `data` as JSON
cloudevents CloudEvents 1.0 in JSON, one a line

Values keep the spelling that they have in the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from .codec import UNREADABLE
from .decode import Line
from .errors import EventInvalid
from .stamps import utc

Members = dict[str, bytes]
"""The members of a line, each value as it is spelled."""

OWN_TYPES = ("log.opened", "log.recovered")
"""Events that are about the file; they are exported only where they are asked for."""

_SEALS = ("seq", "dur", "prev", "sum")
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_NAME = re.compile(r"[^a-z0-9]")
_SPECIAL = re.compile(r'[",\r\n]')
_TAKEN = frozenset(
    {
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "dataschema",
        "data",
        "sequence",
    }
)


def members(line: Line) -> Members:
    """Return a line's members in today's form.

    Raises:
        EventInvalid: it is no JSON object.
    """
    raw = line.today()
    try:
        raw.decode("utf-8")  # what is not looked into is not checked by the decoder
        found = _MEMBERS.decode(raw)
    except UNREADABLE as error:
        raise EventInvalid(
            f"the line can't be read: {error}", seq=line.seq, offset=line.offset
        ) from error
    return {name: bytes(value) for name, value in found.items()}


def text_of(value: bytes | None) -> str | None:
    """Return what a member says if it is a string."""
    return _STRING.decode(value) if value is not None and value.startswith(b'"') else None


def plain(line: Line, found: Members) -> bytes:
    """Return a line without what makes it one of a sealed log."""
    if line.sealed:
        found = {name: value for name, value in found.items() if name not in _SEALS}
    return msgspec.json.encode({name: msgspec.Raw(value) for name, value in found.items()})


class Rows:
    """CSV rows: `seq`, `ts` and `type` first, then the other members by their first appearance.

    Args:
        several: begin each row with its log's name.
    """

    def __init__(self, *, several: bool) -> None:
        self._columns: dict[str, None] = dict.fromkeys(("seq", "ts", "type"))
        self._several = several

    def learn(self, found: Iterable[str]) -> None:
        """Take note of the members of a line; to be done for all before the first row."""
        self._columns.update(dict.fromkeys(name for name in found if name not in _SEALS[1:]))

    def head(self) -> bytes:
        """Return the names of the columns."""
        return _row([*(["log"] if self._several else []), *self._columns])

    def row(self, log: str, line: Line, found: Members) -> bytes:
        """Return a line's row; members that were not there when it was learned stay out."""
        cells = [_cell(found.get(name)) for name in self._columns if name != "seq"]
        return _row([*([log] if self._several else []), str(line.seq), *cells])


def _row(cells: Iterable[str]) -> bytes:
    # The standard library's writer leaves a lone carriage return bare, which its reader refuses.
    quoted = [
        '"{}"'.format(cell.replace('"', '""')) if _SPECIAL.search(cell) else cell for cell in cells
    ]
    return (",".join(quoted) + "\n").encode("utf-8", "surrogateescape")


def _cell(value: bytes | None) -> str:
    if value is None or value == b"null":
        return ""
    said = text_of(value)
    return value.decode() if said is None else said


def cloudevent(line: Line, found: Members, source: str) -> bytes:
    """Return a line as a CloudEvent.

    Args:
        line: its seq becomes `id` and `sequence`.
        found: its members; those that CloudEvents has no name for become extensions, their names
            in the small letters and digits that are allowed there.
        source: a URI reference.

    Raises:
        EventInvalid: it has no type.
    """
    kind, ts = text_of(found.get("type")), utc(text_of(found.get("ts")))
    if not kind:
        raise EventInvalid("an event without a type is no CloudEvent", seq=line.seq)
    made: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(line.seq),
        "source": source,
        "type": kind,
        "sequence": f"{line.seq:020d}",
    }
    if ts is not None:
        made["time"] = ts
    skipped = {*(_SEALS if line.sealed else ("seq",)), "ts", "type", "data"}
    for name, value in found.items():
        if name in skipped or value == b"null":
            continue
        key = _NAME.sub("", name.lower()) or "member"
        while key in _TAKEN or key in made:
            key = f"x{key}"
        made[key] = msgspec.Raw(value) if _is_attribute(value) else value.decode()
    if "data" in found:
        made |= {"datacontenttype": "application/json", "data": msgspec.Raw(found["data"])}
    return msgspec.json.encode(made)


def _is_attribute(value: bytes) -> bool:
    """Return whether an extension can have the value: text, a boolean, a 32-bit integer."""
    if value[:1] == b'"' or value in {b"true", b"false"}:
        return True
    is_short = value.removeprefix(b"-").isdigit() and len(value) <= 11
    return is_short and -(1 << 31) <= int(value) < 1 << 31
