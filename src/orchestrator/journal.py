"""A job's log and the state that follows from it, kept together.

Events are *staged* (the state takes them in, so that the next decision sees them) and then
*committed* (appended in one batch). Nothing outside may be done between the two: an effect
begins, and a caller is told, only after the commit. If a commit fails, the state is ahead of
the log and the journal must be dropped; the log on disk is the truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from eventlog import Event, Log, MemoryLog, Record
from eventlog.codec import Stamper

from .events import level_of
from .state import JobState, evolve


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
        log: Log | MemoryLog,
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
        self._time_ns = 0
        self._written = written
        self.listen = listen

    def stage(self, *events: Event) -> None:
        """Let the state take the events in; they are not written yet."""
        if not self._staged:
            self._time_ns = self._clock()
        ts = self._stamp(self._time_ns)
        at_s = self.monotonic()
        for event in events:
            seq = self.log.next_seq + len(self._staged)
            record = Record(seq=seq, ts=ts, event=event, offset=0)
            self._staged.append(event if self._written is None else self._written(event))
            if self.listen is not None:
                self._records.append(record)
            evolve(self.state, record, at_s)

    def commit(self) -> None:
        """Write what is staged; on return it is durable.

        Raises:
            EventLogError: the log can't be written; drop this journal.
        """
        if not self._staged:
            return
        staged, self._staged = self._staged, []
        self.log.append(*staged, time_ns=self._time_ns)
        self.state.sum = self.log.head
        if self.listen is not None:
            records, self._records = self._records, []
            for record in records:
                self.listen(record)

    def record(self, *events: Event) -> None:
        """Stage and commit."""
        self.stage(*events)
        self.commit()


def line_fields(job_id: str) -> Callable[[Event], dict[str, str]]:
    """Return what every line of a job's log carries before the event's own members."""
    cache: dict[str, dict[str, str]] = {}

    def fields(event: Event | dict[str, str]) -> dict[str, str]:
        if not isinstance(event, Event):
            given = {"level": "INFO", "job_id": job_id}
            return {name: value for name, value in given.items() if name not in event}
        level = level_of(event)
        found = cache.get(level)
        if found is None:
            found = cache[level] = {"level": level, "job_id": job_id}
        return found

    return fields
