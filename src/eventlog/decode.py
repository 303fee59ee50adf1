"""Lines -> typed records, events or dicts: one line at a time, or whole blocks. Pure.

The way through one line says what is wrong with it. The way through a block is taken where
nothing is: all lines sealed, of known types and of the latest version. It decodes them in one
call, which is what makes reading fast. Where it is not taken, the block is read line by line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar, Union, get_args

import msgspec

from .bulk import sealed_lines, sums_hold
from .codec import UNREADABLE, looks_sealed, said_sum, unseal
from .errors import EventInvalid, LogDamaged
from .event import Record, UnknownEvent
from .upcast import upcast
from .versions import Upcasters, declared, members_of, version_of

E = TypeVar("E")

MAX_OTHERS = 256
"""Unknown types that are decoded in blocks; the lines of more are read one by one."""


class Line(NamedTuple):
    """One complete line: its ordinal, where it begins, and its bytes without the newline."""

    seq: int
    offset: int
    raw: bytes

    @property
    def sealed(self) -> bool:
        """Whether it has the shape of a sealed line."""
        return looks_sealed(self.raw)

    @property
    def end(self) -> int:
        """The offset of the next line."""
        return self.offset + len(self.raw) + 1

    def today(self) -> bytes:
        """Return it in today's form, if it is not sealed.

        Raises:
            EventInvalid: it is no JSON object.
        """
        return self.raw if self.sealed else upcast(self.raw, seq=self.seq, offset=self.offset)


class Rejected(NamedTuple):
    """A line that can't be read, and why."""

    seq: int
    offset: int
    reason: str


class Block(NamedTuple):
    """Whole lines, newlines included: the ordinal of the first, where it begins, and the bytes."""

    seq: int
    offset: int
    raw: bytes

    def lines(self) -> Iterator[Line]:
        """Yield them one by one."""
        offset = self.offset
        for seq, raw in enumerate(self.raw[:-1].split(b"\n"), self.seq):
            yield Line(seq, offset, raw)
            offset += len(raw) + 1


class _Head(msgspec.Struct, gc=False):
    type: Any = ""  # in another tool's lines these may be anything
    ts: Any = ""
    v: Any = 1
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Place(msgspec.Struct, gc=False):
    seq: int
    ts: str
    sum: str


class _Kind(msgspec.Struct, gc=False):
    type: str
    v: int | str | None = 1


_HEAD = msgspec.json.Decoder(_Head)
_PLACE = msgspec.json.Decoder(_Place)
_KIND = msgspec.json.Decoder(_Kind)
_SEQS, _STAMPS, _SUMS = attrgetter("seq"), attrgetter("ts"), attrgetter("sum")
_KINDS, _VERSIONS = attrgetter("type"), attrgetter("v")
_BETWEEN = b'"}\n{"seq":'


