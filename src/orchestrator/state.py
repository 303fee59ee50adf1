"""The state of a job: what follows from its events. Pure, and the only place where it changes.

The rule of this file: whatever any command says about a job is read off a `JobState`, and a
`JobState` is made by `evolve` alone.

A step:  pending -> running -> succeeded | failed
                 ^-- waiting <-/           (a failed attempt that will be retried)
         pending -> reused                 (its earlier success still holds)
         pending -> skipped                (it will not be run in this leg)
         pending -> expanded -> succeeded  (a group: its instances are steps, see `fan`)
         pending -> asking -> succeeded | failed    (somebody approves, or rejects)

A step is ready when all it needs has *settled*, well or badly; whether it then runs is decided
by `plan`.

`evolve` updates the state in place and returns it, so that a fold over 100,000 steps is linear:
never use a state that was folded further. The ready set is part of the state, so that neither
`evolve` nor `decide` walks the whole graph. What there is one of for each step is kept from the
garbage collector (`gc=False`; it can be in no cycle), which would walk all of it again and again.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from eventlog import LogOpened, LogRecovered, Record, UnknownEvent

from . import events as ev
from . import tally
from .budget import Spending
from .decisions import Decision, HandMade, Shown
from .errors import FailureKind
from .fan import Fan, anew, expanded
from .graph import Graph
from .instances import base_of, instance
from .lanes import chosen
from .older import OLDER, as_now, given_by
from .readiness import first_ready, settle, wait_no_more
from .status import DONE, SETTLED, JobStatus, StepState, StepStatus, Success, Totals


class JobState(msgspec.Struct, kw_only=True):
    """What is known of a job.

    Attributes:
        graph: the steps of the current leg.
        ready: steps whose needs have settled and that were not started, in the order they
            became so.
        regardless: the same, of those that are looked at even in a job that has failed.
        lanes: the same, of the kinds of which only so many run at once.
        running: steps with an attempt under way.
        retries: a heap of (monotonic second, step) of steps that wait for another attempt.
        asking: steps that wait for somebody's approval.
        open_steps: steps that have not settled.
        begun: whether a step that is not `last` was started in this leg.
        held: how many open steps there are when the `last` ones become ready; -1 for none.
        past: successes of earlier legs that no step of this leg has taken over, by name.
        former: what is known of steps of earlier legs that are none of this leg, by name.
        gone: names in `past` that are no steps any more, by key (a step may be renamed).
        fans: the groups of this leg that were expanded, by name.
        once: instances in `past`, by the name of their group, until that is expanded.
        cut_off: attempts that a leg left without an outcome, by step, until an event says so.
        unanswered: by step, the cache's key of a call whose end is not recorded.
        published: which step wrote which path below outputs/.
        ended_because: why the leg ended early, if it did.
        failures: of this leg.
        tolerated: failures of this leg that are not the job's.
        refused: rejections that no leg has failed by yet, by step.
        spending: what a budget is held against, over all legs.
        requests: ids of the requests from inbox/ that were recorded.
    """

    job_id: str = ""
    status: JobStatus = JobStatus.NEW
    started: ev.Started | None = None
    started_at: str = ""
    leg_started_at: str = ""
    last_ts: str = ""
    finished_at: str = ""
    legs: int = 0
    seq: int = -1
    sum: str = ""
    graph: Graph = msgspec.field(default_factory=lambda: Graph(()))
    steps: dict[str, StepState] = msgspec.field(default_factory=dict)
    ready: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    regardless: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    lanes: dict[str, OrderedDict[str, None]] = msgspec.field(default_factory=dict)
    running: dict[str, None] = msgspec.field(default_factory=dict)
    retries: list[tuple[float, str]] = msgspec.field(default_factory=list)
    asking: dict[str, None] = msgspec.field(default_factory=dict)
    open_steps: int = 0
    held: int = -1
    begun: bool = False
    past: dict[str, Success] = msgspec.field(default_factory=dict)
    former: dict[str, StepState] = msgspec.field(default_factory=dict)
    gone: dict[str, list[str]] = msgspec.field(default_factory=dict)
    fans: dict[str, Fan] = msgspec.field(default_factory=dict)
    once: dict[str, list[str]] = msgspec.field(default_factory=dict)
    cut_off: dict[str, int] = msgspec.field(default_factory=dict)
    published: dict[str, str] = msgspec.field(default_factory=dict)
    unanswered: dict[str, str] = msgspec.field(default_factory=dict)
    files: dict[str, ev.FileRef] = msgspec.field(default_factory=dict)
    ended_because: str = ""
    failures: list[ev.Failure] = msgspec.field(default_factory=list)
    outputs: Any = None
    tolerated: list[ev.Failure] = msgspec.field(default_factory=list)
    totals: Totals = msgspec.field(default_factory=Totals)
    refused: dict[str, Decision] = msgspec.field(default_factory=dict)
    spending: Spending = msgspec.field(default_factory=Spending)
    requests: set[str] = msgspec.field(default_factory=set)
    recovered: int = 0
    unknown: int = 0

    def step(self, name: str) -> StepState:
        """Return a step's state; a name that no leg declared gets one, as old logs need."""
        found = self.steps.get(name)
        if found is None:
            found = self.steps[name] = anew(self.former.pop(name, None))
            self.open_steps += 1
        return found

    def names(self) -> Iterator[str]:
        """Yield the steps in the order of the spec, a group's instances after it."""
        for name in self.graph.ids:
            yield name
            fan = self.fans.get(name)
            if fan is not None:
                yield from (instance(name, item) for item in fan.items)

    def moved(self, seq: int, event: Any, by: int) -> None:
        """Take in that `event`, folded as `seq`, got a seq that is higher by `by`."""
        if isinstance(event, ev.StepSucceeded | ev.StepApproved | ev.StepSet):
            step = self.steps[event.step]
            if step.success is not None and step.success.seq == seq:
                step.success = msgspec.structs.replace(step.success, seq=seq + by)

    @property
    def open_leg_s(self) -> float:
        """Seconds of a leg that has no end: from its first event to its last."""
        if self.status is not JobStatus.OPEN:
            return 0.0
        return seconds_between(self.leg_started_at, self.last_ts)

    @property
    def finished(self) -> bool:
        """Whether the current leg has ended."""
        return self.status not in (JobStatus.NEW, JobStatus.OPEN)


