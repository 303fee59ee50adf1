"""State as a fold over events: `initial` and `evolve`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from .event import Record

S = TypeVar("S")


class Projection(msgspec.Struct, Generic[S], frozen=True):
    """How a state follows from records.

    Attributes:
        initial: makes the state before the first event.
        evolve: returns the state after a record; it may update the state in place, so a state
            that was folded further must not be used again.
    """

    initial: Callable[[], S]
    evolve: Callable[[S, Record[Any]], S]

    def fold(self, records: Iterable[Record[Any]], state: S | None = None) -> S:
        """Return the state after all records, from `state` or from the start."""
        current = self.initial() if state is None else state
        for record in records:
            current = self.evolve(current, record)
        return current
