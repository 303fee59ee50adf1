"""Read a job's log back into its state."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from eventlog import (
    Decoder,
    EventInvalid,
    EventLogError,
    Line,
    Record,
    Rejected,
    UnknownEvent,
    read_lines,
)
from eventlog.codec import said_sum
from eventlog.reader import as_dict

from . import events as ev
from .blobs import BlobDamaged, BlobMissing, BlobStore
from .instances import joined
from .lenient import understand
from .state import JobState, evolve

_OURS = re.compile(rb'\{"seq":[0-9]+,"ts":"([^"\\]{1,40})","level":"[A-Z]+","job_id":"([^"\\]*)",')
"""How a sealed line begins that `journal.line_fields` had a part in."""


def records(
    log_path: str | os.PathLike[str],
    blobs: BlobStore,
    *,
    job_id: str | None = None,
    up_to: int | None = None,
    rejected: list[Rejected] | None = None,
    graphs: bool = True,
) -> Iterator[Record[Any]]:
    """Yield a job's events, with the graph of a leg resolved if it was stored as a blob.

    A line whose data are not as its type declares them (any program may emit a `job.started`)
    is read as far as it fits, else it is an UnknownEvent. A leg whose graph is gone with its
    blob has no steps of its own.

    Args:
        log_path: the log.
        blobs: the job's artifacts.
        job_id: only lines of this job, for a log that holds several.
        up_to: the last seq to read.
        rejected: where to note lines that can't be read; without it the first one raises.
        graphs: False to leave every leg without steps of its own, which is all that a next leg
            needs to know of the earlier ones.

    Raises:
        EventLogError: the log can't be read.
    """
    decode = _Decode(job_id)
    for line in read_lines(log_path):
        if up_to is not None and line.seq > up_to:
            return
        if not line.raw.strip():
            continue
        try:
            record = decode(line)
        except EventLogError as error:
            if rejected is None:
                error.path = error.path or os.fspath(log_path)
                raise
            rejected.append(Rejected(line.seq, line.offset, str(error)))
            continue
        if record is not None:
            if isinstance(record.event, ev.JobStarted | ev.JobResumed):
                record = _resolve(record, "steps", ev.StepDecl, blobs if graphs else None)
            elif isinstance(record.event, ev.StepExpanded):
                record = _resolve(record, "items", str, blobs)
            event = joined(record.event)
            yield record if event is record.event else msgspec.structs.replace(record, event=event)


def fold_job(
    log_path: str | os.PathLike[str],
    blobs: BlobStore,
    *,
    job_id: str | None = None,
    up_to: int | None = None,
    rejected: list[Rejected] | None = None,
    graphs: bool = True,
) -> JobState:
    """Return the state that a log tells; arguments and errors are those of `records`."""
    state = JobState(job_id=job_id or "")
    for record in records(
        log_path, blobs, job_id=job_id, up_to=up_to, rejected=rejected, graphs=graphs
    ):
        evolve(state, record)
    return state


@functools.cache
def _decoders() -> tuple[msgspec.json.Decoder[Any], Decoder[Any]]:
    """Return what decodes the events of any job: to make it takes as long as to read one."""
    return msgspec.json.Decoder(ev.AnyJobEvent), Decoder(ev.AnyJobEvent)


class _Decode:
    """Turn a line into a record, or None for another job's."""

    def __init__(self, job_id: str | None) -> None:
        self._job_id = job_id
        self._owners = None if job_id is None else (job_id.encode(), b"")
        self._event, self._decode = _decoders()

    def __call__(self, line: Line) -> Record[Any] | None:
        head = _OURS.match(line.raw)
        if head is None or not line.sealed:
            return self._any(line)
        if self._owners is not None and head[2] not in self._owners:
            return None
        try:
            event = self._event.decode(line.raw)
        except (msgspec.DecodeError, RecursionError):  # of another type, to begin with
            return self._any(line)
        return Record(
            seq=line.seq,
            ts=head[1].decode(),
            event=event,
            offset=line.offset,
            sum=said_sum(line.raw),
        )

    def _any(self, line: Line) -> Record[Any] | None:
        value: dict[str, Any] = {}
        try:
            if self._job_id is not None:
                value = as_dict(line)
                if value.get("job_id", "") not in (self._job_id, ""):
                    return None
            return self._decode(line)
        except EventInvalid:
            value = value or as_dict(line)
            if not isinstance(value.get("type"), str):
                raise
            event = understand(value) or UnknownEvent(type=value["type"], data=value.get("data"))
            ts = str(value.get("ts", ""))
            return Record(seq=line.seq, ts=ts, event=event, offset=line.offset)


def _resolve(record: Record[Any], member: str, kind: type, blobs: BlobStore | None) -> Record[Any]:
    """Put a leg's graph, or a group's items, where a reference to them stands."""
    data = record.event.data
    found: tuple[Any, ...] = ()
    if blobs is not None:
        ref = getattr(data, member)
        if not isinstance(ref, ev.BlobRef):
            return record
        try:
            found = msgspec.json.decode(blobs.get(ref), type=tuple[kind, ...])  # type: ignore[valid-type]
        except (BlobMissing, BlobDamaged, msgspec.DecodeError):
            found = ()
    data = msgspec.structs.replace(data, **{member: found})
    return msgspec.structs.replace(record, event=msgspec.structs.replace(record.event, data=data))
