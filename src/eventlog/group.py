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

LOOK_S = 0.5
"""How long a thread waits before it looks whether a signal has come."""

Events = tuple[Event | Mapping[str, Any], ...]
Append = tuple[Events, int | None]
"""The events of one append, and their time in nanoseconds, None for the clock's."""
Outcome = range | BaseException
Commit = Callable[[Sequence[Append]], list[Outcome]]
"""Takes appends; returns for each its seqs, or why nothing of it was written. Raises if all
failed together."""


class Waiting:
    """One append that waits for its batch."""

    __slots__ = ("append", "outcome", "wake")

    def __init__(self, append: Append) -> None:
        self.append = append
        self.outcome: Outcome | None = None
        self.wake: Callable[[], object] | None = None

    def rouse(self) -> None:
        """Let it go on, if it waits; more than once is fine."""
        if self.wake is not None:
            self.wake()

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
        self._batch: list[Waiting] = []
        self._mutex = threading.RLock()  # a signal handler may come in while it is held
        self._first: Waiting | None = None  # who leads: one assignment hands it on
        self._inside: set[int] = set()  # threads with an append under way

    def append(self, append: Append) -> range:
        """Return the seqs when the batch is durable, or raise what went wrong.

        What a signal raises (Ctrl-C) while others commit takes the append off the queue, or
        leaves it to them; it never leaves them without a leader.
        """
        me = Waiting(append)
        thread = threading.get_ident()
        if thread in self._inside:
            # From within an append of this thread (a signal handler): it can't wait for itself.
            settle(self._commit, [me])
            return me.result()
        self._inside.add(thread)
        try:
            woken = self._join(me)
            while woken is not None and not woken.wait(LOOK_S):
                pass  # a signal that comes as the wait begins is seen when it ends, and not before
            if self._first is me:
                self._lead()
        except BaseException as error:
            self._leave(me, error)
            raise
        finally:
            self._inside.discard(thread)
        return me.result()

    def _join(self, me: Waiting) -> threading.Event | None:
        """Queue up; return what to wait for, None for the one who leads."""
        woken: threading.Event | None = None
        with self._mutex:
            if self._first is None:
                self._first = me
            else:
                woken = threading.Event()
                me.wake = woken.set
            self._waiting.append(me)
        return woken

    def _lead(self) -> None:
        """Commit what has come, which begins with this thread's own, and hand on the lead."""
        with self._mutex:
            self._batch = take(self._waiting)
        settle(self._commit, self._batch)
        self._hand_on()

    def _hand_on(self) -> None:
        """Wake those whose batch this was, and the next to lead; may be done again."""
        with self._mutex:
            for one in self._batch:
                one.rouse()
            self._batch = []
            self._first = self._waiting[0] if self._waiting else None
            if self._first is not None:
                self._first.rouse()

    def _leave(self, me: Waiting, error: BaseException) -> None:
        """Go without an outcome, and let the others go on."""
        with self._mutex:
            if me in self._waiting:
                self._waiting.remove(me)
            if self._first is me:
                for one in self._batch:
                    if one.outcome is None:
                        one.outcome = _again(error)
                self._hand_on()
            elif self._first is not None:
                self._first.rouse()
