"""What to do next: decisions over a job's state, without doing any of it. Pure."""

from __future__ import annotations

import heapq
from itertools import chain, islice
from typing import Any

import msgspec

from . import events as ev
from . import nest
from .fan import broken
from .instances import base_of
from .lanes import within
from .state import DONE, JobState, JobStatus, StepStatus, Success

TOLD = 100
"""Failures that the end of a job repeats; each is in its own `step.failed`."""
TOLD_TEXT = 500


_OPEN = (StepStatus.PENDING, StepStatus.WAITING, StepStatus.EXPANDED)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner does now.

    Attributes:
        drops: steps that will not be looked at any more, because the job has stopped.
        starts: steps to prepare and start, or to skip, in this order.
        verdict: how the leg ends, if nothing is left to do.
        wake_after_s: when to ask again if nothing happens until then; None: only then.
    """

    drops: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    verdict: JobStatus | None = None
    wake_after_s: float | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the leg.

    Attributes:
        concurrency: how many steps run at once.
        keep_going: whether to go on after a failure with what does not need the failed step.
        on_interrupted: what the user says of steps with `effects: once` that were cut off:
            `rerun`, `skip` or `fail`; empty for nothing.
        over: why nothing more is begun but what runs regardless; empty while it is.
    """

    concurrency: int = 4
    keep_going: bool = False
    on_interrupted: str = ""
    over: str = ""


def decide(state: JobState, now_s: float, policy: Policy) -> Plan:
    """Return what to do in this state at the monotonic second `now_s`."""
    stopped = policy.over or (state.failures and not policy.keep_going)
    if stopped and (drops := _dropped(state)):
        return Plan(drops=drops)
    free = policy.concurrency - len(state.running)
    if state.lanes and state.started is not None:
        starts, later_s = within(state, now_s, free, state.started.limits)
        if starts:
            return Plan(starts=starts)
        if state.running or state.retries:
            return Plan(wake_after_s=None if later_s is None else later_s - now_s)
        return _ending(state, policy, stopped=bool(stopped))
    due = _due(state.retries, now_s, free)
    ready = chain(state.regardless, state.ready) if state.regardless else state.ready
    starts = (*due, *islice(ready, max(free - len(due), 0)))
    if starts:
        return Plan(starts=starts)
    if state.running or state.retries:
        later = state.retries and free > 0
        return Plan(wake_after_s=max(state.retries[0][0] - now_s, 0.0) if later else None)
    return _ending(state, policy, stopped=bool(stopped))


def _ending(state: JobState, policy: Policy, *, stopped: bool) -> Plan:
    """Return how the leg ends, now that nothing is left to do."""
    if state.asking and not stopped:
        return Plan(verdict=JobStatus.WAITING)
    # What comes last, in the job or in a file inside of it, must not wait for people any more.
    if state.asking and (state.held >= 0 or any(one.held >= 0 for one in state.nests.values())):
        return Plan(drops=tuple(state.asking))
    failed = state.failures or state.open_steps or policy.over
    return Plan(verdict=JobStatus.FAILED if failed else JobStatus.SUCCEEDED)


def _dropped(state: JobState) -> tuple[str, ...]:
    """Return what is not begun any more once the job has stopped, the longest due first."""
    regardless = state.graph.regardless
    waiting = [name for _, name in sorted(state.retries) if base_of(name) not in regardless]
    return (*waiting, *state.ready, *chain.from_iterable(state.lanes.values()))


def not_run(state: JobState, name: str, stopped: str = "") -> ev.StepSkipped | ev.StepFailed:
    """Return the event of a step that is not run: what it needs has no result, or the job ended.

    A group of which more items have failed than may has failed itself, though the job stopped; so
    has a step around others of which one has failed, and a step that waits for another attempt
    after the last one failed.

    Args:
        state: of the job.
        name: of the step.
        stopped: why nothing more is begun; empty while it is.
    """
    step = state.steps[name]
    if step.status is StepStatus.WAITING and step.fault is not None:
        hint = "; ".join(filter(None, (step.fault.hint, f"not tried again: {stopped}")))
        put = msgspec.structs.replace
        return ev.StepFailed(
            step=name, data=put(step.fault, hint=hint, retry_in_s=None, duration_s=0.0)
        )
    fan = state.fans.get(name)
    fault = broken(fan) if fan is not None else nest.broken(state, name)
    if fault is not None:
        return ev.StepFailed(step=name, data=fault)
    decl = state.graph.steps.get(name)
    if decl is not None and nest.shut_out(state, decl):
        return ev.StepSkipped(step=name, data=nest.left_out(state, decl, stopped))
    skipped = ("", "")
    for need in state.graph.needs.get(name, ()):
        other = state.steps[need]
        if other.status in DONE:
            continue
        first = other.because or need
        status = state.steps[first].status
        if status is StepStatus.FAILED and not _borne(state, first):
            data = ev.Skip(reason=f"it needs {first}, which failed", because=first)
            return ev.StepSkipped(step=name, data=data)
        if status is StepStatus.SKIPPED and not skipped[0]:
            skipped = (f"it needs {first}, which was skipped", first)
    reason, because = (stopped, "") if stopped else skipped
    return ev.StepSkipped(step=name, data=ev.Skip(reason=reason, because=because))