_NOT_OF_A_JOB = (LogOpened, LogRecovered, UnknownEvent)


def evolve(state: JobState, record: Record[Any], at_s: float = 0.0) -> JobState:
    """Return the state after `record`: what follows, never what ought to.

    Args:
        state: before; it is updated in place.
        record: the event with its seq and ts.
        at_s: the monotonic second at which the event was taken in, for waits; 0.0 for a log
            that is read back, whose waits are over.
    """
    state.seq, state.sum = record.seq, record.sum
    match record.event:  # what is frequent comes first
        case ev.StepStarted(step=name, data=data):
            _step_started(state, name, data, record.ts)
        case ev.StepSucceeded(step=name, data=data):
            _step_succeeded(state, name, data, record)
        case ev.StepSkipped(step=name, data=data):
            _step_skipped(state, name, data)
        case ev.StepFailed(step=name, data=data):
            _step_failed(state, name, data, record.ts)
        case ev.StepRetrying(step=name, data=data):
            _step_retrying(state, name, data, record.ts, at_s)
        case ev.JobStarted(data=data):
            _begin(state, data, record.ts, fresh=True)
        case ev.JobResumed(data=data):
            _begin(state, data, record.ts, fresh=False)
        case ev.JobSucceeded() | ev.JobFailed() | ev.JobCancelled() | ev.JobWaiting() as end:
            _end(state, _ENDS[type(end)], end.data, record.ts)
        case ev.StepExpanded(step=name, data=data):
            expanded(state, name, data)
        case ev.StepInterrupted(step=name):
            _step_interrupted(state, name)
        case ev.StepInvalidated(step=name, data=data):
            state.past.pop(name, None)
        case ev.StepAdopted(step=name, data=data):
            _step_adopted(state, name, data, record.seq)
        case ev.StepWaiting() | ev.StepApproved() | ev.StepRejected() | ev.StepSet():
            _by_people(state, record)
        case ev.FileWritten(step=name, data=data):
            state.published[data.path] = name
        case ev.LLMRequest() | ev.LLMResponse():
            _called(state, record.event)
        case ev.CacheHit() | ev.CacheMiss():
            tally.count(state.totals, record.event)
        case LogRecovered():
            state.recovered += 1
        case UnknownEvent():
            state.unknown += 1
        case ev.BudgetExceeded() | ev.ArtifactCreated() | LogOpened():
            pass
        case _:  # a type of a later version, read by its struct's name
            state.unknown += 1
    if not isinstance(record.event, _NOT_OF_A_JOB):
        state.last_ts = record.ts
        if not state.leg_started_at:  # a log without `job.started`
            state.started_at = state.leg_started_at = record.ts
    return state


