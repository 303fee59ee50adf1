"""What to do next: decisions over a job's state, without doing any of it. Pure."""

from __future__ import annotations

import heapq
from itertools import islice

import msgspec

from . import events as ev
from .instances import base_of, item_of
from .state import JobState, JobStatus, StepStatus, Success

TOLD = 100
"""Failures that the end of a job repeats; each is in its own `step.failed`."""
TOLD_TEXT = 500


_OPEN = (StepStatus.PENDING, StepStatus.WAITING, StepStatus.EXPANDED)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner does now.

    Attributes:
        starts: steps to prepare and start, or to skip, in this order.
        verdict: how the leg ends, if nothing is left to do.
        wake_after_s: when to ask again if nothing happens until then; None: only then.
    """

    starts: tuple[str, ...] = ()
    verdict: JobStatus | None = None
    wake_after_s: float | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked of the leg: how many at once, and whether to go on after a failure."""

    concurrency: int = 4
    keep_going: bool = False


def decide(state: JobState, now_s: float, policy: Policy) -> Plan:
    """Return what to do in this state at the monotonic second `now_s`."""
    stopped = bool(state.failures) and not policy.keep_going
    if stopped:
        return Plan(verdict=None if state.running else JobStatus.FAILED)
    free = policy.concurrency - len(state.running)
    due = _due(state.retries, now_s, free)
    starts = (*due, *islice(state.ready, max(free - len(due), 0)))
    if starts:
        return Plan(starts=starts)
    if state.running or state.retries:
        later = state.retries and free > 0
        return Plan(wake_after_s=max(state.retries[0][0] - now_s, 0.0) if later else None)
    if state.asking:
        return Plan(verdict=JobStatus.WAITING)
    return Plan(verdict=JobStatus.FAILED if state.open_steps else JobStatus.SUCCEEDED)


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


def cut_off(state: JobState) -> list[ev.JobEvent]:
    """Return the events of attempts whose process ended without telling their outcome."""
    left = {**state.cut_off, **{name: state.steps[name].attempt for name in state.running}}
    return [
        ev.StepInterrupted(
            step=name,
            data=ev.Note(
                reason="its process ended before the outcome was recorded", attempt=attempt
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
) -> list[ev.JobEvent]:
    """Return the events that end a leg: a reason for each step that was not run, and the end.

    Args:
        state: at the end.
        verdict: how it ends.
        duration_s: of the leg.
        reason: why, where it does not go without saying.
        by: who asked for it, if somebody did, and by which `request`.
        request: its id.
    """
    skipped: list[ev.JobEvent] = []
    if verdict is JobStatus.FAILED:
        skipped = [
            ev.StepSkipped(step=name, data=ev.Skip(reason=why))
            for name, why in _not_run(state).items()
        ]
    if verdict is JobStatus.WAITING:
        reason = f"waiting for the approval of {', '.join(islice(state.asking, TOLD))}"
    ended = ev.Ended(
        duration_s=duration_s,
        failures=_told(state.failures),
        reason=reason,
        by=by,
        request=request,
    )
    match verdict:
        case JobStatus.SUCCEEDED:
            return [ev.JobSucceeded(data=ended)]
        case JobStatus.CANCELLED:
            return [ev.JobCancelled(data=ended)]
        case JobStatus.WAITING:
            return [ev.JobWaiting(data=ended)]
        case _:
            return [*skipped, ev.JobFailed(data=ended)]


def _told(failures: list[ev.Failure]) -> tuple[ev.Failure, ...]:
    """Return what the last event repeats of the failures: it is a line, and a line has a limit."""
    return tuple(
        msgspec.structs.replace(
            failure, message=failure.message[:TOLD_TEXT], hint=failure.hint[:TOLD_TEXT]
        )
        for failure in failures[:TOLD]
    )


def _not_run(state: JobState) -> dict[str, str]:
    """Return why each step was not run: the need that did not succeed, or the first failure."""
    blocked: dict[str, str] = {}
    stack = []
    for failure in reversed(state.failures):
        group = base_of(failure.step)
        if group != failure.step:
            blocked[group] = f"its item {item_of(failure.step)} failed"
        stack.append((group, failure.step))
    while stack:
        name, culprit = stack.pop()
        for dependent in state.graph.dependents.get(name, ()):
            if dependent not in blocked:
                blocked[dependent] = f"it needs {culprit}, which failed"
                stack.append((dependent, culprit))
    reasons: dict[str, str] = {}
    for name in state.names():
        if state.steps[name].status in _OPEN:
            first = state.failures[0].step if state.failures else ""
            reasons[name] = blocked.get(name) or (
                f"the job stopped when {first} failed" if first else "the job stopped"
            )
    return reasons
