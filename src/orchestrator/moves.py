"""What each event of a step does to the state: the moves from one status to the next. Pure.

The functions are named as the events are; `state.evolve` calls them.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

import msgspec

from . import events as ev
from .decisions import Decision, HandMade, Shown
from .errors import FailureKind
from .instances import base_of
from .lanes import chosen
from .leg import doubted, seconds_between
from .nest import borne_around
from .older import given_by
from .readiness import settle, wait_no_more
from .status import SETTLED, StepState, StepStatus, Success

if TYPE_CHECKING:
    from eventlog import Record

    from .state import JobState


def started(state: JobState, name: str, data: ev.StepStart, ts: str) -> None:
    """Take in that an attempt was handed out."""
    step = state.steps.get(name) or state.step(name)
    chosen(state, name)
    if step.status is not StepStatus.PENDING:
        if step.status is StepStatus.WAITING:
            wait_no_more(state, name)
        if step.status in SETTLED:  # another writer's log: ours starts no step twice in a leg
            state.open_steps += 1
    if state.held >= 0:  # else all that is not `last` has settled, or nothing is
        state.begun = True
    state.running[name] = data.key
    step.status = StepStatus.RUNNING
    step.attempt = data.attempt or step.attempt + 1
    step.tries += 1
    step.started_at = ts
    step.kind = data.kind or step.kind


def _worked(state: JobState, step: StepState, said_s: float, ts: str) -> float:
    """Count an attempt's seconds and return them; an old log's stamps tell what it did not."""
    duration_s = said_s or seconds_between(step.started_at, ts)
    state.totals.work_s += duration_s
    # The first attempt's own number, not an equal one: a float less for each step.
    step.work_s = step.work_s + duration_s if step.work_s else duration_s
    return duration_s


def succeeded(state: JobState, name: str, data: ev.StepEnd, record: Record[Any]) -> None:
    """Take in an attempt's result."""
    step = state.steps.get(name) or state.step(name)
    duration_s = _worked(state, step, data.duration_s, record.ts)
    success = Success(
        step=name,
        seq=record.seq,
        key=data.key,
        output=data.output,
        output_sha256=data.output_sha256,
        files=data.files,
        duration_s=duration_s,
        by=given_by(data, record.sum),
    )
    _done(state, name, step, StepStatus.SUCCEEDED, success)


def failed(state: JobState, name: str, data: ev.StepFault, ts: str) -> None:
    """Take in that a step is not tried again, and whose failure that is."""
    step = state.step(name)
    state.running.pop(name, None)
    chosen(state, name)
    state.asking.pop(name, None)
    if step.status is StepStatus.WAITING:  # its attempt has been counted
        wait_no_more(state, name)
    else:
        _worked(state, step, data.duration_s, ts)
    already = step.status in SETTLED
    step.status, step.fault = StepStatus.FAILED, data
    if data.kind != FailureKind.INTERRUPTED:
        step.crashes = 0
    decl = state.graph.steps.get(name) or state.graph.steps.get(base_of(name))
    borne = decl is not None and decl.continue_on_error
    if not already and settle(state, name, lacking=not borne, failed=True):
        return  # its group can bear it
    (state.tolerated if borne or borne_around(state, decl) else state.failures).append(
        ev.Failure(
            step=name,
            kind=data.kind,
            message=data.message,
            hint=data.hint,
            attempt=data.attempt,
        )
    )


def retrying(state: JobState, name: str, data: ev.StepFault, ts: str, at_s: float) -> None:
    """Take in that an attempt failed and another one will follow."""
    step = state.step(name)
    state.running.pop(name, None)
    step.status, step.fault, step.crashes = StepStatus.WAITING, data, 0
    _worked(state, step, data.duration_s, ts)
    heapq.heappush(state.retries, (at_s + (data.retry_in_s or 0.0), name))


def interrupted(state: JobState, name: str, data: ev.Note) -> None:
    """Take in that an attempt was cut off: by a crash, if its leg had left it open."""
    if data.from_step:
        _inherit(state, name, data.from_step)
        return
    crashed = state.cut_off.pop(name, None) is not None or data.crashed
    doubted(state, name, state.running.pop(name, ""))
    # An instance is no step of this leg before its group is expanded, nor is a step that left
    # the spec.
    step = state.steps.get(name) or state.former.get(name)
    if step is None:
        return
    step.interrupted += 1
    step.cut, step.gone = step.attempt, False
    step.crashes += crashed
    if step.status is StepStatus.RUNNING:
        step.status = StepStatus.INTERRUPTED