def _called(state: JobState, event: ev.LLMRequest | ev.LLMResponse) -> None:
    """Take in the begin or the end of a call."""
    if isinstance(event, ev.LLMRequest):
        state.spending.asked(event.step, event.data)
        state.unanswered[event.step] = event.data.cache_key
    else:
        state.spending.answered(event.step, event.data)
        state.unanswered.pop(event.step, None)
        tally.count(state.totals, event)


_ENDS = {
    ev.JobSucceeded: JobStatus.SUCCEEDED,
    ev.JobFailed: JobStatus.FAILED,
    ev.JobCancelled: JobStatus.CANCELLED,
    ev.JobWaiting: JobStatus.WAITING,
}


def seconds_between(start: str, end: str) -> float:
    """Return the seconds from one stamp to another; 0.0 if either can't be read."""
    try:
        passed = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    except (ValueError, TypeError):
        return 0.0
    return max(passed.total_seconds(), 0.0)


def _begin(state: JobState, data: ev.Started, ts: str, *, fresh: bool) -> None:
    assert not isinstance(data.steps, ev.BlobRef), "the reader resolves blobs before the fold"
    before: dict[str, StepState] = {}
    state.totals.legs_s += state.open_leg_s
    for name in list(state.spending.open):
        state.spending.lost(name)
    if fresh:
        state.past, state.published, state.files, state.cut_off = {}, {}, {}, {}
    else:
        state.cut_off.update((name, state.steps[name].attempt) for name in state.running)
        before = {**state.former, **state.steps}
        for name, step in state.steps.items():
            if step.success is not None and step.status in DONE:
                state.past[name] = step.success
    if fresh or not state.started_at:
        state.started_at = ts
    state.status, state.started, state.leg_started_at = JobStatus.OPEN, data, ts
    state.finished_at, state.ended_because, state.legs = "", "", state.legs + 1
    state.graph = graph = Graph(data.steps)
    state.steps, state.retries, state.failures, state.tolerated = {}, [], [], []
    state.ready, state.regardless, state.running = OrderedDict(), OrderedDict(), {}
    state.asking, state.fans, state.once = {}, {}, {}
    state.open_steps = len(graph.ids)
    state.lanes = {kind: OrderedDict() for kind in data.limits}
    state.held, state.begun = len(graph.last) or -1, False
    for name in graph.ids:
        step = state.steps[name] = anew(before.pop(name, None))
        step.kind, step.unmet = graph.steps[name].kind, len(graph.needs[name])
    first_ready(state)
    state.former = before
    state.gone = {}
    for name, success in state.past.items():
        if success.by == OLDER and name in graph.steps:
            state.past[name] = as_now(success, graph.steps[name].kind)
        _offer(state, name, success)


def _offer(state: JobState, name: str, success: Success) -> None:
    """Let an earlier success be taken over by a step of another name, if its own is gone."""
    if name in state.steps or not success.key:
        return
    group = state.graph.steps.get(base_of(name)) if "[" in name else None
    if group is not None and group.each:
        state.once.setdefault(group.id, []).append(name)
    else:
        state.gone.setdefault(success.key, []).append(name)


def _step_adopted(state: JobState, name: str, data: ev.Adopted, seq: int) -> None:
    state.past[name] = success = Success(
        step=name,
        seq=seq,
        key=data.key,
        output=data.output,
        output_sha256=data.output_sha256,
        files=data.files,
        duration_s=data.duration_s,
        by=data.by,
    )
    _offer(state, name, success)


def _end(state: JobState, status: JobStatus, data: ev.Ended, ts: str) -> None:
    state.status, state.finished_at, state.ended_because = status, ts, data.reason
    # Old logs tell no durations: then the stamps do.
    state.totals.legs_s += data.duration_s or seconds_between(state.leg_started_at, ts)
    state.running.clear()
    if status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
        state.refused = {}
    if data.request:
        state.requests.add(data.request)
    state.outputs = data.outputs
    if data.failures and not state.failures:  # a log without `step.failed`, or the outputs'
        state.failures = list(data.failures)


def _step_started(state: JobState, name: str, data: ev.StepStart, ts: str) -> None:
    step = state.step(name)
    chosen(state, name)
    if step.status is StepStatus.WAITING:
        wait_no_more(state, name)
    if step.status in SETTLED:  # another writer's log: ours starts no step twice in a leg
        state.open_steps += 1
    if state.held >= 0:  # else all that is not `last` has settled, or nothing is
        state.begun = True
    state.running[name] = None
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


