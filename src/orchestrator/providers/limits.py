"""How much a provider may be asked, and when it is left alone: accounts over time. Pure.

Time comes in as an argument, in monotonic seconds; who waits, and how, is `gate`'s affair.
"""

from __future__ import annotations

from collections import deque

import msgspec

from ..errors import FailureKind

MINUTE_S = 60.0
OPEN_AFTER = 5
COOLDOWN_S = 5.0
COOLDOWN_MAX_S = 60.0
PATIENCE = 3
"""How often in a row a probe may fail before calls are refused instead of waiting."""

AILING = frozenset(
    (FailureKind.TIMEOUT, FailureKind.OVERLOADED, FailureKind.NETWORK, FailureKind.PROVIDER)
)
"""The kinds that say something about the server; any other says that it answers."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job may ask at most; None for no limit.

    Attributes:
        concurrency: calls at once.
        requests_per_minute: calls begun within any 60 seconds.
        tokens_per_minute: input and output tokens of the calls begun within any 60 seconds;
            what a call will take is estimated, and corrected by what the provider counted.
    """

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class ProviderLimits(Limits, frozen=True, kw_only=True, omit_defaults=True):
    """The limits of a provider, and narrower ones of single models."""

    models: dict[str, Limits] = {}


class _Call:
    __slots__ = ("at_s", "tokens")

    def __init__(self, at_s: float, tokens: int) -> None:
        self.at_s = at_s
        self.tokens = tokens


class Window:
    """The calls that were begun in the last minute.

    Never more than the limits within any 60 seconds, but for a single call that is larger than
    the token limit by itself: it waits until it is alone.
    """

    def __init__(self, limits: Limits) -> None:
        self._requests = limits.requests_per_minute
        self._tokens = limits.tokens_per_minute
        self._calls: deque[_Call] = deque()
        self._used = 0

    def wait_s(self, now_s: float, tokens: int) -> float:
        """Return how long a call that takes so many tokens must wait; 0 if it can go."""
        if self._requests is None and self._tokens is None:
            return 0.0
        self._forget(now_s)
        calls = self._calls
        wait_s = 0.0
        if self._requests is not None and len(calls) >= self._requests:
            wait_s = calls[len(calls) - self._requests].at_s + MINUTE_S - now_s
        if self._tokens is not None:
            excess = self._used + tokens - self._tokens
            for call in calls:
                if excess <= 0:
                    break
                excess -= call.tokens
                wait_s = max(wait_s, call.at_s + MINUTE_S - now_s)
        return wait_s

    def enter(self, now_s: float, tokens: int) -> _Call:
        """Count a call that begins now."""
        call = _Call(now_s, tokens)
        if self._requests is not None or self._tokens is not None:
            self._calls.append(call)
            self._used += tokens
        return call

    def settle(self, call: _Call, tokens: int) -> None:
        """Correct what a call took."""
        if self._calls and call.at_s >= self._calls[0].at_s:
            self._used += tokens - call.tokens
        call.tokens = tokens

    def _forget(self, now_s: float) -> None:
        while self._calls and self._calls[0].at_s + MINUTE_S <= now_s:
            self._used -= self._calls.popleft().tokens


class Breaker:
    """Leaves a server alone that fails again and again, and tries it with single calls.

    Closed until `OPEN_AFTER` calls in a row have failed in a way that says something about the
    server. Then open for a while, that doubles each time; then half open: one call goes as a
    probe, and its outcome closes or opens again. Calls wait meanwhile; after `PATIENCE` probes
    in vain those that come are refused at once, until a probe succeeds.
    """

    def __init__(self) -> None:
        self._failed = 0
        self._opened = 0
        self._until_s = 0.0
        self._probing = False
        self.last: FailureKind | None = None

    @property
    def open(self) -> bool:
        """Whether calls are held back, or only a probe is allowed."""
        return self._opened > 0

    @property
    def failed(self) -> int:
        """How many calls in a row have failed."""
        return self._failed

    def refuses(self, now_s: float) -> bool:
        """Tell whether waiting is in vain: too many probes have failed, and none is due."""
        return self._opened > PATIENCE and (self._probing or now_s < self._until_s)

    def wait_s(self, now_s: float) -> float:
        """Return how long a call must wait; 0 if it can go, infinity while a probe is out."""
        if not self.open:
            return 0.0
        return float("inf") if self._probing else max(self._until_s - now_s, 0.0)

    def due_in_s(self, now_s: float) -> float:
        """Return when the next probe is due."""
        return max(self._until_s - now_s, 0.0)

    def enter(self) -> bool:
        """Begin a call; return whether it is a probe."""
        if not self.open:
            return False
        self._probing = True
        return True

    def leave(self, now_s: float, kind: FailureKind | None, *, probe: bool) -> bool:
        """Learn how a call ended; return whether that has opened the breaker (again).

        Args:
            now_s: monotonic.
            kind: None for an answer; `cancelled` says nothing.
            probe: as `enter` said.
        """
        if probe:
            self._probing = False
        if kind is FailureKind.CANCELLED:
            return False
        if kind not in AILING:
            self._failed = self._opened = 0
            return False
        self._failed += 1
        self.last = kind
        if not probe and (self.open or self._failed < OPEN_AFTER):
            return False
        self._until_s = now_s + min(COOLDOWN_S * 2.0**self._opened, COOLDOWN_MAX_S)
        self._opened = min(self._opened + 1, PATIENCE + 1)
        return True
