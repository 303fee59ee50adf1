"""What a job may spend on calls of models, and what it has spent: over all its legs. Pure.

A call's cost is known only when it has ended. So a call *reserves* what it may take at most
before it is sent, and *settles* with what the provider counted. A call that never ended keeps its
reservation: it may have been paid for. Simulated calls count for nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from . import money
from .errors import FailureKind

if TYPE_CHECKING:
    from .events import Answered, Asked

UNSURE = frozenset((FailureKind.TIMEOUT, FailureKind.NETWORK, FailureKind.CANCELLED))
"""Failures after which nobody knows what the provider did."""

LIMITS = ("calls", "tokens", "cost_usd")


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job may spend in all; None for no limit. `cost_usd` is a plain decimal number."""

    cost_usd: str | None = None
    tokens: int | None = None
    calls: int | None = None

    @property
    def limits(self) -> dict[str, Decimal]:
        """The limits that there are, by name."""
        found = {name: getattr(self, name) for name in LIMITS}
        return {name: Decimal(value) for name, value in found.items() if value is not None}


class Amounts(msgspec.Struct, kw_only=True):
    """Calls, tokens (in and out) and dollars; what is not known counts for nothing here."""

    calls: int = 0
    tokens: int = 0
    usd: Decimal = Decimal(0)

    def of(self, limit: str) -> Decimal:
        """Return the amount that a limit is about."""
        return self.usd if limit == "cost_usd" else Decimal(getattr(self, limit))

    def plus(self, other: Amounts) -> Amounts:
        """Return the sum."""
        return Amounts(
            calls=self.calls + other.calls,
            tokens=self.tokens + other.tokens,
            usd=money.EXACT.add(self.usd, other.usd),
        )


class Spending(msgspec.Struct, kw_only=True):
    """What the events of a job say of its calls.

    Attributes:
        settled: calls whose end is recorded, and lost ones at what they had reserved.
        open: by step, what the call under way has reserved.
    """

    settled: Amounts = msgspec.field(default_factory=Amounts)
    open: dict[str, Amounts] = msgspec.field(default_factory=dict)

    def asked(self, step: str, data: Asked) -> None:
        """Take in that a call begins; one of this step that has no end is lost."""
        self.lost(step)
        if not data.simulated:
            usd = money.amount(data.reserved_usd) or Decimal(0)
            self.open[step] = Amounts(calls=1, tokens=data.reserved_tokens or 0, usd=usd)

    def answered(self, step: str, data: Answered) -> None:
        """Take in how a call ended."""
        if data.simulated:
            return
        reserved = self.open.pop(step, Amounts(calls=1))
        known = money.amount(data.cost_usd)
        counted = tokens_of(data.tokens_in, data.tokens_out)
        if not data.success:
            took = failed(reserved, data.kind)
        else:
            took = succeeded(reserved, counted, known)
        self.settled = self.settled.plus(took)

    def lost(self, step: str) -> None:
        """Count a call that has no end at what it had reserved."""
        if step in self.open:
            self.settled = self.settled.plus(self.open.pop(step))

    def total(self) -> Amounts:
        """Return what is spent when no call is under way any more."""
        total = self.settled
        for reserved in self.open.values():
            total = total.plus(reserved)
        return total


def tokens_of(tokens_in: int | None, tokens_out: int | None) -> int | None:
    """Return what a provider counted, if it counted both."""
    return None if tokens_in is None or tokens_out is None else tokens_in + tokens_out


def succeeded(reserved: Amounts, tokens: int | None, usd: Decimal | None) -> Amounts:
    """Return what an answered call took: what was counted, else what it had reserved."""
    return Amounts(
        calls=1,
        tokens=reserved.tokens if tokens is None else tokens,
        usd=reserved.usd if usd is None else usd,
    )


def failed(reserved: Amounts, kind: str) -> Amounts:
    """Return what a failed call took: nothing, unless nobody knows what the provider did."""
    return reserved if kind in UNSURE else Amounts(calls=1)
