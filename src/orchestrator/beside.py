"""Do a piece of blocking work in a thread while something else is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread


@asynccontextmanager
async def beside(work: Callable[[], object]) -> AsyncIterator[None]:
    """Run `work` in a thread while the block runs, and wait for both.

    What the block raises comes first; then what `work` raised. A cancellation waits until the
    work is done, so that nothing is left half written.
    """
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    raised: BaseException | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(in_thread, guarded)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a task group would wrap it
            raised = error
    if raised is not None:
        raise raised
    if failed:
        raise failed[0]


async def in_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread and wait for it, whatever is cancelled meanwhile.

    Syncs of many calls that end at the same time share what the disk does for them; in the event
    loop each would wait for the one before, and everything else with it.
    """
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(work)