def _borne(state: JobState, name: str) -> bool:
    decl = state.graph.steps.get(base_of(name))
    return decl is not None and decl.continue_on_error


def why_stopped(state: JobState, policy: Policy) -> str:
    """Return why nothing more is begun but what runs regardless; empty while it is."""
    if policy.over:
        return policy.over
    if state.failures and not policy.keep_going:
        return f"the job stopped when {state.failures[0].step} failed"
    return ""


def _due(retries: list[tuple[float, str]], now_s: float, limit: int) -> list[str]:
    """Return who may be tried again now, the longest due first, without emptying the heap."""
    found: list[str] = []
    places = [(retries[0], 0)] if retries else []
    while places and len(found) < limit:
        (at_s, name), place = heapq.heappop(places)
        if at_s > now_s:
            break
        found.append(name)
        for below in (2 * place + 1, 2 * place + 2):
            if below < len(retries):
                heapq.heappush(places, (retries[below], below))
    return found


def reusable(state: JobState, name: str, key: str) -> Success | None:
    """Return the earlier success that a step with this key may take over.

    It is matched by name and key, else by key among names that have gone from the spec (the
    step was renamed). Each success is used once. One that a person gave by hand stands whatever
    the key.
    """
    if not state.past:
        return None
    own = state.past.get(name)
    if own is not None and (own.key == key or own.by):
        return own
    for former in state.gone.get(key, ()):
        success = state.past.get(former)
        if success is not None:
            return success
    return None


def opening(state: JobState, started: ev.Started) -> list[ev.JobEvent]:
    """Return the events that begin a leg: of a new job, or of one that goes on."""
    if state.status is JobStatus.NEW:
        return [ev.JobStarted(data=started)]
    return [ev.JobResumed(data=started), *cut_off(state)]


def cut_off(state: JobState, *, crashed: bool = False) -> list[ev.JobEvent]:
    """Return the events of attempts whose process ended without telling their outcome.

    Args:
        state: of the job.
        crashed: whether to say so of each; after the begin of a leg it goes without saying.
    """
    left = {**state.cut_off, **{name: state.steps[name].attempt for name in state.running}}
    return [
        ev.StepInterrupted(
            step=name,
            data=ev.Note(
                reason="its process ended before the outcome was recorded",
                attempt=attempt,
                crashed=crashed,
            ),
        )
        for name, attempt in left.items()
    ]


def closing(
    state: JobState,
    verdict: JobStatus,
    duration_s: float,
    reason: str,
    *,
    by: str = "",
    request: str = "",
    outputs: Any = None,
) -> list[ev.JobEvent]:
    """Return the events that end a leg: a reason for each step that was not run, and the end.

    Args:
        state: at the end.
        verdict: how it ends.
        duration_s: of the leg.
        reason: why, where it does not go without saying.
        by: who asked for it, if somebody did, and by which `request`.
        request: its id.
        outputs: the job's own, of one that has succeeded.
    """
    if verdict is JobStatus.WAITING:
        reason = f"waiting for the approval of {', '.join(islice(state.asking, TOLD))}"
    ended = ev.Ended(
        duration_s=duration_s,
        failures=_told(state.failures),
        tolerated=_told(state.tolerated, len(state.failures)),
        reason=reason,
        by=by,
        request=request,
        outputs=outputs,
    )
    match verdict:
        case JobStatus.SUCCEEDED:
            return [ev.JobSucceeded(data=ended)]
        case JobStatus.CANCELLED:
            return [ev.JobCancelled(data=ended)]
        case JobStatus.WAITING:
            return [ev.JobWaiting(data=ended)]
        case _:
            stopped = reason or why_stopped(state, Policy()) or "the job stopped"
            left = [
                not_run(state, name, stopped)
                for name in state.names()
                if state.steps[name].status in _OPEN
            ]
            return [*left, ev.JobFailed(data=ended)]


def _told(failures: list[ev.Failure], before: int = 0) -> tuple[ev.Failure, ...]:
    """Return what the last event repeats of the failures: it is a line, and a line has a limit.

    `before` are those that it repeats beside.
    """
    return tuple(
        msgspec.structs.replace(
            failure, message=failure.message[:TOLD_TEXT], hint=failure.hint[:TOLD_TEXT]
        )
        for failure in failures[: max(TOLD - before, 0)]
    )
