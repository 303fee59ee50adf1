"""A job's log and the state that follows from it, kept together.

Events are *staged* (the state takes them in, so that the next decision sees them) and then
*committed* (appended in one batch). Nothing outside may be done between the two: an effect
begins, and a caller is told, only after the commit. If a commit fails, the state is ahead of
the log and the journal must be dropped; the log on disk is the truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from eventlog import Event, Record
from eventlog.codec import Stamper

from .events import LLMResponse, level_of, level_of_type
from .state import JobState, evolve


class Appendable(Protocol):
    """What a journal writes to: a Log, a MemoryLog, or a share of one."""

    @property
    def next_seq(self) -> int:
        """The seq that the next event gets."""
        ...

    @property
    def head(self) -> str:
        """The sum of the last line."""
        ...

    def append(self, *events: Event | Mapping[str, Any], time_ns: int | None = None) -> range:
        """Append in one batch and return the seqs; durable on return."""
        ...


class Journal:
    """The writer's side of a job.

    Args:
        log: open for append.
        state: as folded from what the log held when it was opened.
        monotonic: seconds, for waits.
        clock: nanoseconds since 1970, for `ts`.
        written: the form in which an event goes to the log, by default its own.
        listen: told of every record once it is durable.
    """

    def __init__(
        self,
        log: Appendable,
        state: JobState,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], int] = time.time_ns,
        written: Callable[[Event], Event] | None = None,
        listen: Callable[[Record[Event]], None] | None = None,
    ) -> None:
        self.log = log
        self.state = state
        self.monotonic = monotonic
        self._clock = clock
        self._stamp = Stamper()
        self._staged: list[Event] = []
        self._records: list[Record[Event]] = []
        self._first = 0
        self._time_ns = 0
        self._ts = ""
        self._written = written
        self.listen = listen

    def stage(self, *events: Event) -> None:
        """Let the state take the events in; they are not written yet."""
        staged, records, written = self._staged, self._records, self._written
        if not staged:
            self._time_ns, self._first = self._clock(), self.log.next_seq
            self._ts = self._stamp(self._time_ns)  # one text for all records of a batch
        at_s = self.monotonic()
        for event in events:
            record = Record(self._first + len(staged), self._ts, event, 0)
            staged.append(event if written is None else written(event))
            records.append(record)
            evolve(self.state, record, at_s)

    def commit(self) -> None:
        """Write what is staged; on return it is durable.

        Raises:
            EventLogError: the log can't be written; drop this journal.
        """
        if not self._staged:
            return
        staged, self._staged = self._staged, []
        records, self._records = self._records, []
        seqs = self.log.append(*staged, time_ns=self._time_ns)
        if seqs.start != self._first:
            records = self._moved(records, seqs.start - self._first)
        self.state.sum = self.log.head
        if self.listen is not None:
            for record in records:
                self.listen(record)

    def _moved(self, records: list[Record[Event]], by: int) -> list[Record[Event]]:
        """Put right what another writer of the same log displaced between stage and commit."""
        self.state.seq += by
        for record in records:
            self.state.moved(record.seq, record.event, by)
        return [msgspec.structs.replace(record, seq=record.seq + by) for record in records]

    def record(self, *events: Event) -> None:
        """Stage and commit."""
        self.stage(*events)
        self.commit()


def line_fields(job_id: str) -> Callable[[Event | Mapping[str, Any]], dict[str, str]]:
    """Return what every line of a job's log carries before the event's own members."""
    by_level: dict[str, dict[str, str]] = {}
    by_type: dict[type, dict[str, str]] = {}

    def fields(event: Event | Mapping[str, Any]) -> dict[str, str]:
        found = by_type.get(type(event))
        if found is not None:
            return found
        if not isinstance(event, Event):
            given = {"level": level_of_type(event.get("type")), "job_id": job_id}
            return {name: value for name, value in given.items() if name not in event}
        level = level_of(event)
        found = by_level.setdefault(level, {"level": level, "job_id": job_id})
        if not isinstance(event, LLMResponse):  # its level is in its data
            by_type[type(event)] = found
        return found

    return fields
