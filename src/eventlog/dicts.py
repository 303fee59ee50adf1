"""Lines -> plain dicts: one line at a time, or whole blocks. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from .bulk import sealed_lines
from .codec import UNREADABLE
from .decode import Block, Line
from .errors import EventInvalid
from .versions import Upcasters, members_of

_ANY = msgspec.json.Decoder()


def as_dict(line: Line, upcasters: Upcasters | None = None) -> dict[str, Any]:
    """Return one line as a dict, upcast if it is not sealed or of an older version.

    Raises:
        EventInvalid: it is no JSON object, or an upcaster fails.
    """
    raw = line.today()
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE as error:
        raise EventInvalid(
            f"the line can't be read: {error}", seq=line.seq, offset=line.offset
        ) from error
    if not isinstance(value, dict):
        raise EventInvalid("the line is no JSON object", seq=line.seq, offset=line.offset)
    value = {"seq": line.seq} | value | {"seq": line.seq}  # it stands first, and it counts
    if upcasters is None or value.get("type") not in upcasters:
        return value
    try:
        return _upcast_dict(value, upcasters)
    except EventInvalid as error:
        error.seq, error.offset = line.seq, line.offset
        raise


def as_dicts(block: Block, upcasters: Upcasters | None = None) -> list[dict[str, Any]] | None:
    """Return the lines of a block as dicts, None where it must be read line by line."""
    lines = sealed_lines(block.raw)
    if lines is None:
        return None
    try:
        values: list[Any] = _ANY.decode_lines(block.raw)
        seqs = [value["seq"] for value in values]
    except (*UNREADABLE, TypeError, KeyError):
        return None
    due = list(range(block.seq, block.seq + len(lines)))
    if seqs != due or set(map(type, seqs)) != {int} or set(map(type, values)) != {dict}:
        return None
    if upcasters is not None:
        if not set(map(type, kinds := [value.get("type") for value in values])) <= {str}:
            return None
        if not upcasters.kinds.isdisjoint(kinds):
            return None
    return values


def _upcast_dict(value: dict[str, Any], upcasters: Upcasters) -> dict[str, Any]:
    before = {name: value[name] for name in ("seq", "ts") if name in value}
    after = {name: value[name] for name in ("dur", "prev", "sum") if name in value}
    return before | upcasters(members_of(value)) | after
