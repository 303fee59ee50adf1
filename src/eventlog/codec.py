r"""The line: how an event becomes bytes, and how bytes prove that they are whole. Pure.

    {"seq":17,"ts":"…Z",<fields>,<the event's members>[,"dur":16],"prev":"<16>","sum":"<16>"}\n

`sum` is the first 96 bits of SHA-256, base64url, over the line's raw bytes before `,"sum":`.
`prev` is the sum of the line before; the first sealed line has `GENESIS`. So each line
verifies alone, and the chain shows a removed, swapped or edited one. `dur` stands in the first
line of a batch and names the highest seq that was durable when the batch was written.

Because `prev` and `sum` have a fixed width and stand last, reading them is slicing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from binascii import b2a_base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from .errors import EventInvalid, LineTooLong

FORMAT = 1
"""Version of the sealed line format, written in every `log.opened`."""

GENESIS = "A" * 16
MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 64
"""How deep a value may nest: far below where the decoder gives up."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding bytes that are no JSON, no UTF-8 or too deep raises."""

_SUM_KEY = b',"sum":"'
_PREV_KEY = b',"prev":"'
_SUM_BYTES = 16
_TAIL = len(_SUM_KEY) + _SUM_BYTES + 2  # ,"sum":"0123456789abcdef"}
_PREV = len(_PREV_KEY) + _SUM_BYTES + 1  # ,"prev":"0123456789abcdef"
_SEQ = re.compile(rb'\{"seq":(0|[1-9][0-9]{0,17}),')
_DUR = re.compile(rb'[,{]"dur":(0|[1-9][0-9]{0,17})$')
_SECOND_NS = 1_000_000_000
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Seal(NamedTuple):
    """What a sealed line says about itself, once its sum has been found right."""

    seq: int
    prev: str
    sum: str
    body: bytes
    """The bytes that the sum covers."""

    @property
    def dur(self) -> int | None:
        """Return the highest seq known durable when the line was written, if it says so."""
        match = _DUR.search(self.body, max(0, len(self.body) - _PREV - 32), len(self.body) - _PREV)
        return int(match[1]) if match else None


_new_hash = hashlib.sha256().copy  # a copy of an empty one costs less than a new one


def _checksum(body: bytes) -> bytes:
    sha256 = _new_hash()
    sha256.update(body)
    return b2a_base64(sha256.digest()[:12], newline=False).translate(_URL_SAFE)


def checksum(body: bytes) -> str:
    """Return the first 96 bits of SHA-256 over `body` as 16 base64url characters."""
    return _checksum(body).decode("ascii")


def seal(seq: int, ts: str, members: bytes, prev: str, dur: int | None = None) -> tuple[bytes, str]:
    """Return one line with its newline, and its sum: `seal_all` for a single event."""
    lines, total = seal_all(seq, ts, [members], prev, dur)
    return lines[0], total


def seal_all(
    seq: int,
    ts: str,
    batch: Sequence[bytes],
    prev: str,
    dur: int | None = None,
    own: bytes = b"",
) -> tuple[list[bytes], str]:
    """Return the lines of a batch, each with its newline, and the sum of the last.

    Args:
        seq: the first event's ordinal.
        ts: as `Stamper` makes it.
        batch: of each event the object's other members, encoded, without the braces.
        prev: the sum of the line before, or GENESIS.
        dur: for the first line.
        own: members that stand before those of each event, encoded, without the braces.
    """
    alone = b',"ts":"%b"%b%b' % (ts.encode("ascii"), b"," if own else b"", own)
    before = alone + b","
    if dur is not None and batch:
        batch = [b'%b%b"dur":%d' % (batch[0], b"," if batch[0] else b"", dur), *batch[1:]]
    total = prev.encode("ascii")
    lines: list[bytes] = []
    for members in batch:
        start = before if members else alone
        body = b'{"seq":%d%b%b,"prev":"%b"' % (seq, start, members, total)
        # As `_checksum`: a call for each line would be a tenth of the time.
        sha256 = _new_hash()
        sha256.update(body)
        total = b2a_base64(sha256.digest()[:12], newline=False).translate(_URL_SAFE)
        lines.append(body + _SUM_KEY + total + b'"}\n')
        seq += 1
    return lines, total.decode("ascii")


def looks_sealed(line: bytes) -> bool:
    """Return whether `line` (without newline) has the shape of a sealed one, right or wrong."""
    return line[-_TAIL:].startswith(_SUM_KEY) and line.startswith(b'{"seq":')


def said_sum(line: bytes) -> str:
    """Return the sum that a line of a sealed one's shape carries, right or wrong."""
    return line[-_SUM_BYTES - 2 : -2].decode("ascii", "replace")


def follows(line: bytes, seq: int, prev: str) -> str | None:
    """Return the sum of a line (without newline) that is whole and due here, else None.

    This is the short way through a log that is sound; `unseal` says what is wrong otherwise.
    """
    body = line[:-_TAIL]
    total = _checksum(body)
    if line[-_TAIL:] != _SUM_KEY + total + b'"}':
        return None
    if body[-_PREV:] != _PREV_KEY + prev.encode() + b'"':
        return None
    return total.decode("ascii") if body.startswith(b'{"seq":%d,' % seq) else None


