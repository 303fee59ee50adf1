"""How the beginning of a leg is written: a large graph goes to a blob, the line names it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from eventlog import Event

from .blobs import BlobStore
from .events import JobResumed, JobStarted
from .outputs import INLINE_MAX_BYTES


def as_written(blobs: BlobStore) -> Callable[[Event], Event]:
    """Return how events are written: as they are, but for a graph that is too large for a line.

    `history` undoes it when the log is read. The blob is durable before the line.
    """

    def written(event: Event) -> Event:
        if not isinstance(event, JobStarted | JobResumed):
            return event
        encoded = msgspec.json.encode(event.data.steps)
        if len(encoded) <= INLINE_MAX_BYTES:
            return event
        data = msgspec.structs.replace(event.data, steps=blobs.put(encoded))
        return msgspec.structs.replace(event, data=data)

    return written