def _step_succeeded(state: JobState, name: str, data: ev.StepEnd, record: Record[Any]) -> None:
    duration_s = _worked(state, state.step(name), data.duration_s, record.ts)
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
    _done(state, name, StepStatus.SUCCEEDED, success)


def _step_failed(state: JobState, name: str, data: ev.StepFault, ts: str) -> None:
    step = state.step(name)
    state.running.pop(name, None)
    chosen(state, name)
    state.asking.pop(name, None)
    if step.status is StepStatus.WAITING:
        wait_no_more(state, name)
    already = step.status in SETTLED
    step.status, step.fault = StepStatus.FAILED, data
    if data.kind != FailureKind.INTERRUPTED:
        step.crashes = 0
    _worked(state, step, data.duration_s, ts)
    decl = state.graph.steps.get(name) or state.graph.steps.get(base_of(name))
    borne = decl is not None and decl.continue_on_error
    if not already and settle(state, name, lacking=not borne, failed=True):
        return  # its group can bear it
    (state.tolerated if borne else state.failures).append(
        ev.Failure(
            step=name,
            kind=data.kind,
            message=data.message,
            hint=data.hint,
            attempt=data.attempt,
        )
    )


def _step_retrying(state: JobState, name: str, data: ev.StepFault, ts: str, at_s: float) -> None:
    step = state.step(name)
    state.running.pop(name, None)
    step.status, step.fault, step.crashes = StepStatus.WAITING, data, 0
    _worked(state, step, data.duration_s, ts)
    heapq.heappush(state.retries, (at_s + (data.retry_in_s or 0.0), name))


def _step_interrupted(state: JobState, name: str) -> None:
    crashed = state.cut_off.pop(name, None) is not None
    state.running.pop(name, None)
    # An instance is no step of this leg before its group is expanded, nor is a step that left
    # the spec.
    step = state.steps.get(name) or state.former.get(name)
    if step is None:
        return
    step.interrupted += 1
    step.cut = step.attempt
    step.crashes += crashed
    if step.status is StepStatus.RUNNING:
        step.status = StepStatus.INTERRUPTED


def _step_skipped(state: JobState, name: str, data: ev.Skip) -> None:
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
    _done(state, name, StepStatus.REUSED, success)


def _by_people(state: JobState, record: Record[Any]) -> None:
    match record.event:
        case ev.StepWaiting(step=name, data=data):
            _step_waiting(state, name, data)
        case ev.StepApproved(step=name, data=data):
            _step_approved(state, name, data, record.seq)
        case ev.StepRejected(step=name, data=data):
            _step_rejected(state, name, data, record.ts)
        case ev.StepSet(step=name, data=data):
            _step_set(state, name, data, record.seq)


def _step_waiting(state: JobState, name: str, data: Shown) -> None:
    step = state.step(name)
    chosen(state, name)
    state.asking[name] = None
    step.status, step.asked, step.kind = StepStatus.ASKING, data, "approve"


def _step_approved(state: JobState, name: str, data: Decision, seq: int) -> None:
    state.requests.add(data.request)
    success = Success(
        step=name, seq=seq, key=data.key, output=data.output, output_sha256=data.output_sha256
    )
    _done(state, name, StepStatus.SUCCEEDED, success)


def _step_rejected(state: JobState, name: str, data: Decision, ts: str) -> None:
    state.requests.add(data.request)
    state.refused[name] = data
    _step_failed(state, name, rejection(data), ts)


def rejection(said: Decision) -> ev.StepFault:
    """Return the failure of a step that somebody has rejected."""
    by = f"rejected by {said.by}"
    return ev.StepFault(
        kind=FailureKind.REJECTED,
        message=f"{by}: {said.note}" if said.note else by,
        hint="resuming asks again",
    )


def _step_set(state: JobState, name: str, data: HandMade, seq: int) -> None:
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
    _done(state, name, StepStatus.SUCCEEDED, success)
    step.reason = f"set by {data.by}: {data.reason}"


def _done(state: JobState, name: str, status: StepStatus, success: Success) -> None:
    """Record a result."""
    step = state.step(name)
    chosen(state, name)
    state.running.pop(name, None)
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


__all__ = [
    "DONE",
    "SETTLED",
    "JobState",
    "JobStatus",
    "StepState",
    "StepStatus",
    "Success",
    "Totals",
    "evolve",
    "seconds_between",
]