def unseal(line: bytes) -> Seal | None:
    """Return what a line (without newline) says, or None if it does not verify alone."""
    if line[-2:] != b'"}' or line[-_TAIL : -_TAIL + len(_SUM_KEY)] != _SUM_KEY:
        return None
    body = line[:-_TAIL]
    total = _checksum(body)
    if line[-_TAIL + len(_SUM_KEY) : -2] != total:
        return None
    prev = body[-_SUM_BYTES - 1 : -1]
    if body[-_PREV:] != _PREV_KEY + prev + b'"' or not prev.isascii():
        return None
    seq = _SEQ.match(body)
    if seq is None:
        return None
    return Seal(int(seq[1]), prev.decode("ascii"), total.decode("ascii"), body)


class Stamper:
    """Format times as RFC 3339 UTC with six decimals; the second's text is kept for the next."""

    def __init__(self) -> None:
        self._second_ns = -(10**18)
        self._text = ""

    def __call__(self, time_ns: int) -> str:
        """Return `2026-11-23T10:00:01.204417Z` for nanoseconds since 1970."""
        rest = time_ns - self._second_ns
        if not 0 <= rest < _SECOND_NS:
            second, rest = divmod(time_ns, _SECOND_NS)
            moment = datetime.fromtimestamp(second, UTC)
            self._text = moment.strftime("%Y-%m-%dT%H:%M:%S.").rjust(20, "0")
            self._second_ns = int(second) * _SECOND_NS  # whole, whatever was given
        return f"{self._text}{rest // 1000:06d}Z"


def encode_members(value: Any) -> bytes:
    """Return an object's members as compact JSON without the braces.

    Args:
        value: a msgspec struct or a dict with string keys.

    Raises:
        EventInvalid: the value is no JSON object, or holds NaN, an infinity, text with lone
            surrogates, a number of more digits than Python reads, ready-made JSON with a line
            break, or nests deeper than MAX_DEPTH; the path inside the value is named.

    A set becomes an array, bytes become base64: msgspec's ways, which its typed decoding undoes.
    """
    try:
        encoded = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EventInvalid(f"an event can't be encoded: {_explain(value, error)}") from error
    if encoded[:1] != b"{":
        raise EventInvalid(f"an event must be a JSON object, not {type(value).__name__}")
    # msgspec writes NaN and the infinities as null without a word: look where a null is.
    if b"null" in encoded and (path := find_nonfinite(value)):
        raise EventInvalid(
            f"an event can't be encoded: {path} is NaN or infinite, which JSON does not have",
            hint="write null or a string in its place",
        )
    if b"\n" in encoded:  # only a msgspec.Raw can bring one in; it would end the line
        raise EventInvalid(
            "an event can't be encoded: a msgspec.Raw in it holds a line break",
            hint="format it with msgspec.json.format(…, indent=-1) first",
        )
    if (
        len(encoded) > 2 * MAX_DEPTH  # what is opened is closed
        and encoded.count(b"{") + encoded.count(b"[") > MAX_DEPTH
        and _depth(value) > MAX_DEPTH
    ):
        raise EventInvalid(f"an event nests deeper than {MAX_DEPTH} levels")
    return encoded[1:-1]


def check_length(line: bytes, limit: int, *, path: str = "", seq: int | None = None) -> None:
    """Refuse a line over `limit` bytes.

    Raises:
        LineTooLong: naming both numbers.
    """
    if len(line) > limit:
        raise LineTooLong(
            f"a line of {len(line)} bytes is over the limit of {limit}",
            path=path,
            seq=seq,
            hint="store the payload as a blob and keep its hash in the event",
        )


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return [(f".{name}", getattr(value, field)) for name, field in names]
    if isinstance(value, dict):
        return [(f".{key}", item) for key, item in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value):
        declared: Any = dataclasses.fields(value)
    else:
        declared = getattr(type(value), "__attrs_attrs__", ())  # an attrs class
    return [(f".{field.name}", getattr(value, field.name)) for field in declared]


def find_nonfinite(value: Any) -> str:
    """Return the path of a NaN or an infinity inside a value, empty if there is none."""
    stack: list[tuple[str, Any]] = [("$", value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return path
        stack.extend((path + name, child) for name, child in reversed(_children(item)))
    return ""


def _depth(value: Any) -> int:
    deepest = 0
    stack: list[tuple[int, Any]] = [(0, value)]
    while stack:
        depth, item = stack.pop()
        deepest = max(deepest, depth)
        if depth > MAX_DEPTH:
            break
        stack.extend((depth + 1, child) for _, child in _children(item))
    return deepest


def _explain(value: Any, error: Exception) -> str:
    """Name the path of the first part that msgspec refuses by itself."""
    if isinstance(error, RecursionError):
        return "it nests too deep"
    path = "$"
    for _ in range(MAX_DEPTH):
        for name, child in _children(value):
            try:
                msgspec.json.encode(child)
            except (TypeError, ValueError, OverflowError, RecursionError) as inner:
                path, value, error = path + name, child, inner
                break
        else:
            break
    return f"{path}: {error}"


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()
