"""All that can happen in a job: one union of past facts.

Whatever a command says about a job follows from these events alone. The tags are written by
hand: renaming a class must not break a log. What an event carries is in `payloads`, whose
names are found here too.

On disk each event is one line (see `eventlog.codec`); `level` and `job_id` are added there
for the reader, they follow from the event's type and from the log.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from eventlog import Event, LogOpened, LogRecovered

from .decisions import Decision, HandMade, Shown
from .payloads import (
    Adopted,
    Answered,
    Artifact,
    Asked,
    BlobRef,
    CacheHitData,
    CacheMissData,
    Ended,
    Exceeded,
    Expanded,
    Failure,
    FileRef,
    Note,
    Parent,
    Skip,
    Started,
    StepDecl,
    StepEnd,
    StepFault,
    StepStart,
    Written,
)


class JobEvent(Event, frozen=True, kw_only=True, gc=False):
    """Base of the events of a job.

    They hold JSON values and are in no cycle: the garbage collector, which would walk thousands
    of them while a log is read, need not know of them (`gc=False`, as for what they carry).
    """


class JobStarted(JobEvent, frozen=True, kw_only=True, tag="job.started"):
    """The job began."""

    data: Started = Started()


class JobResumed(JobEvent, frozen=True, kw_only=True, tag="job.resumed"):
    """A later leg took the job up again, even a finished one."""

    data: Started = Started()


class JobSucceeded(JobEvent, frozen=True, kw_only=True, tag="job.succeeded"):
    """Every step has succeeded."""

    data: Ended = Ended()


class JobFailed(JobEvent, frozen=True, kw_only=True, tag="job.failed"):
    """At least one step failed and nothing more can be done."""

    data: Ended = Ended()


class JobCancelled(JobEvent, frozen=True, kw_only=True, tag="job.cancelled"):
    """The leg was told to stop."""

    data: Ended = Ended()


class JobWaiting(JobEvent, frozen=True, kw_only=True, tag="job.waiting"):
    """The leg ended because nothing more can be done until somebody has approved."""

    data: Ended = Ended()


class StepEvent(JobEvent, frozen=True, kw_only=True):
    """Base of the events of a step; `step` is its name in the spec.

    `item` is the identity of an instance of a `for_each` or `matrix`, and stands in lines only:
    in memory an instance is `step[item]`, see `instances`.
    """

    step: str
    item: str | msgspec.UnsetType = msgspec.UNSET


class StepStarted(StepEvent, frozen=True, kw_only=True, tag="step.started"):
    """An attempt was handed to its executor; its outcome is not known yet."""

    data: StepStart = StepStart()


class StepExpanded(StepEvent, frozen=True, kw_only=True, tag="step.expanded"):
    """A group's items are known: each of them is a step instance of its own from now on."""

    data: Expanded = Expanded()


class StepSucceeded(StepEvent, frozen=True, kw_only=True, tag="step.succeeded"):
    """An attempt brought a result; its blobs and files were durable before."""

    data: StepEnd = StepEnd()


class StepFailed(StepEvent, frozen=True, kw_only=True, tag="step.failed"):
    """The last attempt failed; the step is not tried again in this leg."""

    data: StepFault = StepFault()


class StepRetrying(StepEvent, frozen=True, kw_only=True, tag="step.retrying"):
    """An attempt failed and another one will follow."""

    data: StepFault = StepFault()


class StepSkipped(StepEvent, frozen=True, kw_only=True, tag="step.skipped"):
    """A step was not run, and why."""

    data: Skip = Skip()


class StepInterrupted(StepEvent, frozen=True, kw_only=True, tag="step.interrupted"):
    """An attempt was cut off: its leg ended without an outcome."""

    data: Note = Note()


class StepInvalidated(StepEvent, frozen=True, kw_only=True, tag="step.invalidated"):
    """An earlier success no longer holds: a blob or a file is gone or changed."""

    data: Note = Note()


class StepAdopted(StepEvent, frozen=True, kw_only=True, tag="step.adopted"):
    """A result of the parent was taken over; whether it holds is decided like any earlier one's."""

    data: Adopted = Adopted()


class StepWaiting(StepEvent, frozen=True, kw_only=True, tag="step.waiting"):
    """Somebody is asked to approve."""

    data: Shown = Shown()


