"""The tasks that perform a leg's attempts: begun one by one, ended together, waited for.

What an anyio task group does, for a fraction of its cost: a group makes a handle, an event, a
scope and a wrapper for each task, which for steps that do little is more than all the rest of
the runner's work. Here a task has a cancel scope, and so anyio's cancellation (which comes again
until it is obeyed), and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import anyio
import anyio.abc

T = TypeVar("T")


class Crew:
    """Tasks of one event loop, as `crew` hands it out.

    Args:
        loop: the running one, if it is asyncio's.
        group: begins the tasks otherwise.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None, group: anyio.abc.TaskGroup | None
    ) -> None:
        self.body = anyio.CancelScope()
        self.failure: BaseException | None = None
        self._loop = loop
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()  # else they may be collected
        self._scopes: set[anyio.CancelScope] = set()
        self._left = 0
        self._none_left: anyio.Event | None = None
        self._cancelled = False

    def start(self, run: Callable[[T], Awaitable[None]], what: T) -> None:
        """Let `run(what)` begin as soon as the caller waits."""
        self._left += 1
        if self._loop is None:
            assert self._group is not None, "there is one or the other"
            self._group.start_soon(self._counted, run, what)
            return
        task = self._loop.create_task(self._one(run, what))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Cancel what runs; what has not begun yet never does."""
        self._cancelled = True
        for scope in list(self._scopes):
            scope.cancel()

    async def wait(self) -> None:
        """Return when no task is left."""
        while self._left:
            self._none_left = anyio.Event()
            await self._none_left.wait()

    async def _one(self, run: Callable[[T], Awaitable[None]], what: T) -> None:
        if self._cancelled:
            return
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await run(what)
            finally:
                self._scopes.discard(scope)

    async def _counted(self, run: Callable[[T], Awaitable[None]], what: T) -> None:
        try:
            await self._one(run, what)
        finally:
            self._one_less()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            failure = task.exception()
        else:  # by somebody who cancels all the tasks there are, before this one began
            failure = None if self._cancelled else asyncio.CancelledError()
        if failure is not None and self.failure is None:
            self.failure = failure
            self.body.cancel()
        self._one_less()

    def _one_less(self) -> None:
        self._left -= 1
        if not self._left and self._none_left is not None:
            self._none_left.set()


@asynccontextmanager
async def crew() -> AsyncIterator[Crew]:
    """Yield a crew, all of whose tasks have ended when the `async with` is left.

    If the body raises or is cancelled, or if one of the tasks raises, they are cancelled. What a
    task raises ends the body, and is raised as it is.
    """
    async with AsyncExitStack() as stack:
        try:
            made = Crew(asyncio.get_running_loop(), None)
        except RuntimeError:  # another kind of event loop than asyncio's
            made = Crew(None, await stack.enter_async_context(anyio.create_task_group()))
        with made.body:
            try:
                yield made
                await made.wait()
            except BaseException:
                made.cancel()
                with anyio.CancelScope(shield=True):
                    await made.wait()
                raise
    if made.failure is not None:
        raise made.failure
