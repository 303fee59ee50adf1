"""Read a job's log back into its state."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from eventlog import (
    Decoder,
    EventInvalid,
    Line,
    Record,
    Rejected,
    UnknownEvent,
)
from eventlog.codec import said_sum
from eventlog.decode import Block
from eventlog.reader import as_dict, read_file
from eventlog.source import LogFile

from . import events as ev
from .blobs import BlobDamaged, BlobMissing, BlobStore
from .instances import joined
from .lenient import understand
from .state import JobState, evolve

_OURS = re.compile(rb'\{"seq":[0-9]+,"ts":"([^"\\]{1,40})","level":"[A-Z]+","job_id":"([^"\\]*)",')
"""How a sealed line begins that `journal.line_fields` had a part in."""


_OURS_EACH = re.compile(
    rb'\n\{"seq":[0-9]+,"ts":"[^"\\]{1,40}","level":"[A-Z]+","job_id":"([^"\\]*)",'
)
"""The same for each line of a block that a newline was put before: ten times as fast as `^`."""
_RESOLVED = frozenset((ev.JobStarted, ev.JobResumed, ev.StepExpanded))
_OF_STEPS = frozenset(
    kind for kind in get_args(ev.AnyJobEvent) if issubclass(kind, ev.StepEvent)
) - {ev.StepExpanded}


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
    with LogFile(log_path) as file:
        for record in read_file(file, decode.block, decode, rejected):
            if record is None:
                continue
            if up_to is not None and record.seq > up_to:
                return
            event = record.event
            kind = type(event)
            if kind in _OF_STEPS and event.item is msgspec.UNSET:  # nearly all
                yield record
                continue
            if kind in _RESOLVED:
                is_group = isinstance(event, ev.StepExpanded)
                member, of = ("items", str) if is_group else ("steps", ev.StepDecl)
                record = _resolve(record, member, of, blobs if graphs or is_group else None)  # noqa: PLW2901 - the same one
                event = record.event
            whole = joined(event)
            yield record if whole is event else msgspec.structs.replace(record, event=whole)


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
    """Turn a line into a record, or None for a blank one and another job's."""

    def __init__(self, job_id: str | None) -> None:
        self._job_id = job_id
        self._owners = None if job_id is None else (job_id.encode(), b"")
        self._event, self._decode = _decoders()

    def block(self, block: Block) -> list[Record[Any] | None] | None:
        """Return the records of a block whose lines are all ours, None where one may not be."""
        owners = _OURS_EACH.findall(b"\n" + block.raw)
        if len(owners) != block.raw.count(b"\n"):
            return None
        if self._owners is not None and not set(owners) <= set(self._owners):
            return None
        return self._decode.records(block)  # type: ignore[return-value]  # a wider list

    def __call__(self, line: Line) -> Record[Any] | None:
        if not line.raw.strip():
            return None
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
            found = msgspec.json.decode(blobs.get(ref), type=tuple[kind, ...])  # type: ignore[valid-type]  # made at run time
        except (BlobMissing, BlobDamaged, msgspec.DecodeError):
            found = ()
    data = msgspec.structs.replace(data, **{member: found})
    return msgspec.structs.replace(record, event=msgspec.structs.replace(record.event, data=data))
