"""Events -> sealed lines: what every log does before it stores anything. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from . import codec
from .bulk import encode_all
from .errors import EventInvalid
from .event import Event

Fields = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
"""Top-level members of every line, before the event's own: fixed, or made from the event."""

ENVELOPE = frozenset({"seq", "ts", "dur", "prev", "sum"})
"""Names of the line's own members."""

_MADE_KEPT = 64
"""Kinds of events of which the members that were made last are remembered."""

_FEW = 3
"""Events that are encoded faster one by one than all at once."""

_EVENT_S = frozenset({"type", "data"})
_OURS = frozenset({"log.opened", "log.recovered"})


class Sealer:
    """Encode, check and seal batches.

    Args:
        fields: members for every line, or a function from the event to them.
        path: of the file, for messages.
    """

    def __init__(self, fields: Fields | None = None, path: str = "") -> None:
        self._path = path
        self._make = fields if callable(fields) else None
        self._fixed = b""
        self._names: frozenset[str] = frozenset()
        if fields and not callable(fields):
            fixed = dict(fields)
            self._fixed = codec.encode_members(fixed)
            self._names = frozenset(fixed)
            _apart(fixed, ENVELOPE, "the line's own member")
            _apart(fixed, _EVENT_S, "the event's own member")
        self._known: dict[type, frozenset[str]] = {}
        self._made: dict[frozenset[str], tuple[dict[str, Any], bytes]] = {}
        self._stamp = codec.Stamper()

    def __call__(
        self,
        events: Sequence[Event | Mapping[str, Any]],
        seq: int,
        head: str,
        time_ns: int,
        dur: int | None = None,
        *,
        ours: bool = False,
    ) -> tuple[list[bytes], str]:
        """Return the lines of a batch and the sum of the last one.

        Args:
            events: structs below `Event`, or mappings with a `type`.
            seq: of the first.
            head: sum of the line before it.
            time_ns: of the batch, since 1970.
            dur: for the first line.
            ours: these are the log's own events, which nobody else may write.

        Raises:
            EventInvalid: one can't be encoded, has no type, or has a member that it must not;
                or the time is none.
            LineTooLong: one is over codec.MAX_LINE_BYTES.
        """
        batch = None if ours or len(events) <= _FEW else self._all(events)
        if batch is None:
            batch = [self._one(event, ours=ours) for event in events]
        try:
            stamp = self._stamp(time_ns)
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise EventInvalid(
                f"{time_ns!r} is no time: {error}",
                path=self._path,
                hint="give whole nanoseconds since 1970, up to the year 9999",
            ) from error
        lines, head = codec.seal_all(seq, stamp, batch, head, dur, self._fixed)
        if max(map(len, lines)) > codec.MAX_LINE_BYTES:
            for at, line in enumerate(lines, seq):
                codec.check_length(line, codec.MAX_LINE_BYTES, path=self._path, seq=at)
        return lines, head

    def _one(self, event: Event | Mapping[str, Any], *, ours: bool = False) -> bytes:
        """Return an event's members, and before them those made for it."""
        names = self._known.get(type(event))
        if names is None:
            names = self._names_of(event, ours=ours)
        made = b"" if self._make is None else self._made_for(event, names)
        if not isinstance(event, msgspec.Struct | dict):
            event = dict(event)
        return made + codec.encode_members(event)

    def _all(self, events: Sequence[Event | Mapping[str, Any]]) -> list[bytes] | None:
        """Return what `_one` does of each event, None where it must look itself."""
        kinds = dict(zip(map(type, events), events, strict=True))
        for kind, event in kinds.items():
            if kind not in self._known:
                if not isinstance(event, msgspec.Struct):
                    return None
                self._names_of(event, ours=False)
        batch = encode_all(events)
        if batch is None or self._make is None:
            return batch
        made = [self._made_for(event, self._known[type(event)]) for event in events]
        return list(map(bytes.__add__, made, batch))

    def _made_for(self, event: Event | Mapping[str, Any], names: frozenset[str]) -> bytes:
        """Return the members that `fields` makes for an event, with a comma after them."""
        assert self._make is not None
        made = self._make(event)
        known = self._made.get(names)
        if known is not None and made == known[0]:  # mostly they are those of the one before
            return known[1]
        if not made:
            return b""
        _apart(made, names, "also a member of the event")
        made = made if isinstance(made, dict) else dict(made)
        _apart(made, ENVELOPE, "the line's own member")
        encoded = codec.encode_members(made) + b","
        if set(map(type, made.values())) == {str}:  # 1 and True are equal, their texts are not
            if len(self._made) >= _MADE_KEPT:
                self._made.clear()
            self._made[names] = (dict(made), encoded)
        return encoded

    def _names_of(self, event: Event | Mapping[str, Any], *, ours: bool) -> frozenset[str]:
        """Return the names of an event's members, once they are found right."""
        if isinstance(event, msgspec.Struct):
            config = event.__struct_config__
            tag = config.tag if config.tag_field == "type" else None
            names = frozenset({*event.__struct_encode_fields__, "type"})
        elif isinstance(event, Mapping):
            tag, names = event.get("type"), frozenset(event)
        else:
            raise EventInvalid(f"an event must be a JSON object, not {type(event).__name__}")
        if not isinstance(tag, str) or not tag:
            raise EventInvalid(
                f"an event of {type(event).__name__} has no type",
                hint="derive it from eventlog.Event with a tag, or give the mapping a `type`",
            )
        if tag in _OURS and not ours:
            raise EventInvalid(f"only the log itself writes {tag}")
        _apart(names, ENVELOPE, "the line's own member")
        _apart(names, self._names, "in every line of this log already")
        if isinstance(event, msgspec.Struct) and not ours:
            self._known[type(event)] = names
        return names


def _apart(names: Iterable[str], taken: frozenset[str], why: str) -> None:
    """Refuse a name that would stand in the line twice: readers differ in which they take."""
    if not taken.isdisjoint(names):
        twice = ", ".join(sorted(taken.intersection(names)))
        raise EventInvalid(f"an event can't have a member {twice}: it is {why}")
