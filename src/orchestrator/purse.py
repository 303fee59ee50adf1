"""The purse of a leg: each call of a model takes from it what it may cost, before it is sent.

A call goes if what is spent, what other calls under way have reserved and what it may take
itself fit into every limit of the budget. It waits if that would fit once the others have
settled, and it is refused if it would not fit even then: so a budget is not passed, at any
concurrency.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import msgspec

from . import budget as b
from . import events as ev
from .errors import ConfigError, FailureKind, StepError
from .money import dollars
from .prices import PriceTable
from .providers.base import Provider, Reply, Request, Usage
from .providers.gate import NotCalled
from .spec.model import Spec
from .steps.answer import quote_of
from .steps.base import Attempt

OUT_TOKENS = 4096
"""What a call without `max_tokens` is taken to answer at most."""
BESIDE_TOKENS = 256
"""Of a request, beside its own bytes: what a server puts around the messages."""
LOCAL = ("ollama", "mlx")
"""Providers that run on one's own machine: a call without a price costs no money."""

_MOST = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict")


class Hold:
    """What one call has reserved.

    Attributes:
        amounts: at most.
        sent: whether the call was begun.
        outcome: what came of it; None for a call that has no end.
    """

    def __init__(self, amounts: b.Amounts, *, counted: bool) -> None:
        self.amounts = amounts
        self.counted = counted
        self.sent = False
        self.outcome: Reply | StepError | None = None

    def told(self, asked: ev.Asked) -> ev.Asked:
        """Return the call's event with what is reserved for it."""
        self.sent = True
        if not self.counted:
            return asked
        return msgspec.structs.replace(
            asked,
            reserved_tokens=self.amounts.tokens,
            reserved_usd=dollars(self.amounts.usd) if self.amounts.usd else None,
        )


class Purse:
    """Keeps the calls of one leg within a budget.

    Args:
        budget: of the job.
        spent: returns what the job has spent before this leg; asked when the first call comes.
        prices: what calls cost.
        warn: told what the user should know.
    """

    def __init__(
        self,
        budget: b.Budget,
        spent: Callable[[], b.Amounts],
        prices: PriceTable,
        warn: Callable[[str], None],
    ) -> None:
        self._limits = budget.limits
        self._before = spent
        self._prices = prices
        self._warn = warn
        self._spent: b.Amounts | None = None
        self._reserved = b.Amounts()
        self._changed = anyio.Event()
        self._told: set[str] = set()

    @property
    def spent(self) -> b.Amounts:
        """What the job has spent, over all legs."""
        if self._spent is None:
            self._spent = self._before()
        return self._spent

    @asynccontextmanager
    async def hold(
        self,
        provider: Provider,
        request: Request,
        model: str,
        body: Mapping[str, Any],
        attempt: Attempt,
    ) -> AsyncIterator[Hold]:
        """Reserve what a call may take, and settle when it has ended.

        Args:
            provider: who is called.
            request: what is asked.
            model: as events name it.
            body: what is sent: its `messages` and `options` bound the tokens in.
            attempt: of the step that calls.

        Raises:
            NotCalled: kind `budget`; the event says which limit would be passed.
        """
        if not self._limits or provider.simulated:
            yield Hold(b.Amounts(), counted=False)
            return
        need = self._need(provider, request, model, body, attempt.step)
        await self._admitted(need, attempt)
        hold = Hold(need, counted=True)
        self._reserved = self._reserved.plus(need)
        try:
            yield hold
        finally:
            self._settle(hold, provider, request, model)

    def _need(
        self,
        provider: Provider,
        request: Request,
        model: str,
        body: Mapping[str, Any],
        step: str,
    ) -> b.Amounts:
        encoded = msgspec.json.encode([body.get("messages"), body.get("options")])
        tokens_in = len(encoded) + BESIDE_TOKENS  # no token is shorter than a byte
        tokens_out = most_out(request, body)
        if tokens_out is None:
            tokens_out = OUT_TOKENS
            if "cost_usd" in self._limits or "tokens" in self._limits:
                self._once(
                    f"note: step {step} sets no max_tokens: the budget reserves {OUT_TOKENS:,}"
                    " output tokens for each of its calls, and a longer answer could pass it"
                )
        usd = Decimal(0)
        if "cost_usd" in self._limits:
            usd = self._price(provider, request, model, tokens_in, tokens_out)
        return b.Amounts(calls=1, tokens=tokens_in + tokens_out, usd=usd)

    def _price(
        self, provider: Provider, request: Request, model: str, tokens_in: int, tokens_out: int
    ) -> Decimal:
        usd = priced(self._prices, provider, request, model, tokens_in, tokens_out)
        if usd is not None:
            return usd
        try:
            unpriced(provider, model, self._once)
        except ConfigError as error:
            raise NotCalled(
                StepError(error.message, kind=FailureKind.BUDGET, hint=error.hint)
            ) from error
        return Decimal(0)

    async def _admitted(self, need: b.Amounts, attempt: Attempt) -> None:
        """Wait until there is room for a call, or refuse it."""
        while True:
            waits = False
            for limit, allowed in self._limits.items():
                if self.spent.of(limit) + need.of(limit) > allowed:
                    await self._refuse(limit, allowed, need, attempt)
                reserved = self._reserved.of(limit)
                waits = waits or self.spent.of(limit) + reserved + need.of(limit) > allowed
            if not waits:
                return
            await self._changed.wait()  # a call under way has a limit of time, and then settles

    async def _refuse(
        self, limit: str, allowed: Decimal, need: b.Amounts, attempt: Attempt
    ) -> None:
        spent = self.spent.of(limit)
        exceeded = ev.Exceeded(
            limit=limit, allowed=f"{allowed:f}", spent=f"{spent:f}", needed=f"{need.of(limit):f}"
        )
        if limit not in self._told:
            self._told.add(limit)
            await attempt.emit(ev.BudgetExceeded(step=attempt.step, data=exceeded), wait=False)
        unit = "dollars" if limit == "cost_usd" else limit
        raise NotCalled(
            StepError(
                f"the budget of {allowed:f} {unit} does not allow another call: {spent:f} are"
                f" spent, and it may take up to {need.of(limit):f}",
                kind=FailureKind.BUDGET,
                hint=_HINTS[limit],
            )
        )

    def _settle(self, hold: Hold, provider: Provider, request: Request, model: str) -> None:
        need, outcome = hold.amounts, hold.outcome
        if isinstance(outcome, Reply):
            usage = outcome.usage
            quote = quote_of(self._prices, provider, request, model, outcome)
            took = b.succeeded(need, b.tokens_of(usage.tokens_in, usage.tokens_out), quote.usd)
        elif outcome is not None:
            took = b.failed(need, outcome.kind)
        else:
            took = need if hold.sent else b.Amounts()
        self._reserved = b.Amounts(
            calls=self._reserved.calls - need.calls,
            tokens=self._reserved.tokens - need.tokens,
            usd=self._reserved.usd - need.usd,
        )
        self._spent = self.spent.plus(took)
        self._changed.set()
        self._changed = anyio.Event()

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._warn(text)


