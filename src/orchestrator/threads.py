"""Threads for sync functions, which never keep the process from ending.

A thread can't be ended from outside. A function that hangs must not hang the process too when
everything else is done: so the threads are daemons, and one that outlives its attempt is left
alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

import anyio.to_thread


class _Call(NamedTuple):
    context: contextvars.Context
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    done: Callable[[Any, BaseException | None], None]


class Threads:
    """Threads that are used again; there are as many as calls overlap.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Call | None]] = []
        self._closed = False

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Return what `fn(*args)` returns; on cancellation the call goes on, unheeded.

        The function sees the caller's context variables.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # another kind of event loop than asyncio's
            return await anyio.to_thread.run_sync(fn, *args, abandon_on_cancel=True)
        future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        work = self._idle.pop() if self._idle else self._start()

        def arrived(value: Any, error: BaseException | None) -> None:
            if self._closed:
                work.put(None)
            else:
                self._idle.append(work)
            if not future.done():
                future.set_result((value, error))

        def done(value: Any, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(arrived, value, error)

        work.put(_Call(contextvars.copy_context(), fn, args, done))
        value, error = await future
        if error is not None:
            try:
                raise error
            finally:
                error = None  # else the traceback and this frame hold each other
        return value

    def close(self) -> None:
        """End the threads that do nothing, and each other one as soon as its call returns."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)

    @staticmethod
    def _start() -> SimpleQueue[_Call | None]:
        queue: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=_serve, args=(queue,), name="orch step", daemon=True).start()
        return queue


def _serve(queue: SimpleQueue[_Call | None]) -> None:
    while (call := queue.get()) is not None:
        value, error = None, None
        try:
            value = call.context.run(call.fn, *call.args)
        except BaseException as raised:  # noqa: BLE001 - the caller is told
            error = raised
        try:
            call.done(value, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more, or gives this thread more to do
        del call, value, error  # a waiting thread keeps nothing of a step alive
