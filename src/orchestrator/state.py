"""The state of a job: what follows from its events. Pure.

The rule of this file: whatever any command says about a job is read off a `JobState`, and a
`JobState` is made by `evolve` alone. What an event of a step does is in `moves`, what the begin
and the end of a leg do in `leg`: nobody else calls them.

A step:  pending -> running -> succeeded | failed
                 ^-- waiting <-/           (a failed attempt that will be retried)
         pending -> reused                 (its earlier success still holds)
         pending -> skipped                (it will not be run in this leg)
         pending -> expanded -> succeeded  (a group: its instances are steps, see `fan`; or a
                                            step around those of another job file, see `nest`)
         pending -> asking -> succeeded | failed    (somebody approves, or rejects)

A step is ready when all it needs has *settled*, well or badly; whether it then runs is decided
by `plan`.

`evolve` updates the state in place and returns it, so that a fold over 100,000 steps is linear:
never use a state that was folded further. The ready set is part of the state, so that neither
`evolve` nor `decide` walks the whole graph. What there is one of for each step is kept from the
garbage collector (`gc=False`; it can be in no cycle), which would walk all of it again and again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec

from eventlog import LogOpened, LogRecovered, Record, UnknownEvent

from . import events as ev
from . import leg, moves, tally
from .budget import Spending
from .decisions import Decision
from .fan import Fan, anew, expanded
from .graph import Graph
from .instances import instance
from .leg import seconds_between
from .nest import Nest, entered
from .status import DONE, SETTLED, JobStatus, StepState, StepStatus, Success, Totals


class JobState(msgspec.Struct, kw_only=True):
    """What is known of a job.

    Attributes:
        graph: the steps of the current leg.
        ahead: those of the leg that comes, where somebody has looked at them already.
        ready: steps whose needs have settled and that were not started, in the order they
            became so.
        regardless: the same, of those that are looked at even in a job that has failed.
        lanes: the same, of the kinds of which only so many run at once.
        running: steps with an attempt under way, and the key of that.
        retries: a heap of (monotonic second, step) of steps that wait for another attempt.
        asking: steps that wait for somebody's approval.
        open_steps: steps that have not settled.
        begun: whether a step that is not `last` was started in this leg.
        held: how many open steps there are when the `last` ones become ready; -1 for none.
        past: successes of earlier legs that no step of this leg has taken over, by name.
        former: what is known of steps of earlier legs that are none of this leg, by name.
        gone: names in `past` that are no steps any more, by key (a step may be renamed).
        fans: the groups of this leg that were expanded, by name.
        nests: the steps around others that were entered in this leg, by name.
        once: instances in `past`, by the name of their group, until that is expanded.
        cut_off: attempts that a leg left without an outcome, by step, until an event says so.
        doubts: steps of which an attempt was cut off, by the key of that.
        renamed: what a step was called when an attempt of it was cut off, by its name now.
        keyed: needs in the order that keys count them, of steps that name them in another one.
        unanswered: by step, the key under which the cache keeps the answer to a call whose end is
            not recorded.
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
    ahead: Graph | None = None
    steps: dict[str, StepState] = msgspec.field(default_factory=dict)
    ready: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    regardless: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    lanes: dict[str, OrderedDict[str, None]] = msgspec.field(default_factory=dict)
    running: dict[str, str] = msgspec.field(default_factory=dict)
    retries: list[tuple[float, str]] = msgspec.field(default_factory=list)
    asking: dict[str, None] = msgspec.field(default_factory=dict)
    open_steps: int = 0
    held: int = -1
    begun: bool = False
    past: dict[str, Success] = msgspec.field(default_factory=dict)
    former: dict[str, StepState] = msgspec.field(default_factory=dict)
    gone: dict[str, list[str]] = msgspec.field(default_factory=dict)
    fans: dict[str, Fan] = msgspec.field(default_factory=dict)
    nests: dict[str, Nest] = msgspec.field(default_factory=dict)
    once: dict[str, list[str]] = msgspec.field(default_factory=dict)
    cut_off: dict[str, int] = msgspec.field(default_factory=dict)
    doubts: dict[str, dict[str, None]] = msgspec.field(default_factory=dict)
    renamed: dict[str, str] = msgspec.field(default_factory=dict)
    keyed: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
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


_NOT_OF_A_JOB = frozenset((LogOpened, LogRecovered, UnknownEvent))


def evolve(state: JobState, record: Record[Any], at_s: float = 0.0) -> JobState:
    """Return the state after `record`: what follows, never what ought to.

    Args:
        state: before; it is updated in place.
        record: the event with its seq and ts.
        at_s: the monotonic second at which the event was taken in, for waits; 0.0 for a log
            that is read back, whose waits are over.
    """
    event, ts = record.event, record.ts
    state.seq, state.sum = record.seq, record.sum
    kind = type(event)  # a look at the type of a struct costs a tenth of asking if it is one
    if kind is ev.StepStarted:
        moves.started(state, event.step, event.data, ts)
    elif kind is ev.StepSucceeded:
        moves.succeeded(state, event.step, event.data, record)
    elif kind is ev.StepSkipped:
        moves.skipped(state, event.step, event.data)
    else:
        _less_often(state, record, at_s)
    if kind not in _NOT_OF_A_JOB:
        state.last_ts = ts
        if not state.leg_started_at:  # a log without `job.started`
            state.started_at = state.leg_started_at = ts
    return state


def _less_often(state: JobState, record: Record[Any], at_s: float) -> None:
    """Take in what does not come with every step."""
    match record.event:
        case ev.StepFailed(step=name, data=data):
            moves.failed(state, name, data, record.ts)
        case ev.StepRetrying(step=name, data=data):
            moves.retrying(state, name, data, record.ts, at_s)
        case ev.JobStarted(data=data):
            leg.begin(state, data, record.ts, fresh=True)
        case ev.JobResumed(data=data):
            leg.begin(state, data, record.ts, fresh=False)
        case ev.JobSucceeded() | ev.JobFailed() | ev.JobCancelled() | ev.JobWaiting() as end:
            leg.end(state, _ENDS[type(end)], end.data, record.ts)
        case ev.StepExpanded(step=name, data=data):
            if name in state.graph.members:
                entered(state, name, at_s)
            else:
                expanded(state, name, data)
        case ev.StepInterrupted(step=name, data=data):
            moves.interrupted(state, name, data)
        case ev.StepInvalidated(step=name):
            moves.invalidated(state, name)
        case ev.StepAdopted(step=name, data=data):
            leg.adopted(state, name, data, record.seq)
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


def _called(state: JobState, event: ev.LLMRequest | ev.LLMResponse) -> None:
    """Take in the begin or the end of a call."""
    if isinstance(event, ev.LLMRequest):
        state.spending.asked(event.step, event.data)
        state.unanswered[event.step] = event.data.kept_as or event.data.cache_key
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


def _by_people(state: JobState, record: Record[Any]) -> None:
    match record.event:
        case ev.StepWaiting(step=name, data=data):
            moves.waiting(state, name, data)
        case ev.StepApproved(step=name, data=data):
            moves.approved(state, name, data, record.seq)
        case ev.StepRejected(step=name, data=data):
            moves.rejected(state, name, data, record.ts)
        case ev.StepSet(step=name, data=data):
            moves.set_by_hand(state, name, data, record.seq)


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
]
