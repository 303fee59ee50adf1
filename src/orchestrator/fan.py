"""What a fan-out adds to a job's state: instances as they are handed out, and when all are done.

A step with `for_each` or `matrix` is a group: when its needs are met it is *expanded* into
instances, one an item; when all of them have settled it becomes ready once more, to be
*gathered* into one result. Pure: these functions are parts of `state.evolve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from . import events as ev
from .errors import FailureKind
from .instances import base_of, instance
from .lanes import chosen, offer
from .status import StepState, StepStatus

if TYPE_CHECKING:
    from .state import JobState


class Fan(msgspec.Struct, kw_only=True):
    """One group of this leg.

    Attributes:
        items: the identities, in the order of the list they come from.
        handed: how many of them were made ready so far.
        open: how many have not settled.
        failed: how many have failed.
    """

    items: tuple[str, ...]
    max_parallel: int
    max_failures: int
    handed: int = 0
    open: int = 0
    failed: int = 0


def broken(fan: Fan) -> ev.StepFault | None:
    """Return the failure of a group of which more items have failed than may."""
    if fan.failed <= fan.max_failures:
        return None
    return ev.StepFault(
        kind=FailureKind.ITEMS,
        message=f"{fan.failed} of {len(fan.items)} items failed (max_failures is"
        f" {fan.max_failures})",
        hint="the items that succeeded are not run again by a resume",
    )


def anew(earlier: StepState | None) -> StepState:
    """Return a step's state at the start of a leg: what counts over all legs is kept."""
    if earlier is None:
        return StepState()
    return StepState(
        attempt=earlier.attempt,
        interrupted=earlier.interrupted,
        cut=earlier.cut,
        gone=earlier.gone,
        crashes=earlier.crashes,
        work_s=earlier.work_s,
        kind=earlier.kind,
    )


def expanded(state: JobState, name: str, data: ev.Expanded) -> None:
    """Take in which items a group has: the first of them become ready."""
    assert not isinstance(data.items, ev.BlobRef), "the reader resolves blobs before the fold"
    group = state.step(name)
    chosen(state, name)
    group.status = StepStatus.EXPANDED
    fan = state.fans[name] = Fan(
        items=data.items,
        max_parallel=data.max_parallel or len(data.items),
        max_failures=data.max_failures,
        open=len(data.items),
    )
    for item in data.items:
        member = instance(name, item)
        step = state.steps[member] = anew(state.former.pop(member, None))
        step.kind = group.kind
    state.open_steps += len(data.items)
    for former in state.once.pop(name, ()):  # successes of items that are none any more
        if former not in state.steps and former in state.past:
            state.gone.setdefault(state.past[former].key, []).append(former)
    _hand_out(state, name, fan)


def settled(state: JobState, member: str, *, failed: bool = False) -> bool:
    """Take in that an instance has ended, and return whether the group can bear it.

    A failure within `max_failures` is the group's matter; one more is the job's.
    """
    name = base_of(member)
    fan = state.fans.get(name)
    if fan is None:
        return False
    fan.open -= 1
    fan.failed += failed
    _hand_out(state, name, fan)
    return fan.failed <= fan.max_failures


def _hand_out(state: JobState, name: str, fan: Fan) -> None:
    """Make instances ready, as many as may be under way at once; after the last, the group."""
    ended = len(fan.items) - fan.open
    while fan.handed < min(len(fan.items), ended + fan.max_parallel):
        offer(state, instance(name, fan.items[fan.handed]))
        fan.handed += 1
    if not fan.open:
        offer(state, name)
