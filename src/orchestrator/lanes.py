"""Where ready steps stand: in one line, or in a lane for each kind of which few run at once.

Pure: parts of `state.evolve` and `plan.decide`. A kind with a limit has a lane of its own, so
that nobody looks past thousands of its steps to find one of another kind.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from .instances import base_of

if TYPE_CHECKING:
    from .state import JobState

ASKS = "approve"
"""The kind of what asks a person."""


def offer(state: JobState, name: str) -> None:
    """Make a step ready: `decide` finds it now."""
    if (base_of(name) if "[" in name else name) in state.graph.regardless:
        state.regardless[name] = None
        return
    lane = state.lanes.get(state.steps[name].kind) if state.lanes else None
    (state.ready if lane is None else lane)[name] = None


def chosen(state: JobState, name: str) -> None:
    """Take a step out of those that are ready."""
    if name in state.ready:
        del state.ready[name]
        return
    state.regardless.pop(name, None)
    for lane in state.lanes.values():
        lane.pop(name, None)


class Rooms:
    """How many more of each kind may run now."""

    def __init__(self, state: JobState, limits: dict[str, int]) -> None:
        self._state = state
        busy = Counter(state.steps[name].kind for name in state.running)
        self._left = {kind: limit - busy[kind] for kind, limit in limits.items()}

    def take(self, name: str) -> bool:
        """Return whether there is room for a step, and keep it."""
        kind = self._state.steps[name].kind
        left = self._left.get(kind)
        if left is None:
            return True
        self._left[kind] = left - 1
        return left > 0

    def of(self, kind: str) -> int:
        """Return how many of a kind there is room for."""
        return max(self._left.get(kind, 0), 0)


def within(
    state: JobState, now_s: float, free: int, limits: dict[str, int]
) -> tuple[tuple[str, ...], float | None]:
    """Return which steps start now, and at what second the next one that waits is due.

    Those that wait for another attempt come first, then what runs regardless, then the lanes:
    their kinds are scarce, and they can't take more than their limit from the others. A person is
    asked at once, however much runs: that takes nobody's place.
    """
    rooms = Rooms(state, limits)
    starts: list[str] = []
    later = None
    for at_s, name in sorted(state.retries):
        if at_s > now_s:
            later = at_s
            break
        if len(starts) < free and rooms.take(name):
            starts.append(name)
    for name in state.regardless:
        if len(starts) < free and rooms.take(name):
            starts.append(name)
    for kind, lane in state.lanes.items():
        starts += islice(lane, min(rooms.of(kind), max(free - len(starts), 0)))
    starts += islice(state.ready, max(free - len(starts), 0))
    return (*state.lanes.get(ASKS, ()), *starts), later
