"""What is said (an `Event`), and how it was taken in (a `Record`).

A program declares its event types as frozen msgspec structs below `Event`, each with a `tag`
written by hand:

    class OrderPlaced(Event, frozen=True, kw_only=True, tag="order.placed"):
        order: str
        data: Order

The tag is the line's `type`. Everything particular to a type belongs under `data`; other
fields of the struct become top-level members of the line.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A past fact."""


class Opened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who began to write.

    Attributes:
        format: version of the line format.
        log_id: random, the same in every `log.opened` of one log.
        epoch: 1 for the first writer, one more for each later one.
        pid, host: of the writer; for people, never for decisions.
        prior_bytes, prior_lines, prior_sha256: what stood in the file, unsealed, before the
            first sealed line.
    """

    format: int
    log_id: str
    epoch: int
    pid: int
    host: str
    prior_bytes: int | None = None
    prior_lines: int | None = None
    prior_sha256: str | None = None


class LogOpened(Event, frozen=True, kw_only=True, tag="log.opened"):
    """A writer took the log."""

    data: Opened


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """A torn tail that was moved aside: where it began, and what it was."""

    offset: int
    bytes: int
    sha256: str
    moved_to: str


class LogRecovered(Event, frozen=True, kw_only=True, tag="log.recovered"):
    """The last line was cut off by a crash; its bytes were moved aside."""

    data: Recovered


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a type that the reader was not given: kept as it is."""

    type: str
    data: Any = None


E = TypeVar("E")


class Record(msgspec.Struct, Generic[E], frozen=True, gc=False):  # it is in no cycle
    """An event and its place in a log.

    Attributes:
        seq: ordinal, from 0.
        ts: RFC 3339, UTC, ends in `Z`; information, never order.
        event: the typed event, or UnknownEvent.
        offset: of the line's first byte.
        sum: the line's chain sum, empty for an unsealed line.
    """

    seq: int
    ts: str
    event: E
    offset: int
    sum: str = ""
