"""What the events of a job carry: one struct for the `data` of each. Pure.

Field names that logs of earlier versions use stay as they are. Every field has a default, so
that a log that lacks it can still be folded; a default is a value that never occurs, because
defaults are not written.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .budget import Budget


class BlobRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
        inside: the step whose job file it stands in; empty for a step of the job's own file.
    """

    id: str
    kind: str
    needs: tuple[str, ...] = ()
    each: bool = False
    """Whether it is a group: expanded into one instance an item when its needs are met."""
    regardless: bool = False
    last: bool = False
    continue_on_error: bool = False
    inside: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why a step failed, as told at the end of a job."""

    step: str
    kind: str
    message: str
    hint: str = ""
    attempt: int = 0


class Parent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The job that a job was forked from, and how far its log had come."""

    job_id: str
    seq: int
    sum: str = ""
    from_step: str = ""


class Started(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
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
    keep_going: bool = False
    budget: Budget | None = None
    parent: Parent | None = None
    models: dict[str, str] = {}
    """What `model: auto` came to, by provider (and address, where the spec says one)."""
    limits: dict[str, int] = {}
    """Steps of a kind that run at once."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
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


class StepStart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An attempt, as it was handed out; `parts` are hashes of what the key consists of."""

    attempt: int = 0
    kind: str = ""
    needs: tuple[str, ...] = ()
    key: str = ""
    parts: dict[str, str] = {}
    idempotency_key: str = ""


class Expanded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Which items a group has, by their identities, in the order of its list.

    `max_parallel` is 0 for no limit but the job's own. A step that runs another job file has no
    items, but `steps`: how many stand in that file.
    """

    items: tuple[str, ...] | BlobRef = ()
    max_parallel: int = 0
    max_failures: int = 0
    steps: int = 0


class StepEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An attempt's result. `output` is any JSON value or a BlobRef's object."""

    attempt: int = 0
    duration_s: float = 0.0
    output: Any = None
    output_sha256: str = ""
    files: tuple[FileRef, ...] = ()
    key: str = ""


class StepFault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why an attempt failed; `retry_in_s` where another one follows."""

    attempt: int = 0
    kind: str = ""
    message: str = ""
    hint: str = ""
    duration_s: float = 0.0
    retry_in_s: float | None = None
    abandoned: bool = False


class Skip(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
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


class Adopted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A result of the job that this one was forked from; `by` if it was given by hand.

    `order` is that in which its key counts the step's needs, if they stand in another one.
    """

    key: str = ""
    output: Any = None
    output_sha256: str = ""
    files: tuple[FileRef, ...] = ()
    duration_s: float = 0.0
    by: str = ""
    from_job: str = ""
    from_seq: int | None = None
    order: tuple[str, ...] = ()


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was found about an earlier attempt or result.

    `from_step` is the step's name at that time, if it has another one now, and
    `idempotency_key` what that attempt was given. `crashed` says that its process ended, where
    no later leg's begin does.
    """

    reason: str = ""
    attempt: int = 0
    from_step: str = ""
    crashed: bool = False
    idempotency_key: str = ""


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A call of a model that is about to be made; its request's blob is durable by its end.

    `waited_s` passed before it, in no way its work, for want of what `waited_for` names:
    `concurrency`, `rate`, `breaker` or `retry_after`. `mends` tells what was wrong with the answer
    before, where this call asks for a better one; that is kept under `kept_as`, the key of the
    first call.
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
    kept_as: str = ""
    reserved_tokens: int | None = None
    """With `reserved_usd`: what a budget keeps for it, which it may take at most."""
    reserved_usd: str | None = None
    simulated: bool = False


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
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


class Exceeded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why a call was not made: `spent` and what it `needed` at most are over what is `allowed`.

    Plain decimal numbers; `limit` is `calls`, `tokens` or `cost_usd`.
    """

    limit: str = ""
    allowed: str = ""
    spent: str = ""
    needed: str = ""


class CacheHitData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
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


class CacheMissData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An answer that was not there; `reason` is `first` or names what differs."""

    cache_key: str = ""
    provider: str = ""
    model: str = ""
    reason: str = ""
    nearest: str = ""


class Written(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A file that was published to outputs/."""

    path: str = ""
    sha256: str = ""
    size_bytes: int | None = None
    wrote: bool | None = None
    reason: str = ""
    media_type: str = ""


class Artifact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A blob that was stored."""

    sha256: str = ""
    size_bytes: int | None = None
    media_type: str = ""
    name: str = ""