_HINTS = {
    "calls": "raise `calls` in the budget to go on",
    "tokens": "raise `tokens` in the budget, or lower max_tokens, to go on",
    "cost_usd": "go on with a higher --max-cost, or lower max_tokens",
}


def check_prices(
    spec: Spec,
    calls: set[str],
    connect: Callable[[str, str], Provider],
    prices: PriceTable,
    warn: Callable[[str], None],
) -> None:
    """Make sure that a budget in money can be kept, before anything runs.

    Args:
        spec: with its budget.
        calls: the steps that will surely call their model; steps with items are looked at, too.
        connect: returns the provider of a name and base URL.
        prices: what calls cost.
        warn: told of models without a price that cost no money.

    Raises:
        ConfigError: a step will call a model that has no price.
    """
    if spec.budget.cost_usd is None:
        return
    told: dict[str, None] = {}
    for name, step in spec.steps.items():
        if step.llm is None or not (name in calls or step.each):
            continue
        provider = connect(step.llm.provider, step.llm.base_url)
        request = Request(model=step.llm.model, messages=(), options={})
        known = priced(prices, provider, request, step.llm.model, 1, 1)
        if known is None and not provider.simulated:
            unpriced(provider, step.llm.model, told.setdefault)
    for text in told:
        warn(text)


def most_out(request: Request, body: Mapping[str, Any]) -> int | None:
    """Return how many tokens an answer may have, where the request says it."""
    places = [request.options]
    options = body.get("options")
    if isinstance(options, dict):
        places.append(options)
        if isinstance(options.get("options"), dict):
            places.append(options["options"])
    for place in places:
        for name in _MOST:
            value = place.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def priced(
    prices: PriceTable,
    provider: Provider,
    request: Request,
    model: str,
    tokens_in: int,
    tokens_out: int,
) -> Decimal | None:
    """Return the most that a call of so many tokens can cost, or None without a price."""
    found = []
    for written in (None, tokens_in):  # to write a vendor's cache may cost more than to read
        usage = Usage(tokens_in=tokens_in, tokens_out=tokens_out, tokens_cache_write=written)
        reply = Reply(text="", model=model, usage=usage)
        usd = quote_of(prices, provider, request, model, reply).usd
        if usd is not None:
            found.append(usd)
    return max(found, default=None)


def unpriced(provider: Provider, model: str, warn: Callable[[str], None]) -> None:
    """Tell that a call has no price: a budget in money can't count it.

    Raises:
        ConfigError: it may cost money all the same.
    """
    if provider.name not in LOCAL:
        raise ConfigError(
            f"no price is known for {provider.name}/{model}, so a budget in dollars can't be kept",
            hint="give one with --prices FILE, or limit `tokens` or `calls` instead",
        )
    warn(
        f"note: {provider.name}/{model} has no price: its calls are not counted in the budget's"
        " dollars"
    )
