"""How a leg begins and ends in the state: what it keeps of earlier legs, what starts anew. Pure."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING

from . import events as ev
from .fan import anew
from .graph import Graph
from .instances import base_of
from .lanes import ASKS
from .older import OLDER, as_now
from .readiness import first_ready
from .status import DONE, JobStatus, StepState, Success

if TYPE_CHECKING:
    from .state import JobState


def seconds_between(start: str, end: str) -> float:
    """Return the seconds from one stamp to another; 0.0 if either can't be read."""
    try:
        passed = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    except (ValueError, TypeError):
        return 0.0
    return max(passed.total_seconds(), 0.0)


def begin(state: JobState, data: ev.Started, ts: str, *, fresh: bool) -> None:
    """Begin a leg: its graph, with every step open and earlier successes as what may be reused."""
    assert not isinstance(data.steps, ev.BlobRef), "the reader resolves blobs before the fold"
    before: dict[str, StepState] = {}
    state.totals.legs_s += state.open_leg_s
    for name in list(state.spending.open):
        state.spending.lost(name)
    if fresh:
        state.past, state.published, state.files, state.cut_off = {}, {}, {}, {}
        state.doubts, state.renamed, state.keyed = {}, {}, {}
    else:
        for name, key in state.running.items():
            state.cut_off[name] = state.steps[name].attempt
            doubted(state, name, key)
        before = {**state.former, **state.steps}
        for name, step in state.steps.items():
            if step.success is not None and step.status in DONE:
                state.past[name] = step.success
    if fresh or not state.started_at:
        state.started_at = ts
    state.status, state.started, state.leg_started_at = JobStatus.OPEN, data, ts
    state.finished_at, state.ended_because, state.legs = "", "", state.legs + 1
    ahead, state.ahead = state.ahead, None
    graph = ahead if ahead and ahead.source is data.steps else Graph(data.steps)
    if not fresh:
        _reordered(state, graph)
    state.graph = graph
    state.steps, state.retries, state.failures, state.tolerated = {}, [], [], []
    state.ready, state.regardless, state.running = OrderedDict(), OrderedDict(), {}
    state.asking, state.fans, state.nests, state.once = {}, {}, {}, {}
    state.open_steps = len(graph.ids)
    state.lanes = {kind: OrderedDict() for kind in data.limits}
    state.held, state.begun = len(graph.held) or -1, False
    for name in graph.ids:
        step = state.steps[name] = anew(before.pop(name, None))
        step.kind, step.unmet = graph.steps[name].kind, len(graph.needs[name])
        if step.kind == ASKS:
            state.lanes.setdefault(ASKS, OrderedDict())
    first_ready(state)
    state.former = before
    state.gone = {}
    for name, success in state.past.items():
        if success.by == OLDER and name in graph.steps:
            state.past[name] = as_now(success, graph.steps[name].kind)
        _offer(state, name, success)


def _reordered(state: JobState, graph: Graph) -> None:
    """Keep the order in which keys count a step's needs, where they stand in another one now.

    The order tells which output is which: names are no part of a key.
    """
    for name, was in state.graph.needs.items():
        now = graph.needs.get(name, was)
        if now == was:
            continue
        counted = state.keyed.pop(name, was)
        if moved(counted, now):
            state.keyed[name] = counted


def moved(needs: tuple[str, ...], now: tuple[str, ...]) -> bool:
    """Return whether needs stand in another order and are the same."""
    return needs != now and len(needs) == len(now) and set(needs) == set(now)


def doubted(state: JobState, name: str, key: str) -> None:
    """Keep the key of an attempt that was cut off: its step may have another name one day."""
    if key:
        state.doubts.setdefault(key, {})[name] = None


def _offer(state: JobState, name: str, success: Success) -> None:
    """Let an earlier success be taken over by a step of another name, if its own is gone."""
    if name in state.steps or not success.key:
        return
    group = state.graph.steps.get(base_of(name)) if "[" in name else None
    if group is not None and group.each:
        state.once.setdefault(group.id, []).append(name)
    else:
        state.gone.setdefault(success.key, []).append(name)


def adopted(state: JobState, name: str, data: ev.Adopted, seq: int) -> None:
    """Take over a success of the job that this one was forked from."""
    if data.order:
        state.keyed[name] = data.order
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


def end(state: JobState, status: JobStatus, data: ev.Ended, ts: str) -> None:
    """End a leg; what it left undone stays as it is.

    One that had ended already, as a pause for an approval, took no time since.
    """
    if not state.finished:
        # Old logs tell no durations: then the stamps do.
        state.totals.legs_s += data.duration_s or seconds_between(state.leg_started_at, ts)
    state.status, state.finished_at, state.ended_because = status, ts, data.reason
    state.running.clear()
    if status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
        state.refused = {}
    if data.request:
        state.requests.add(data.request)
    state.outputs = data.outputs
    if data.failures and not state.failures:  # a log without `step.failed`, or the outputs'
        state.failures = list(data.failures)
