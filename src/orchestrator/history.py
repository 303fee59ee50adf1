"""Read a job's log back into its state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from eventlog import Decoder, EventLogError, Line, Record, Rejected, read_lines

from . import events as ev
from .blobs import BlobStore
from .state import JobState, evolve


class _Owner(msgspec.Struct):
    job_id: str = ""


def records(
    log_path: str | os.PathLike[str],
    blobs: BlobStore,
    *,
    job_id: str | None = None,
    up_to: int | None = None,
    rejected: list[Rejected] | None = None,
) -> Iterator[Record[Any]]:
    """Yield a job's events, with the graph of a leg resolved if it was stored as a blob.

    Args:
        log_path: the log.
        blobs: the job's artifacts.
        job_id: only lines of this job, for a log that holds several.
        up_to: the last seq to read.
        rejected: where to note lines that can't be read; without it the first one raises.

    Raises:
        EventLogError: the log can't be read.
    """
    decode: Decoder[Any] = Decoder(ev.AnyJobEvent)
    owner = msgspec.json.Decoder(_Owner)
    for line in read_lines(log_path):
        if up_to is not None and line.seq > up_to:
            return
        if not line.raw.strip():
            continue
        try:
            if job_id is not None and owner.decode(line.raw).job_id not in (job_id, ""):
                continue
            yield _resolve(decode(line), blobs)
        except (EventLogError, msgspec.DecodeError) as error:
            if rejected is None:
                raise _at(error, line, log_path) from error
            rejected.append(Rejected(line.seq, line.offset, str(error)))


def fold_job(
    log_path: str | os.PathLike[str],
    blobs: BlobStore,
    *,
    job_id: str | None = None,
    up_to: int | None = None,
    rejected: list[Rejected] | None = None,
) -> JobState:
    """Return the state that a log tells; arguments and errors are those of `records`."""
    state = JobState(job_id=job_id or "")
    for record in records(log_path, blobs, job_id=job_id, up_to=up_to, rejected=rejected):
        evolve(state, record)
    return state


def _resolve(record: Record[Any], blobs: BlobStore) -> Record[Any]:
    event = record.event
    if not isinstance(event, ev.JobStarted | ev.JobResumed):
        return record
    if not isinstance(event.data.steps, ev.BlobRef):
        return record
    steps = msgspec.json.decode(blobs.get(event.data.steps), type=tuple[ev.StepDecl, ...])
    data = msgspec.structs.replace(event.data, steps=steps)
    return msgspec.structs.replace(record, event=msgspec.structs.replace(event, data=data))


def _at(error: Exception, line: Line, log_path: str | os.PathLike[str]) -> EventLogError:
    if isinstance(error, EventLogError):
        error.path = error.path or os.fspath(log_path)
        return error
    return EventLogError(
        f"the line can't be read: {error}",
        path=os.fspath(log_path),
        seq=line.seq,
        offset=line.offset,
    )