def _inherit(state: JobState, name: str, former: str) -> None:
    """Take in that a step is one whose last attempt was cut off, under another name."""
    earlier = state.former.pop(former, None)
    if earlier is None:
        return
    step = state.step(name)
    step.attempt = max(step.attempt, earlier.attempt)
    step.cut, step.gone = step.attempt, earlier.gone
    step.interrupted += earlier.interrupted
    step.crashes = earlier.crashes
    step.work_s += earlier.work_s
    state.renamed[name] = state.renamed.pop(former, former)
    for names in state.doubts.values():
        if former in names:
            names[name] = None


def invalidated(state: JobState, name: str) -> None:
    """Take in that an earlier result can't be used any more: what made it has been done."""
    state.past.pop(name, None)
    step = state.steps.get(name)
    if step is not None and step.attempt:
        step.cut, step.gone = step.attempt, True


def skipped(state: JobState, name: str, data: ev.Skip) -> None:
    """Take in that a step was not run, for an earlier success or for none."""
    step = state.step(name)
    step.reason, step.because = data.reason, data.because
    source = data.from_step
    # Without a source the step was not run at all: an earlier success stays for a later leg.
    success = state.past.pop(source, None) if source else None
    if success is None:
        chosen(state, name)
        if step.status is StepStatus.WAITING:
            wait_no_more(state, name)
        if step.status not in SETTLED:
            step.status = StepStatus.SKIPPED
            settle(state, name, lacking=True)
        return
    if success.key in state.gone and source in state.gone[success.key]:
        state.gone[success.key].remove(source)
    if success.step != name:
        success = msgspec.structs.replace(success, step=name)
    _done(state, name, step, StepStatus.REUSED, success)


def waiting(state: JobState, name: str, data: Shown) -> None:
    """Take in what somebody is asked to approve."""
    step = state.step(name)
    chosen(state, name)
    state.asking[name] = None
    step.status, step.asked, step.kind = StepStatus.ASKING, data, "approve"


def approved(state: JobState, name: str, data: Decision, seq: int) -> None:
    """Take in that somebody approved what was shown."""
    state.requests.add(data.request)
    success = Success(
        step=name, seq=seq, key=data.key, output=data.output, output_sha256=data.output_sha256
    )
    _done(state, name, state.step(name), StepStatus.SUCCEEDED, success)


def rejected(state: JobState, name: str, data: Decision, ts: str) -> None:
    """Take in that somebody rejected what was shown."""
    state.requests.add(data.request)
    state.refused[name] = data
    failed(state, name, rejection(data), ts)


def rejection(said: Decision) -> ev.StepFault:
    """Return the failure of a step that somebody has rejected."""
    by = f"rejected by {said.by}"
    return ev.StepFault(
        kind=FailureKind.REJECTED,
        message=f"{by}: {said.note}" if said.note else by,
        hint="resuming asks again",
    )


def set_by_hand(state: JobState, name: str, data: HandMade, seq: int) -> None:
    """Take in a result that somebody gave; the step's failure is none any more."""
    state.requests.add(data.request)
    step = state.step(name)
    if step.status is StepStatus.WAITING:
        wait_no_more(state, name)
    state.failures = [failure for failure in state.failures if failure.step != name]
    state.tolerated = [failure for failure in state.tolerated if failure.step != name]
    success = Success(
        step=name,
        seq=seq,
        key="",
        output=data.output,
        output_sha256=data.output_sha256,
        by=data.by,
    )
    _done(state, name, step, StepStatus.SUCCEEDED, success)
    step.reason = f"set by {data.by}: {data.reason}"


def _done(
    state: JobState, name: str, step: StepState, status: StepStatus, success: Success
) -> None:
    """Record a result."""
    already = False
    if step.status is StepStatus.RUNNING:
        state.running.pop(name, None)
    else:
        chosen(state, name)
        state.asking.pop(name, None)
        already = step.status in SETTLED
    step.status, step.success, step.fault = status, success, None
    if step.crashes:
        step.crashes = 0
    for file in success.files:
        state.files[file.path] = file
        state.published[file.path] = name
    if not already:
        settle(state, name)
