"""What calls cost, summed by job, step, model or day: a fold over the events of jobs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from eventlog import Record

from . import events as ev
from . import money

Recount = Callable[[str, str, Any, str], Decimal | None]
"""`recount(provider, model, usage, base_url)`: what a call would cost at other prices."""

DIMENSIONS = ("job", "step", "model", "day")


class Line(NamedTuple):
    """A call or a hit, as it counts."""

    job: str
    step: str
    model: str
    day: str


class Sum(msgspec.Struct, kw_only=True):
    """Sums over calls and hits.

    Attributes:
        calls: that were answered; `failed` others were not, and what they cost is not known.
        unpriced: of `calls`: their cost is not known, and not in `cost_usd`.
        saved_usd: what hits would have cost, of those whose price is known.
        simulated: calls and hits of the `offline` provider, which count nowhere else.
    """

    calls: int = 0
    failed: int = 0
    hits: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: Decimal | None = None
    unpriced: int = 0
    saved_usd: Decimal | None = None
    simulated: int = 0


class Spending:
    """Takes in events of jobs and sums them up.

    Args:
        by: the dimensions of a row, out of `DIMENSIONS`.
        recount: prices every call anew; without it, what was recorded counts.
    """

    def __init__(self, by: Iterable[str], recount: Recount | None = None) -> None:
        self._by = tuple(by)
        self._recount = recount
        self.total = Sum()
        self.rows: dict[tuple[str, ...], Sum] = {}

    def take(self, job_id: str, records: Iterable[Record[Any]]) -> None:
        """Count the calls and hits of one job."""
        sent_to: dict[tuple[str, str], str] = {}
        for record in records:
            match record.event:
                case ev.LLMRequest(step=step, data=asked):
                    sent_to[step, asked.cache_key] = asked.base_url
                case ev.LLMResponse(step=step, data=data):
                    base_url = sent_to.get((step, data.cache_key), "")
                    for row in self._sums(job_id, step, data, record.ts):
                        self._call(row, data, base_url)
                case ev.CacheHit(step=step, data=hit):
                    for row in self._sums(job_id, step, hit, record.ts):
                        self._hit(row, hit)
                case _:
                    pass

    def _sums(
        self, job_id: str, step: str, data: ev.Answered | ev.CacheHitData, ts: str
    ) -> tuple[Sum, ...]:
        if data.simulated:
            self.total.simulated += 1
            return ()
        model = f"{data.provider}/{data.model}"
        line = Line(job=job_id, step=step, model=model, day=ts[:10])
        key = tuple(getattr(line, name) for name in self._by)
        return self.rows.setdefault(key, Sum()), self.total

    def _call(self, row: Sum, data: ev.Answered, base_url: str) -> None:
        row.tokens_in = _more(row.tokens_in, data.tokens_in)
        row.tokens_out = _more(row.tokens_out, data.tokens_out)
        if data.success is False:
            row.failed += 1
            return
        row.calls += 1
        cost = money.amount(data.cost_usd)
        if self._recount is not None:
            cost = self._priced(data, base_url)
        row.cost_usd = money.add(row.cost_usd, cost)
        row.unpriced += cost is None

    def _hit(self, row: Sum, hit: ev.CacheHitData) -> None:
        row.hits += 1
        saved = money.amount(hit.saved_usd)
        if self._recount is not None:
            usage = _Usage(hit.tokens_in, hit.tokens_out)
            saved = self._recount(hit.provider, hit.model, usage, hit.base_url)
        row.saved_usd = money.add(row.saved_usd, saved)

    def _priced(self, data: ev.Answered, base_url: str) -> Decimal | None:
        assert self._recount is not None
        for model in filter(None, (data.model, data.response_model)):
            cost = self._recount(data.provider, model, data, base_url)
            if cost is not None:
                return cost
        return None


class _Usage(NamedTuple):
    """What a hit tells of the tokens of its call."""

    tokens_in: int | None
    tokens_out: int | None
    tokens_cache_read: int | None = None
    tokens_cache_write: int | None = None


def _more(sum_: int | None, tokens: int | None) -> int | None:
    return sum_ if tokens is None else (sum_ or 0) + tokens
