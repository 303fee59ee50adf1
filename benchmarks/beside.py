"""Run one of our shapes and the bare loop by turns; and the place for other engines."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

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
) -> list[Row]:
    """Return the rows of a shape, beside the bare loop that writes lines of the same size.

    The second row is the processor's time alone: it hardly sees what else a machine does.
    """
    dag = graph(needs)
    lines = anyio.run(sample_lines, os.path.join(context.folder(), "events.jsonl"), needs)
    last: dict[str, str] = {}
    busy: dict[str, list[float]] = {"ours": [], "bare": []}

    def once(name: str, run: Callable[..., Awaitable[float]], *rest: Any) -> float:
        path = last[name] = os.path.join(context.folder(), "events.jsonl")
        begun = time.process_time()
        seconds = anyio.run(run, rest[0], path, *rest[1:])
        busy[name].append(time.process_time() - begun)
        return seconds

    def ours() -> float:
        return once("ours", run_ours, dag, concurrency)

    def bare() -> float:
        return once("bare", run_bare, needs, concurrency, lines)

    ours()  # once unmeasured: imports, caches, the allocator
    bare()
    seconds = interleave(rounds, {"ours": ours, "bare": bare})
    size = os.path.getsize(last["ours"]) / os.path.getsize(last["bare"])
    each = functools.partial(_us_each, len(needs))
    note = f"bytes written {size:.3f}x the bare loop's; rounds: {rounds}"
    return [
        paired(
            f"{what}{more}",
            taken["ours"][-rounds:],
            "bare loop",
            taken["bare"][-rounds:],
            unit="us a step",
            scale=each,
            bar=limit,
            note=said,
        )
        for more, taken, limit, said in (
            ("", seconds, bar, note),
            (", processor time", busy, None, ""),
        )
    ]


def _us_each(count: int, seconds: float) -> float:
    return seconds * 1e6 / count


def others(what: str) -> list[Row]:
    """Return a row for each other engine: why it was not measured."""
    rows = []
    for name, modules in _PEERS.items():
        why = missing(*modules) or "skipped: there is no driver for it yet"
        rows.append(Row(what=f"{what}, {name}", note=why))
    return rows