class StepApproved(StepEvent, frozen=True, kw_only=True, tag="step.approved"):
    """Somebody approved what was shown: the step has succeeded."""

    data: Decision = Decision()


class StepRejected(StepEvent, frozen=True, kw_only=True, tag="step.rejected"):
    """Somebody rejected what was shown: the step has failed."""

    data: Decision = Decision()


class StepSet(StepEvent, frozen=True, kw_only=True, tag="step.set"):
    """Somebody gave the step's result by hand."""

    data: HandMade = HandMade()


class LLMRequest(StepEvent, frozen=True, kw_only=True, tag="llm.request"):
    """A model is about to be called."""

    data: Asked = Asked()


class LLMResponse(StepEvent, frozen=True, kw_only=True, tag="llm.response"):
    """A call of a model ended, well or badly."""

    data: Answered = Answered()


class BudgetExceeded(StepEvent, frozen=True, kw_only=True, tag="budget.exceeded"):
    """A call was not made: it could have passed the job's budget."""

    data: Exceeded = Exceeded()


class CacheHit(StepEvent, frozen=True, kw_only=True, tag="cache.hit"):
    """An answer was taken from the cache: no call was made."""

    data: CacheHitData = CacheHitData()


class CacheMiss(StepEvent, frozen=True, kw_only=True, tag="cache.miss"):
    """An answer was not in the cache."""

    data: CacheMissData = CacheMissData()


class FileWritten(StepEvent, frozen=True, kw_only=True, tag="file.written"):
    """A file was published to outputs/."""

    data: Written = Written()


class ArtifactCreated(StepEvent, frozen=True, kw_only=True, tag="artifact.created"):
    """A blob was stored in artifacts/."""

    data: Artifact = Artifact()


AnyJobEvent = (
    JobStarted
    | JobResumed
    | JobSucceeded
    | JobFailed
    | JobCancelled
    | JobWaiting
    | StepStarted
    | StepExpanded
    | StepSucceeded
    | StepFailed
    | StepRetrying
    | StepSkipped
    | StepInterrupted
    | StepInvalidated
    | StepAdopted
    | StepWaiting
    | StepApproved
    | StepRejected
    | StepSet
    | LLMRequest
    | LLMResponse
    | BudgetExceeded
    | CacheHit
    | CacheMiss
    | FileWritten
    | ArtifactCreated
    | LogOpened
    | LogRecovered
)

Level = Literal["INFO", "WARN", "ERROR"]

_LEVELS: dict[str, Level] = {
    "step.failed": "ERROR",
    "step.rejected": "ERROR",
    "job.failed": "ERROR",
    "step.retrying": "WARN",
    "budget.exceeded": "WARN",
    "step.interrupted": "WARN",
    "step.invalidated": "WARN",
    "log.recovered": "WARN",
}
"""Of the types whose lines are not INFO."""


def level_of(event: Event) -> Level:
    """Return the level that a line of this event carries."""
    if isinstance(event, LLMResponse) and event.data.success is False:
        return "WARN"
    return level_of_type(event.__struct_config__.tag)


def level_of_type(name: object) -> Level:
    """Return the level of a line of this type, where only the type is known."""
    return _LEVELS.get(name, "INFO") if isinstance(name, str) else "INFO"


__all__ = [
    "Adopted",
    "Answered",
    "AnyJobEvent",
    "Artifact",
    "ArtifactCreated",
    "Asked",
    "BlobRef",
    "BudgetExceeded",
    "CacheHit",
    "CacheHitData",
    "CacheMiss",
    "CacheMissData",
    "Ended",
    "Exceeded",
    "Expanded",
    "Failure",
    "FileRef",
    "FileWritten",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobResumed",
    "JobStarted",
    "JobSucceeded",
    "JobWaiting",
    "LLMRequest",
    "LLMResponse",
    "Level",
    "Note",
    "Parent",
    "Skip",
    "Started",
    "StepAdopted",
    "StepApproved",
    "StepDecl",
    "StepEnd",
    "StepEvent",
    "StepExpanded",
    "StepFailed",
    "StepFault",
    "StepInterrupted",
    "StepInvalidated",
    "StepRejected",
    "StepRetrying",
    "StepSet",
    "StepSkipped",
    "StepStart",
    "StepStarted",
    "StepSucceeded",
    "StepWaiting",
    "Written",
    "level_of",
    "level_of_type",
]
