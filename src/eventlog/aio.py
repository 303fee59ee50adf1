"""The log for tasks: the same core, with a sync that is shared by those that append together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from .event import Event
from .group import Waiting, settle, take
from .log import Log
from .memory import MemoryLog


class AsyncLog:
    """A log that the tasks of one event loop append to.

    What the tasks that are ready have to append is one batch. It is committed in the loop itself:
    a sync costs less than the way to a thread and back, and the tasks that could run meanwhile
    are mostly those that wait for it. So nobody waits longer than one turn of the loop, and no
    task has to be woken by another.

    Args:
        log: open, in a file or in memory; `aclose` closes it.
    """

    def __init__(self, log: Log | MemoryLog) -> None:
        self.log = log
        self._waiting: deque[Waiting] = deque()

    async def append(self, *events: Event | Mapping[str, Any], time_ns: int | None = None) -> range:
        """Append events in one batch and return their seqs, as `Log.append` does.

        A cancellation comes before the append is begun or after it is done, never in between,
        be it anyio's or an asyncio task's own.

        Raises:
            EventLogError: as `Log.append`.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        if not events:
            return range(self.log.next_seq, self.log.next_seq)
        me = Waiting((events, time_ns))
        self._waiting.append(me)
        try:
            # Those that are ready to append do so now; the first to come back commits for all.
            await anyio.lowlevel.checkpoint()
        except BaseException:
            if me.outcome is None:
                self._waiting.remove(me)
                raise
            # It is done. anyio cancels again at the next checkpoint; others do it once.
            if anyio.current_effective_deadline() > -math.inf:
                raise
        while me.outcome is None:
            settle(self.log.append_all, take(self._waiting))
        return me.result()

    async def aclose(self) -> None:
        """Close the log."""
        await anyio.lowlevel.cancel_shielded_checkpoint()
        self.log.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
