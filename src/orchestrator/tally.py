"""What calls of models add up to: how many, how long, tokens and money. Pure."""

from __future__ import annotations

from . import events as ev
from . import money
from .status import Totals


def count(totals: Totals, event: ev.LLMResponse | ev.CacheHit | ev.CacheMiss) -> None:
    """Add one call, or one look into the cache, to a job's totals."""
    match event:
        case ev.LLMResponse(data=data):
            _answered(totals, data)
        case ev.CacheHit(data=data):
            totals.hits += 1
            totals.simulated_hits += data.simulated
            totals.saved_usd = money.add(totals.saved_usd, money.amount(data.saved_usd))
        case ev.CacheMiss():
            totals.misses += 1


def _answered(totals: Totals, data: ev.Answered) -> None:
    totals.calls += 1
    totals.llm_s += data.duration_s
    totals.simulated += data.simulated
    totals.failed_calls += data.success is False
    cost = money.amount(data.cost_usd)
    totals.cost_usd = money.add(totals.cost_usd, cost)
    totals.unpriced += cost is None and data.success is True and not data.simulated
    if data.tokens_in is not None:
        totals.tokens_in = (totals.tokens_in or 0) + data.tokens_in
    if data.tokens_out is not None:
        totals.tokens_out = (totals.tokens_out or 0) + data.tokens_out
