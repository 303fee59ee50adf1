"""The gate that every call of a model goes through: it waits here, not at the server.

One gate a provider and one a model of it, first come, first served. What a call waited, and for
what, is told, so that it is not taken for work. The clock is the event loop's.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from ..errors import FailureKind, StepError
from ..retry import RETRY_AFTER_MAX_S
from .base import Provider, Reply, Request
from .limits import Breaker, Limits, ProviderLimits, Window

CHARS_A_TOKEN = 4
"""For the estimate of a call that has not been counted yet."""

CONCURRENCY = "concurrency"
RATE = "rate"
BREAKER = "breaker"
ASKED = "retry_after"

Warn = Callable[[str], None]


class NotCalled(Exception):
    """A call that was refused at the gate; `error` says why."""

    def __init__(self, error: StepError) -> None:
        super().__init__(error.message)
        self.error = error


class Passage:
    """One call on its way through.

    Attributes:
        waited_s: before it could go.
        waited_for: what it waited for longest: `concurrency`, `rate`, `breaker` or `retry_after`;
            empty for nothing.
    """

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.waited_for = ""
        self.outcome: Reply | StepError | None = None
        self._waits: dict[str, float] = {}

    def ended(self, outcome: Reply | StepError) -> None:
        """Tell what came of it; without this the call was cancelled."""
        self.outcome = outcome

    def waited(self, cause: str, seconds: float) -> None:
        """Add to what it has waited."""
        if seconds > 0:
            self._waits[cause] = self._waits.get(cause, 0.0) + seconds
            self.waited_s = sum(self._waits.values())
            self.waited_for = max(self._waits, key=lambda name: self._waits[name])

    @property
    def kind(self) -> FailureKind | None:
        """The failure's kind; None for an answer."""
        if self.outcome is None:
            return FailureKind.CANCELLED
        return self.outcome.kind if isinstance(self.outcome, StepError) else None

    @property
    def tokens(self) -> int | None:
        """What the provider counted, if it did."""
        if not isinstance(self.outcome, Reply):
            return None
        usage = self.outcome.usage
        counts = [count for count in (usage.tokens_in, usage.tokens_out) if count is not None]
        return sum(counts) if counts else None


class Gates:
    """The gates of one job.

    Args:
        limits: by provider.
        warn: told when a server is left alone.
    """

    def __init__(
        self, limits: Mapping[str, ProviderLimits] | None = None, warn: Warn | None = None
    ) -> None:
        self._limits = limits or {}
        self._warn = warn or (lambda _: None)
        self._gates: dict[tuple[str, str, str], _Gate] = {}

    @asynccontextmanager
    async def passage(self, provider: Provider, request: Request) -> AsyncIterator[Passage]:
        """Wait until a call may go, and count it while the block runs.

        Raises:
            NotCalled: the server has failed so often that it is not even tried.
        """
        passage = Passage()
        tokens = estimate(request)
        async with AsyncExitStack() as stack:
            # The model's gate comes first: who waits there keeps no other model waiting.
            for gate in self._of(provider, request.model):
                await stack.enter_async_context(gate.passing(passage, tokens))
            yield passage

    def _of(self, provider: Provider, model: str) -> list[_Gate]:
        limits = self._limits.get(provider.name, ProviderLimits())
        at = f"{provider.name} at {provider.base_url}" if provider.base_url else provider.name
        gates = []
        for name, own in ((model, limits.models.get(model, Limits())), ("", limits)):
            key = (provider.name, provider.base_url, name)
            if key not in self._gates:
                watched = bool(name) and not provider.simulated
                place = f"{at}, model {name}" if name else at
                self._gates[key] = _Gate(own, place, self._warn, watched=watched)
            gates.append(self._gates[key])
        return gates


class _Gate:
    def __init__(self, limits: Limits, place: str, warn: Warn, *, watched: bool) -> None:
        self._place = place
        self._warn = warn
        self._line = anyio.Lock()  # whoever holds it is the next to go
        self._window = Window(limits)
        self._breaker = Breaker() if watched else None
        self._free = math.inf if limits.concurrency is None else limits.concurrency
        self._asked_until_s = -math.inf
        self._changed = anyio.Event()
        self._blocked = ("", -math.inf)  # what the line last stood still for, and until when

    @asynccontextmanager
    async def passing(self, passage: Passage, tokens: int) -> AsyncIterator[None]:
        came_s = anyio.current_time()
        # Who refuses, refuses those who stand in line too: each as its turn comes, at once.
        async with self._line:
            cause, until_s = self._blocked
            passage.waited(cause, until_s - came_s)
            await self._wait(passage, tokens)
            call = self._window.enter(anyio.current_time(), tokens)
            probe = self._breaker.enter() if self._breaker else False
            self._free -= 1
        try:
            yield
        finally:
            self._free += 1
            if passage.tokens is not None:
                self._window.settle(call, passage.tokens)
            self._learn(passage, probe=probe)
            self._changed.set()
            self._changed = anyio.Event()

    async def _wait(self, passage: Passage, tokens: int) -> None:
        """Wait at the head of the line."""
        while True:
            now_s = anyio.current_time()
            if self._breaker is not None and self._breaker.refuses(now_s):
                raise NotCalled(self._refused(self._breaker, now_s))
            waits = {
                CONCURRENCY: 0.0 if self._free > 0 else math.inf,
                RATE: self._window.wait_s(now_s, tokens),
                BREAKER: self._breaker.wait_s(now_s) if self._breaker else 0.0,
                ASKED: max(self._asked_until_s - now_s, 0.0),
            }
            cause = max(waits, key=lambda name: waits[name])
            if waits[cause] <= 0:
                return
            with anyio.move_on_after(waits[cause]):
                await self._changed.wait()
            self._blocked = (cause, anyio.current_time())
            passage.waited(cause, self._blocked[1] - now_s)

    def _learn(self, passage: Passage, *, probe: bool) -> None:
        now_s = anyio.current_time()
        outcome = passage.outcome
        if isinstance(outcome, StepError) and outcome.kind in (
            FailureKind.RATE_LIMIT,
            FailureKind.OVERLOADED,
        ):
            asked_s = min(outcome.retry_after_s or 0.0, RETRY_AFTER_MAX_S)
            self._asked_until_s = max(self._asked_until_s, now_s + asked_s)
        if self._breaker is not None and self._breaker.leave(now_s, passage.kind, probe=probe):
            self._warn(
                f"note: {self._place}: {self._breaker.failed} calls in a row have failed "
                f"({self._breaker.last}); the next one is tried in "
                f"{self._breaker.due_in_s(now_s):g} s"
            )

    def _refused(self, breaker: Breaker, now_s: float) -> StepError:
        due_s = breaker.due_in_s(now_s)
        return StepError(
            f"{self._place}: not called, after {breaker.failed} failures in a row "
            f"(the last: {breaker.last})",
            kind=breaker.last or FailureKind.OVERLOADED,
            hint="see that the server works, then resume the job",
            retry_after_s=due_s,
        )


def estimate(request: Request) -> int:
    """Return how many tokens a call will take: a guess, until the provider has counted."""
    characters = sum(len(message.content) for message in request.messages)
    most = request.options.get("max_tokens")
    return characters // CHARS_A_TOKEN + 1 + (most if isinstance(most, int) and most > 0 else 0)
