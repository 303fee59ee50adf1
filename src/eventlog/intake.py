"""Lines of any version -> lines that a database loads. Pure.

DuckDB would take `NaN` for JSON, drop the offset of a stamp, and forget a member that it was not
told of. So each line is looked at here first. Blocks of sealed lines, which is nearly all there
ever is, are looked at whole and go on as they are; any other line is brought into today's form,
and what is not said in it is put in front:

    {"@log":3,"@seq":17,"@own":{…},"@line":{…},<the line's members>}

`@own` holds the line's top-level members that are none of ours; `@line` stands for a `data` that
the line does not have.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from .codec import UNREADABLE, looks_sealed
from .upcast import Form, convert

_BOM = b"\xef\xbb\xbf"
_START = b'{"seq":'
_SPACE = b" \t\r"
_OURS = frozenset(
    ["seq", "ts", "level", "job_id", "type", "step", "item", "data", "dur", "prev", "sum"]
)


class Look(NamedTuple):
    """What a line is.

    Attributes:
        form: its version, as it stands in the file.
        sealed: whether it looks sealed.
        line: for the database, with its newline; empty where there is nothing to load.
        reason: why it can't be loaded.
    """

    form: Form
    sealed: bool
    line: bytes
    reason: str = ""


class _Object(msgspec.Struct, gc=False):
    """Makes the decoder look at every byte of an object without building its values."""


class _Sealed(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A sealed line that has nothing unknown at its top."""

    seq: int
    ts: str
    prev: str
    sum: str
    level: str = ""
    job_id: str = ""
    type: str = ""
    step: str = ""
    item: str = ""
    data: _Object | None = None
    dur: int = 0


_SEALED = msgspec.json.Decoder(_Sealed)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def sound(block: bytes, seq: int) -> int:
    """Return how many lines a block has if all can be loaded as they are, else 0.

    Args:
        block: whole lines.
        seq: what the first line's seq must be.
    """
    count = block.count(b"\n")
    try:
        if not block.isascii():
            block.decode("utf-8")
        values = _SEALED.decode_lines(block)
    except UNREADABLE:
        return 0
    # As many newlines as values: so each line is one value, and none is blank.
    if len(values) != count or [value.seq for value in values] != list(range(seq, seq + count)):
        return 0
    if not block.startswith(_START) or block.count(b"\n" + _START) != count - 1:
        return 0
    return count


def mark(block: bytes, log: int) -> bytes:
    """Return a sound block with its log's number in front of each line."""
    head = b'{"@log":%d,"seq":' % log
    return head + block[len(_START) :].replace(b"\n" + _START, b"\n" + head)


def marked(log: int) -> int:
    """Return by how many bytes `mark` makes each line longer."""
    return len(b'"@log":%d,' % log)


def look(raw: bytes, log: int, seq: int) -> Look | None:
    """Return what a line (without newline) is and what to load of it; None if it is blank."""
    form, sealed = Form.V2_1, looks_sealed(raw)
    if not sealed:
        if not raw.strip(_SPACE):
            return None
        converted = convert(raw)
        form = converted.form
        if form is Form.UNREADABLE:
            return Look(form, False, b"", converted.left)
        raw = converted.line.removeprefix(_BOM).strip(_SPACE)
        if key := _twice(raw):
            return Look(form, False, b"", f"it has `{key}` twice in one object")
    try:
        if not raw.isascii():
            raw.decode("utf-8")
        members = _MEMBERS.decode(raw)
    except UnicodeDecodeError as error:
        return Look(form, False, b"", f"byte {error.start} is not UTF-8")
    except UNREADABLE as error:
        return Look(form, False, b"", f"it can't be decoded: {error}")
    parts = [b'{"@log":%d,"@seq":%d' % (log, seq)]
    own = {name: value for name, value in members.items() if name not in _OURS}
    if form is Form.OTHER:  # of another tool's line, `data` is all of it
        parts += [b',"@line":', raw]
    elif own:
        encoded = msgspec.json.encode(own)
        parts += [b',"@own":', encoded]
        if "data" not in members:
            parts += [b',"@line":', encoded]
    rest = raw[1:]
    parts += [b"" if rest.strip(_SPACE) == b"}" else b",", rest, b"\n"]
    return Look(form, sealed, b"".join(parts))


class _TwiceError(ValueError):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=str, parse_float=str)


def _twice(raw: bytes) -> str:
    """Return a key that stands twice in one object: readers disagree on which of them counts."""
    try:
        _DECODER.decode(raw.decode("utf-8"))
    except _TwiceError as error:
        return str(error)
    except (ValueError, RecursionError):
        return ""  # told by the check that follows
    return ""
