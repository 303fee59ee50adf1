"""Events from Python: write them, read them, pick some."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from eventlog import Durability, Event, Log, read_dicts
from eventlog.find import LOG_NAME
from eventlog.sealer import ENVELOPE

from . import fence
from .journal import line_fields
from .telling import Telling

_Fields = Callable[[Any], dict[str, str]]


class EventEmitter(Telling):
    """Writes events to a log of its own.

    The log is opened, and locked, by the first event and not before. Threads may share an
    emitter. What a step of `run_dag` emits carries its job's id, and is refused once the
    step's attempt is over.

    Args:
        path: the log file; its folder is made if it is not there.
        job_id: what each line says, where an event does not say it itself.
    """

    def __init__(self, path: str | os.PathLike[str], job_id: str = "") -> None:
        self.path = os.fspath(path)
        self.job_id = job_id
        self._log: Log | None = None
        self._mutex = threading.RLock()
        self._fields: _Fields = line_fields(job_id)
        self._default: _Fields = self._fields
        self._owned: dict[int, _Fields] = {}

    @property
    def log(self) -> Log:
        """The open log.

        Raises:
            EventLogError: it can't be opened.
        """
        with self._mutex:
            if self._log is None:
                folder = os.path.dirname(self.path)
                if folder:
                    os.makedirs(folder, mode=0o700, exist_ok=True)
                # A job's log has one lock, whoever writes it: the one that `orch` looks at.
                in_job = os.path.basename(self.path) == LOG_NAME
                self._default = self._fields
                self._log = Log(
                    self.path,
                    fields=self._of,
                    durability=Durability.GROUP,
                    lock_path=os.path.join(folder, ".lock") if in_job else None,
                )
            return self._log

    @property
    def is_open(self) -> bool:
        """Whether the log is open, and so locked."""
        return self._log is not None

    def _of(self, event: Any) -> dict[str, str]:
        if not self._owned:
            return self._default(event)
        return self._owned.get(id(event), self._default)(event)

    def _append(
        self, fields: _Fields, *events: Event | Mapping[str, Any], time_ns: int | None = None
    ) -> range:
        log = self.log
        if fields is self._default:  # it does not change while the log is open
            return log.append(*events, time_ns=time_ns)
        # By the event itself: which thread encodes it, and what else it encodes, is the log's.
        ids = list(map(id, events))
        self._owned.update(dict.fromkeys(ids, fields))
        try:
            return log.append(*events, time_ns=time_ns)
        finally:
            for event_id in ids:
                del self._owned[event_id]

    def for_job(self, job_id: str) -> JobLog:
        """Return the log as one job writes it; what is emitted from now on says `job_id` too."""
        with self._mutex:
            if job_id != self.job_id:
                self.job_id, self._fields = job_id, line_fields(job_id)
            return JobLog(self, self._fields)

    def emit(self, event: Event | Mapping[str, Any]) -> int:
        """Append one event and return its seq; on return it is durable.

        A mapping needs a `type`. What it holds beside `level`, `job_id`, `type`, `step`, `item`
        and `data` becomes its `data`, unless it has some.

        Raises:
            ValueError: a mapping without a `type`.
            AttemptOver: by a step whose attempt timed out, was cancelled or has returned.
            EventLogError: it can't be encoded or written.
        """
        if not isinstance(event, Event) and not isinstance(event.get("type"), str):
            raise ValueError("an event needs a 'type', a string such as 'step.started'")
        fence.check("emit an event")
        if not isinstance(event, Event):
            event = _in_form(event)
        attempt = fence.current()
        if attempt is None or attempt.job_id == self.job_id:
            return self._append(self._fields, event)[0]
        return self._append(line_fields(attempt.job_id), event)[0]

    def sync(self) -> None:
        """Open the log if it is not, and return when all that was emitted is on the disk."""
        self.log.sync()

    def close(self) -> None:
        """Let go of the log; the next event opens it again."""
        with self._mutex:
            log, self._log = self._log, None
            if log is not None:
                log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class JobLog:
    """An emitter's log as one job writes it, whatever other jobs share it.

    Args:
        emitter: whose log it is.
        fields: what each line says.
    """

    def __init__(self, emitter: EventEmitter, fields: _Fields) -> None:
        self._emitter = emitter
        self._fields = fields

    @property
    def next_seq(self) -> int:
        """The seq that the next event gets."""
        return self._emitter.log.next_seq

    @property
    def head(self) -> str:
        """The sum of the last line."""
        return self._emitter.log.head

    def append(self, *events: Event | Mapping[str, Any], time_ns: int | None = None) -> range:
        """Append in one batch, as `Log.append` does."""
        return self._emitter._append(self._fields, *events, time_ns=time_ns)  # noqa: SLF001 - its own


_TOP = frozenset(("level", "job_id", "type", "step", "item", "data"))


def _in_form(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event in today's form: its payload under `data`."""
    if "data" in event or event.keys() <= _TOP or event.keys() & ENVELOPE:
        return event  # the log's own members are refused when it is written
    head = {name: value for name, value in event.items() if name in _TOP}
    return {**head, "data": {n: v for n, v in event.items() if n not in _TOP}}


@contextmanager
def event_logger(path: str | os.PathLike[str], job_id: str = "") -> Iterator[EventEmitter]:
    """Yield an EventEmitter and close it at the end."""
    with EventEmitter(path, job_id) as emitter:
        yield emitter


def read_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return a log's events as dicts with `seq`, `ts`, `type` and `data`.

    Lines of older versions come in today's form: `timestamp` as `ts`, their payload as `data`.

    Raises:
        EventLogError: there is no log, or a line can't be read.
    """
    return list(read_dicts(path))


def filter_events(
    events: Iterable[dict[str, Any]],
    event_type: str | None = None,
    step_id: str | None = None,
    level: str | None = None,
) -> list[dict[str, Any]]:
    """Return the events that match all that is given."""
    wanted = {"type": event_type, "step": step_id, "level": level}
    asked = {name: value for name, value in wanted.items() if value is not None}
    return [e for e in events if all(e.get(name) == value for name, value in asked.items())]
