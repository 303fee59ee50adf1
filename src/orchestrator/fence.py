"""Whether the code that runs now belongs to an attempt that is over.

A thread can't be ended from outside, and a task may have started others: what they do through
this package once their attempt is over is refused instead. The mark is a context variable, so
that tasks, and threads that are given the context, carry it on.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Self

from .errors import OrchestratorError


class AttemptOver(OrchestratorError):
    """An attempt that timed out, was cancelled or has ended tried to write."""


class Fence:
    """One attempt's permission to write, which ends with it.

    Args:
        job_id: of the job that it belongs to.
        step: its name.
        attempt: its number.
    """

    __slots__ = ("_token", "attempt", "job_id", "over", "step")

    def __init__(self, job_id: str, step: str, attempt: int) -> None:
        self.job_id = job_id
        self.step = step
        self.attempt = attempt
        self.over = False
        self._token: Token[Fence | None] | None = None

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        if self._token is not None:
            _CURRENT.reset(self._token)


_CURRENT: ContextVar[Fence | None] = ContextVar("orchestrator_attempt", default=None)


def current() -> Fence | None:
    """Return the fence of the attempt that the calling code belongs to, if to any."""
    return _CURRENT.get()


def check(operation: str) -> None:
    """Refuse an operation of an attempt that is over.

    Raises:
        AttemptOver: naming the step and the attempt.
    """
    fence = _CURRENT.get()
    if fence is not None and fence.over:
        raise AttemptOver(
            f"can't {operation}: attempt {fence.attempt} of step {fence.step} is over",
            place=f"{fence.job_id}, step {fence.step}",
            hint="it timed out, was cancelled, or has returned; nothing of it is recorded any more",
        )