class Decoder(Generic[E]):
    """Turn lines into records of the given event types.

    Args:
        types: a struct below `Event`, or a union of such.
        verify: check each sealed line's own sum.
        upcasters: for events of older versions.

    Raises:
        TypeError: a type does not write the version that the upcasters lead to.
    """

    def __init__(
        self, types: Any, *, verify: bool = False, upcasters: Upcasters | None = None
    ) -> None:
        members = get_args(types) or (types,)
        self._known = {member.__struct_config__.tag for member in members}
        self._versions = declared(members, upcasters)
        self._upcasters = Upcasters() if upcasters is None else upcasters
        self._event = msgspec.json.Decoder(types)
        self._verify = verify
        self._members = members
        self._block = self._event
        self._others: dict[type, str] = {}
        if (
            len(members) == 1 and None not in self._known
        ):  # alone, a struct would be made of a line without a type as well
            self._learn({"log.opened"} if self._known != {"log.opened"} else {"log.recovered"})
        self._has_versions = bool(self._versions) or bool(self._upcasters.kinds)

    # --- one line --------------------------------------------------------------------------------

    def __call__(self, line: Line) -> Record[E | UnknownEvent]:
        """Return the record of one line.

        Raises:
            EventInvalid: it is no JSON object, or not as its type declares.
            LogDamaged: its sum is wrong (only if asked to verify).
        """
        sealed = line.sealed
        if sealed and self._verify and unseal(line.raw) is None:
            raise LogDamaged("the line's sum is wrong", seq=line.seq, offset=line.offset)
        raw = line.raw if sealed else line.today()
        try:
            head = _HEAD.decode(raw)
            event = self._decode(head, raw)
        except UNREADABLE as error:
            raise EventInvalid(
                f"the line can't be read: {error}", seq=line.seq, offset=line.offset
            ) from error
        except EventInvalid as error:
            error.seq, error.offset = line.seq, line.offset
            raise
        ts = head.ts if isinstance(head.ts, str) else ""
        total = said_sum(raw) if sealed else ""
        return Record(seq=line.seq, ts=ts, event=event, offset=line.offset, sum=total)

    def event(self, line: Line) -> E | UnknownEvent:
        """Return the event of one line; errors are those of a call."""
        return self(line).event

    def _decode(self, head: _Head, raw: bytes) -> E | UnknownEvent:
        kind = head.type if isinstance(head.type, str) else ""
        version = version_of(head.v)
        known = self._versions.get(kind)
        if version != known if known is not None else kind in self._upcasters:
            return self._upcast(kind, raw)
        if kind in self._known:
            try:
                return self._event.decode(raw)  # type: ignore[no-any-return]  # one of `types`
            except msgspec.ValidationError:
                if known is not None or version is None or version == 1:
                    raise
                # A later program gave this type versions.
        return UnknownEvent(type=kind, data=msgspec.json.decode(head.data))

    def _upcast(self, kind: str, raw: bytes) -> E | UnknownEvent:
        """Return an event that is not of the version its type has now, or was renamed."""
        event = self._upcasters(members_of(msgspec.json.decode(raw)))
        now = event["type"] if isinstance(event.get("type"), str) else ""
        version, known = version_of(event.get("v", 1)), self._versions.get(now)
        if now not in self._known or (known and (version is None or version > known)):
            return UnknownEvent(type=now, data=event.get("data"))
        if known and version != known:
            raise EventInvalid(
                f"an event {now} of version {version}, where {known} is due, can't be read",
                hint="give the reader the upcasters for it",
            )
        try:
            encoded = msgspec.json.encode(event)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EventInvalid(f"the upcasters of {kind} gave no JSON: {error}") from error
        return self._event.decode(encoded)  # type: ignore[no-any-return]  # one of `types`

    # --- a block ---------------------------------------------------------------------------------

    def events(self, block: Block) -> list[E | UnknownEvent] | None:
        """Return the events of a block, None where it must be read line by line."""
        events = self._all(block.raw)
        if not events:
            return None
        if self._verify:
            lines = block.raw[:-1].split(b"\n")
            return events if len(lines) == len(events) and sums_hold(lines) else None
        return events if _is_chain(block, len(events)) else None

    def records(self, block: Block) -> list[Record[E | UnknownEvent]] | None:
        """Return the records of a block, None where it must be read line by line."""
        lines = sealed_lines(block.raw)
        events = None if lines is None else self._all(block.raw)
        if lines is None or events is None or len(lines) != len(events):
            return None
        if self._verify and not sums_hold(lines):
            return None
        try:
            places: list[_Place] = _PLACE.decode_lines(block.raw)
        except UNREADABLE:
            return None
        seqs = list(map(_SEQS, places))
        if seqs != list(range(block.seq, block.seq + len(events))):
            return None
        sizes = map((1).__add__, map(len, lines))
        make: Any = Record
        return list(
            map(
                make,
                seqs,
                map(_STAMPS, places),
                events,
                accumulate(sizes, initial=block.offset),
                map(_SUMS, places),
            )
        )

    def _all(self, raw: bytes) -> list[E | UnknownEvent] | None:
        """Decode a block, if it has events of known types and the latest versions only."""
        try:
            if self._has_versions and not self._is_latest(raw):
                return None
            try:
                events: list[Any] = self._block.decode_lines(raw)
            except msgspec.ValidationError:
                if not self._widen(raw):
                    return None
                events = self._block.decode_lines(raw)
        except UNREADABLE:
            return None
        others = self._others
        if others:
            return [
                UnknownEvent(type=others[type(event)], data=event.data)
                if type(event) in others
                else event
                for event in events
            ]
        return events

    def _is_latest(self, raw: bytes) -> bool:
        """Return whether no event of a block has another version than its type has now."""
        kinds: list[_Kind] = _KIND.decode_lines(raw)
        for kind, version in set(zip(map(_KINDS, kinds), map(_VERSIONS, kinds), strict=True)):
            known = self._versions.get(kind)
            if version != known if known is not None else kind in self._upcasters:
                return False
        return True

    def _widen(self, raw: bytes) -> bool:
        """Learn the unknown types of a block; return whether there were any."""
        kinds: list[_Kind] = _KIND.decode_lines(raw)
        new = set(map(_KINDS, kinds)) - self._known - set(self._others.values())
        if not new or len(self._others) + len(new) > MAX_OTHERS:
            return False
        self._learn(new)
        return True

    def _learn(self, new: set[str]) -> None:
        """Let blocks be decoded that hold other types, too."""
        for tag in sorted(new):
            other = msgspec.defstruct("Other", [("data", Any, None)], tag_field="type", tag=tag)
            self._others[other] = tag
        self._block = msgspec.json.Decoder(Union[(*self._members, *self._others)])


def _is_chain(block: Block, count: int) -> bool:
    """Return whether a block that holds so many events holds so many sealed lines.

    Looks at where lines meet, and closely at the first and the last. (A line between sealed
    ones that only begins and ends like one is damage, which the sums would show.)
    """
    raw = block.raw
    last = raw.rfind(b"\n", 0, -1) + 1
    return (
        raw.startswith(b'{"seq":%d,' % block.seq)
        and raw.startswith(b'{"seq":%d,' % (block.seq + count - 1), last)
        and raw.endswith(b'"}\n')
        and raw.count(_BETWEEN) == count - 1
        and looks_sealed(raw[: raw.find(b"\n")])
        and looks_sealed(raw[last:-1])
    )
