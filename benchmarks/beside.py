"""Run one of our shapes and the bare loop by turns; and the place for other engines."""

from __future__ import annotations

import functools
import os

import anyio
from harness import Bar, Context, Row, interleave, missing, paired
from shapes import Needs, graph, run_bare, run_ours, sample_lines

_PEERS = {
    "DBOS (SQLite)": ("dbos",),
    "LangGraph (SQLite checkpointer)": ("langgraph", "langgraph.checkpoint.sqlite"),
}
"""Other engines by name, with the modules they need. None has a driver here yet."""


def beside_bare(
    context: Context, what: str, needs: Needs, concurrency: int, rounds: int, bar: Bar
) -> Row:
    """Return the row of a shape, beside the bare loop that writes lines of the same size."""
    dag = graph(needs)
    lines = anyio.run(sample_lines, os.path.join(context.folder(), "events.jsonl"), needs)
    last: dict[str, str] = {}

    def ours() -> float:
        last["ours"] = os.path.join(context.folder(), "events.jsonl")
        return anyio.run(run_ours, dag, last["ours"], concurrency)

    def bare() -> float:
        last["bare"] = os.path.join(context.folder(), "events.jsonl")
        return anyio.run(run_bare, needs, last["bare"], concurrency, lines)

    ours()  # once unmeasured: imports, caches, the allocator
    bare()
    seconds = interleave(rounds, {"ours": ours, "bare": bare})
    size = os.path.getsize(last["ours"]) / os.path.getsize(last["bare"])
    count = len(needs)
    return paired(
        what,
        seconds["ours"],
        "bare loop",
        seconds["bare"],
        unit="us a step",
        scale=functools.partial(_us_each, count),
        bar=bar,
        note=f"bytes written {size:.3f}x the bare loop's; rounds: {rounds}",
    )


def _us_each(count: int, seconds: float) -> float:
    return seconds * 1e6 / count


def others(what: str) -> list[Row]:
    """Return a row for each other engine: why it was not measured."""
    rows = []
    for name, modules in _PEERS.items():
        why = missing(*modules) or "skipped: there is no driver for it yet"
        rows.append(Row(what=f"{what}, {name}", note=why))
    return rows
