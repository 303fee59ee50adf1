"""All that can happen in a job: one union of past facts.

Whatever a command says about a job follows from these events alone. The tags are written by
hand: renaming a class must not break a log. Field names that logs of earlier versions use
stay as they are. Every payload field has a default, so that a log that lacks it can still be
folded; a default is a value that never occurs, because defaults are not written.

On disk each event is one line (see `eventlog.codec`); `level` and `job_id` are added there
for the reader, they follow from the event's type and from the log.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from eventlog import Event, LogOpened, LogRecovered

from .budget import Budget
from .decisions import Decision, HandMade, Shown

# --- values -----------------------------------------------------------------------------------


class BlobRef(msgspec.Struct, frozen=True, kw_only=True):
    """A payload too large for a line: stored under its SHA-256 in `artifacts/`."""

    blob: str = msgspec.field(name="$blob")
    """`sha256:` and 64 hex digits."""
    bytes: int


class FileRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file that a step published: `path` is relative to `outputs/`."""

    path: str
    sha256: str
    size_bytes: int
    media_type: str


class StepDecl(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A step as the graph knows it.

    Attributes:
        regardless: it is looked at whatever became of its needs, and in a job that has failed:
            its own condition says whether it runs.
        last: it comes when all steps that are not `last` have settled, whatever happened.
        continue_on_error: its failure is none of the job's, and what needs it goes on.
    """

    id: str
    kind: str
    needs: tuple[str, ...] = ()
    each: bool = False
    """Whether it is a group: expanded into one instance an item when its needs are met."""
    regardless: bool = False
    last: bool = False
    continue_on_error: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a step failed, as told at the end of a job."""

    step: str
    kind: str
    message: str
    hint: str = ""
    attempt: int = 0


class Parent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The job that a job was forked from, and how far its log had come."""

    job_id: str
    seq: int
    sum: str = ""
    from_step: str = ""


# --- payloads ---------------------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a leg set out to do."""

    project: str = ""
    steps: tuple[StepDecl, ...] | BlobRef = ()
    spec_path: str = ""
    record: str = ""
    """`hashes` where no text of prompts and answers is kept."""
    spec_sha256: str = ""
    inputs: str = ""
    """The folder below `inputs/` that holds the frozen spec and the files it names."""
    name: str = ""
    provider: str = ""
    model: str = ""
    concurrency: int = 0
    timeout_s: float | None = None
    version: str = ""
    given: dict[str, Any] = {}
    """Values of the spec's inputs that were given from outside."""
    overrides: dict[str, str] = {}
    """`provider`, `model` and `max_cost` that were given in place of the spec's."""
    budget: Budget | None = None
    parent: Parent | None = None
    models: dict[str, str] = {}
    """What `model: auto` came to, by provider (and address, where the spec says one)."""
    limits: dict[str, int] = {}
    """Steps of a kind that run at once."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a leg ended; `duration_s` is this leg's, by the monotonic clock.

    `tolerated` are the failures of steps with `continue_on_error`. `outputs` are the job's own: a
    JSON value, or a BlobRef's object for a large one. A failure without a step is theirs.
    """

    duration_s: float = 0.0
    failures: tuple[Failure, ...] = ()
    tolerated: tuple[Failure, ...] = ()
    outputs: Any = None
    reason: str = ""
    by: str = ""
    """Who asked for it, if it was a person."""
    request: str = ""


class StepStart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt, as it was handed out; `parts` are hashes of what the key consists of."""

    attempt: int = 0
    kind: str = ""
    needs: tuple[str, ...] = ()
    key: str = ""
    parts: dict[str, str] = {}
    idempotency_key: str = ""


class Expanded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which items a group has, by their identities, in the order of its list.

    `max_parallel` is 0 for no limit but the job's own.
    """

    items: tuple[str, ...] | BlobRef = ()
    max_parallel: int = 0
    max_failures: int = 0


class StepEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt's result. `output` is any JSON value or a BlobRef's object."""

    attempt: int = 0
    duration_s: float = 0.0
    output: Any = None
    output_sha256: str = ""
    files: tuple[FileRef, ...] = ()
    key: str = ""


class StepFault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an attempt failed; `retry_in_s` where another one follows."""

    attempt: int = 0
    kind: str = ""
    message: str = ""
    hint: str = ""
    duration_s: float = 0.0
    retry_in_s: float | None = None
    abandoned: bool = False


class Skip(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a step was not run.

    `reason` is `already succeeded` (its result is taken from `from_step`, recorded at
    `from_seq`), or tells which need did not succeed (`because` names the step it all began
    with), or that its `condition` is false.
    """

    reason: str = ""
    because: str = ""
    condition: str = ""
    key: str = ""
    from_step: str = ""
    from_seq: int | None = None
    output_sha256: str = ""


class Adopted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A result of the job that this one was forked from; `by` if it was given by hand."""

    key: str = ""
    output: Any = None
    output_sha256: str = ""
    files: tuple[FileRef, ...] = ()
    duration_s: float = 0.0
    by: str = ""
    from_job: str = ""
    from_seq: int | None = None


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found about an earlier attempt or result."""

    reason: str = ""
    attempt: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call of a model that is about to be made; its request's blob is durable by its end.

    `waited_s` passed before it, in no way its work, for want of what `waited_for` names:
    `concurrency`, `rate`, `breaker` or `retry_after`. `mends` tells what was wrong with the answer
    before, where this call asks for a better one.
    """

    provider: str = ""
    model: str = ""
    cache_key: str = ""
    attempt: int = 0
    base_url: str = ""
    request: BlobRef | None = None
    waited_s: float | None = None
    waited_for: str = ""
    mends: str = ""
    reserved_tokens: int | None = None
    """With `reserved_usd`: what a budget keeps for it, which it may take at most."""
    reserved_usd: str | None = None
    simulated: bool = False


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a call ended; tokens only as the provider counted them."""

    provider: str = ""
    model: str = ""
    duration_s: float = 0.0
    success: bool | None = None
    cache_key: str = ""
    attempt: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cache_read: int | None = None
    tokens_cache_write: int | None = None
    tokens_reasoning: int | None = None
    stop_reason: str | None = None
    response_model: str = ""
    """What answered, where it calls itself something else than `model`."""
    request_id: str | None = None
    response: BlobRef | None = None
    cost_usd: str | None = None
    """An exact decimal; None where a price or a count is not known."""
    prices: str = ""
    """The table that `cost_usd` comes from."""
    adopted: bool = False
    """The process died between the answer and its record; the answer was in the cache."""
    kind: str = ""
    message: str = ""
    simulated: bool = False


class Exceeded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a call was not made: `spent` and what it `needed` at most are over what is `allowed`.

    Plain decimal numbers; `limit` is `calls`, `tokens` or `cost_usd`.
    """

    limit: str = ""
    allowed: str = ""
    spent: str = ""
    needed: str = ""


class CacheHitData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer that was there; `from_job` and `from_seq` name who paid for it."""

    cache_key: str = ""
    provider: str = ""
    model: str = ""
    from_job: str = ""
    from_seq: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    base_url: str = ""
    saved_s: float | None = None
    saved_usd: str | None = None
    """What the call would have cost, an exact decimal; None where that is not known."""
    simulated: bool = False


class CacheMissData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer that was not there; `reason` is `first` or names what differs."""

    cache_key: str = ""
    provider: str = ""
    model: str = ""
    reason: str = ""
    nearest: str = ""


class Written(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that was published to outputs/."""

    path: str = ""
    sha256: str = ""
    size_bytes: int | None = None
    wrote: bool | None = None
    reason: str = ""
    media_type: str = ""


class Artifact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A blob that was stored."""

    sha256: str = ""
    size_bytes: int | None = None
    media_type: str = ""
    name: str = ""


# --- events -----------------------------------------------------------------------------------


class JobEvent(Event, frozen=True, kw_only=True):
    """Base of the events of a job."""


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
