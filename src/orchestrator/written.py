"""How events are written: a large graph goes to a blob, an instance's name is set apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from eventlog import Event

from .blobs import BlobStore
from .events import JobResumed, JobStarted, StepExpanded, StepSkipped, StepStarted, StepSucceeded
from .instances import apart
from .outputs import INLINE_MAX_BYTES

_FREQUENT = frozenset((StepStarted, StepSucceeded, StepSkipped))


def as_written(blobs: BlobStore) -> Callable[[Event], Event]:
    """Return how events are written: as they are, but for what is too large for a line.

    An instance of a fan-out is `step[item]` in memory and two members in its line.

    `history` undoes it when the log is read. The blob is durable before the line.
    """

    def written(event: Event) -> Event:
        if type(event) in _FREQUENT and "[" not in event.step:  # type: ignore[attr-defined]  # events of steps
            return event
        if isinstance(event, StepExpanded):
            event = _smaller(event, "items", blobs)
        elif isinstance(event, JobStarted | JobResumed):
            return _smaller(event, "steps", blobs)
        return apart(event)

    return written


def _smaller(event: Any, member: str, blobs: BlobStore) -> Event:
    """Return an event with a long list of its data in a blob."""
    encoded = msgspec.json.encode(getattr(event.data, member))
    if len(encoded) <= INLINE_MAX_BYTES:
        return cast("Event", event)
    data = msgspec.structs.replace(event.data, **{member: blobs.put(encoded)})
    return cast("Event", msgspec.structs.replace(event, data=data))
