"""What a person's request leads to: the events that record it, or why it is refused. Pure.

A request is for one moment: an approval for what was shown, a cancellation for a job that has
not ended. Whether it still fits is decided by who records it, under the job's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from . import events as ev
from .decisions import Decision, HandMade
from .errors import StepError
from .keys import encode_output, output_hash
from .plan import closing, cut_off
from .state import JobState
from .status import DONE, JobStatus, StepStatus

Keep = Callable[[Any, bytes], Any]
"""Returns what an event carries of an output: the value, or the reference of a durable blob."""


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody asks of a job, as it lies in its inbox/.

    Attributes:
        id: of this request and no other; it begins with when it was made.
        by: the account that made it.
        key: of what was shown, for an approval.
        note: the reason, for `set`.
        output: any JSON value, for `set`.
    """

    id: str
    kind: Literal["cancel", "approve", "reject", "set"]
    by: str
    step: str = ""
    key: str = ""
    note: str = ""
    output: Any = None
    schema_version: int = 0


class Refused(Exception):
    """A request does not fit the job's state; the text says why."""


def answer(state: JobState, request: Request, keep: Keep, *, live: bool) -> list[ev.JobEvent]:
    """Return the events that record a request.

    Args:
        state: now, under the job's lock.
        request: not recorded yet.
        keep: makes an output durable.
        live: whether a leg is under way, which sees to its own cancellation.

    Raises:
        Refused: it does not fit.
    """
    match request.kind:
        case "cancel":
            return _cancelled(state, request)
        case "approve" | "reject":
            return [_decided(state, request, keep)]
        case "set":
            return [_set(state, request, keep, live=live)]


def _cancelled(state: JobState, request: Request) -> list[ev.JobEvent]:
    """Return the end of a job that no process works on: what ran in it was cut off."""
    if state.status is JobStatus.NEW:
        raise Refused("the job has not begun")
    if state.finished and state.status is not JobStatus.WAITING:
        raise Refused(f"the job has ended already: {state.status}")
    reason = f"cancelled by {request.by}"
    lasted_s = state.open_leg_s  # as far as anybody knows
    ended = closing(state, JobStatus.CANCELLED, lasted_s, reason, by=request.by, request=request.id)
    return [*cut_off(state, crashed=True), *ended]


def _decided(state: JobState, request: Request, keep: Keep) -> ev.JobEvent:
    step = state.steps.get(request.step)
    if step is None or step.asked is None or step.status is not StepStatus.ASKING:
        raise Refused(f"step {request.step} does not wait for an approval")
    if step.asked.key != request.key:
        raise Refused(f"what step {request.step} shows has changed since: look at it again")
    decision = Decision(by=request.by, note=request.note, key=request.key, request=request.id)
    if request.kind == "reject":
        return ev.StepRejected(step=request.step, data=decision)
    output, digest = _kept({"approved": True, "by": request.by, "note": request.note}, keep)
    decision = msgspec.structs.replace(decision, output=output, output_sha256=digest)
    return ev.StepApproved(step=request.step, data=decision)


def _set(state: JobState, request: Request, keep: Keep, *, live: bool) -> ev.JobEvent:
    step = state.steps.get(request.step)
    if step is None:
        raise Refused(f"the job has no step {request.step}")
    decl = state.graph.steps.get(request.step)
    if decl is not None and decl.each:
        raise Refused(f"step {request.step} is made of items: set the result of an item")
    if live and step.status is StepStatus.EXPANDED:
        raise Refused(f"steps of {request.step} are under way: cancel the job first")
    if live and step.status is StepStatus.RUNNING:
        raise Refused(f"step {request.step} is running: cancel the job first")
    if live and (step.status in DONE or step.status in _SETTLED):
        raise Refused(
            f"step {request.step} has ended in this leg ({step.status}): wait for its end"
        )
    try:
        output, digest = _kept(request.output, keep)
    except StepError as error:
        raise Refused(error.message) from error
    data = HandMade(
        by=request.by,
        reason=request.note,
        output=output,
        output_sha256=digest,
        request=request.id,
    )
    return ev.StepSet(step=request.step, data=data)


_SETTLED = (StepStatus.FAILED, StepStatus.SKIPPED)


def _kept(output: Any, keep: Keep) -> tuple[Any, str]:
    encoded = encode_output("", output)
    return keep(output, encoded), output_hash(encoded, [])
