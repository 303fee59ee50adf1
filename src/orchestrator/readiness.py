"""Which steps can be looked at: the ready ones, and those that wait for another attempt.

Pure: these functions are parts of `state.evolve`. A step is ready when all it needs has
settled; what is `last` is ready when all that is not has settled.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from .fan import settled
from .instances import base_of
from .lanes import offer
from .nest import hold_back
from .nest import settled as settled_inside
from .status import StepStatus

if TYPE_CHECKING:
    from .state import JobState


def first_ready(state: JobState) -> None:
    """Make ready what needs nothing, at the start of a leg."""
    graph = state.graph
    if graph.members:
        hold_back(state)
    for name in graph.roots:
        offer(state, name)
    for name in graph.last:  # each of them needs, as it were, all the others
        state.steps[name].unmet += 1
        state.regardless.pop(name, None)
    if state.open_steps == state.held:
        _release(state)


def wait_no_more(state: JobState, name: str) -> None:
    """Take a step out of those that wait for another attempt."""
    if state.retries and state.retries[0][1] == name:  # so it is where `decide` chose it
        heapq.heappop(state.retries)
        return
    state.retries = [(at_s, waiting) for at_s, waiting in state.retries if waiting != name]
    heapq.heapify(state.retries)


def settle(state: JobState, name: str, *, lacking: bool = False, failed: bool = False) -> bool:
    """Make ready what was waiting for this step alone.

    Args:
        state: of the job.
        name: a step that has just settled.
        lacking: it has no result to give.
        failed: it is an instance's failure; returned is whether its group can bear it.
    """
    state.open_steps -= 1
    if "[" in name and base_of(name) in state.fans:
        return settled(state, name, failed=failed)
    graph = state.graph
    for dependent in graph.dependents.get(name, ()):
        waiting = state.steps[dependent]
        waiting.unmet -= 1
        waiting.lacking += lacking
        if waiting.unmet == 0 and waiting.status is StepStatus.PENDING:
            offer(state, dependent)
    if graph.members and name in graph.steps:
        settled_inside(state, graph.steps[name], lacking=lacking, failed=failed)
    if state.held >= 0:
        _maybe_release(state, name)
    return False


def _maybe_release(state: JobState, settled: str) -> None:
    state.held -= settled in state.graph.held  # another writer's log: it did not wait
    if state.open_steps == state.held:
        _release(state)


def _release(state: JobState) -> None:
    """Let the `last` steps come: all others have settled."""
    state.held = -1
    for name in state.graph.last:
        step = state.steps[name]
        step.unmet -= 1
        if step.unmet == 0 and step.status is StepStatus.PENDING:
            state.regardless[name] = None
