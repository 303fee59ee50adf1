"""Events from Python: write them, read them, pick some."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from eventlog import Durability, Event, Log, read_dicts

from . import events as ev
from .journal import line_fields


class EventEmitter:
    """Writes events to a log of its own.

    The log is opened, and locked, by the first event and not before.

    Args:
        path: the log file; its folder is made if it is not there.
        job_id: what each line says, where an event does not say it itself.
    """

    def __init__(self, path: str | os.PathLike[str], job_id: str = "") -> None:
        self.path = os.fspath(path)
        self.job_id = job_id
        self._log: Log | None = None
        self._fields: Callable[[Any], dict[str, str]] = line_fields(job_id)

    @property
    def log(self) -> Log:
        """The open log.

        Raises:
            EventLogError: it can't be opened.
        """
        if self._log is None:
            folder = os.path.dirname(self.path)
            if folder:
                os.makedirs(folder, mode=0o700, exist_ok=True)
            self._log = Log(self.path, fields=self._of, durability=Durability.GROUP)
        return self._log

    def _of(self, event: Any) -> dict[str, str]:
        return self._fields(event)

    def for_job(self, job_id: str) -> None:
        """Let the lines that follow say `job_id`."""
        if job_id != self.job_id:
            self.job_id, self._fields = job_id, line_fields(job_id)

    def emit(self, event: Event | Mapping[str, Any]) -> int:
        """Append one event and return its seq; on return it is durable.

        A mapping needs a `type`; what else it holds is written as it is.

        Raises:
            ValueError: a mapping without a `type`.
            EventLogError: it can't be encoded or written.
        """
        if not isinstance(event, Event) and not isinstance(event.get("type"), str):
            raise ValueError("an event needs a 'type', a string such as 'step.started'")
        return self.log.append(event)[0]

    # --- one method per event ------------------------------------------------------------------

    def job_started(self, **data: Any) -> int:
        """Emit `job.started`."""
        return self.emit({"type": "job.started", "data": data})

    def job_succeeded(self, **data: Any) -> int:
        """Emit `job.succeeded`."""
        return self.emit({"type": "job.succeeded", "data": data})

    def job_failed(self, **data: Any) -> int:
        """Emit `job.failed`."""
        return self.emit({"type": "job.failed", "level": "ERROR", "data": data})

    def step_started(self, step: str, **data: Any) -> int:
        """Emit `step.started`."""
        return self.emit({"type": "step.started", "step": step, "data": data})

    def step_succeeded(self, step: str, **data: Any) -> int:
        """Emit `step.succeeded`."""
        return self.emit({"type": "step.succeeded", "step": step, "data": data})

    def step_failed(self, step: str, **data: Any) -> int:
        """Emit `step.failed`."""
        return self.emit({"type": "step.failed", "level": "ERROR", "step": step, "data": data})

    def step_retrying(self, step: str, **data: Any) -> int:
        """Emit `step.retrying`."""
        return self.emit({"type": "step.retrying", "level": "WARN", "step": step, "data": data})

    def step_skipped(self, step: str, **data: Any) -> int:
        """Emit `step.skipped`."""
        return self.emit({"type": "step.skipped", "step": step, "data": data})

    def llm_request(self, step: str, **data: Any) -> int:
        """Emit `llm.request`."""
        return self.emit({"type": "llm.request", "step": step, "data": data})

    def llm_response(self, step: str, **data: Any) -> int:
        """Emit `llm.response`."""
        return self.emit({"type": "llm.response", "step": step, "data": data})

    def cache_hit(self, step: str, **data: Any) -> int:
        """Emit `cache.hit`."""
        return self.emit({"type": "cache.hit", "step": step, "data": data})

    def cache_miss(self, step: str, **data: Any) -> int:
        """Emit `cache.miss`."""
        return self.emit({"type": "cache.miss", "step": step, "data": data})

    def file_written(self, step: str, result: Mapping[str, Any]) -> int:
        """Emit `file.written` from what `FileStore.safe_write` returned."""
        names = ("sha256", "size_bytes", "wrote", "reason")
        data = {"path": os.fspath(result["path"]), **{name: result[name] for name in names}}
        return self.emit(ev.FileWritten(step=step, data=ev.Written(**data)))

    def close(self) -> None:
        """Let go of the log; the next event opens it again."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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
