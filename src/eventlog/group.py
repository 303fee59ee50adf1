"""Many appenders, one sync: how appends that come at the same time become one batch.

A batch is written as soon as the sync before it has returned, with whatever has come by then:
nobody waits for a timer. The first to come leads: it commits for all that have come, then hands
the lead to one of those that came meanwhile. This is for threads; `aio` does it for tasks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import EventLogError, LogPoisoned
from .event import Event

MAX_EVENTS = 256
"""In one batch; a single append may bring more."""

Events = tuple[Event | Mapping[str, Any], ...]
Append = tuple[Events, int | None]
"""The events of one append, and their time in nanoseconds, None for the clock's."""
Outcome = range | BaseException
Commit = Callable[[Sequence[Append]], list[Outcome]]
"""Takes appends; returns for each its seqs, or why nothing of it was written. Raises if all
failed together."""


class Waiting:
    """One append that waits for its batch."""

    __slots__ = ("append", "leads", "outcome", "wake")

    def __init__(self, append: Append) -> None:
        self.append = append
        self.outcome: Outcome | None = None
        self.leads = False
        self.wake: Callable[[], object] | None = None

    def result(self) -> range:
        """Return the seqs, or raise what went wrong."""
        assert self.outcome is not None, "every append gets an outcome before it is woken"
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def take(waiting: deque[Waiting]) -> list[Waiting]:
    """Take the next batch off the queue, which is not empty."""
    batch = [waiting.popleft()]
    events = len(batch[0].append[0])
    while waiting and events + len(waiting[0].append[0]) <= MAX_EVENTS:
        batch.append(waiting.popleft())
        events += len(batch[-1].append[0])
    return batch


def settle(commit: Commit, batch: Sequence[Waiting]) -> None:
    """Commit a batch; whatever happens, each append of it gets an outcome."""
    try:
        outcomes: list[Outcome] = commit([one.append for one in batch])
    except BaseException as error:  # noqa: BLE001 - it is raised where the appends wait
        outcomes = [error, *(_again(error) for _ in batch[1:])]
    for one, outcome in zip(batch, outcomes, strict=True):
        one.outcome = outcome


def _again(error: BaseException) -> EventLogError:
    """Return an error of its own for each that waits: two threads can't raise the same one."""
    if isinstance(error, EventLogError):
        return type(error)(
            error.message,
            path=error.path,
            seq=error.seq,
            offset=error.offset,
            hint=error.hint,
        )
    return LogPoisoned(f"the append that this one was batched with ended with {error!r}")


class Group:
    """For threads that share a log.

    Args:
        commit: writes a batch, durable on return.
    """

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._waiting: deque[Waiting] = deque()
        self._mutex = threading.RLock()  # a signal handler may come in while it is held
        self._led = False
        self._leader = 0

    def append(self, append: Append) -> range:
        """Return the seqs when the batch is durable, or raise what went wrong."""
        me = Waiting(append)
        if self._leader == threading.get_ident():
            # From within an append of this thread (a signal handler): it can't wait for itself.
            settle(self._commit, [me])
            return me.result()
        woken: threading.Event | None = None
        with self._mutex:
            self._waiting.append(me)
            if self._led:
                woken = threading.Event()
                me.wake = woken.set
            else:
                self._leader = threading.get_ident()
                self._led = me.leads = True
        if woken is not None:
            woken.wait()
        if me.leads:
            self._lead()
        return me.result()

    def _lead(self) -> None:
        """Commit what has come, which begins with this thread's own, and hand on the lead."""
        self._leader = threading.get_ident()
        with self._mutex:
            batch = take(self._waiting)
        try:
            settle(self._commit, batch)
        finally:
            with self._mutex:
                self._leader = 0
                if self._waiting:
                    heir = self._waiting[0]
                    heir.leads = True
                    batch.append(heir)
                else:
                    self._led = False
            for one in batch:
                if one.wake is not None:
                    one.wake()
