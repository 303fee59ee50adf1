"""Equal work at the same time is done once: the first one works, the others wait for its result.

Only a success is shared, and not by this module: whoever gets the turn looks first whether the
result is there by now. So a follower whose leader has failed, timed out or was cancelled does
the work itself, and the next one waits for it in turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Flights:
    """Turns by key; a key is forgotten when nobody works on it or waits for it."""

    def __init__(self) -> None:
        self._turns: dict[str, tuple[anyio.Lock, list[int]]] = {}

    def __len__(self) -> int:
        return len(self._turns)

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Hold the key's turn."""
        lock, users = self._turns.setdefault(key, (anyio.Lock(), [0]))
        users[0] += 1
        try:
            async with lock:
                yield
        finally:
            users[0] -= 1
            if not users[0]:
                del self._turns[key]
