"""Run one of our shapes by turns with the bare loop, and with other engines."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import msgspec
from harness import Bar, Context, Row, interleave, paired
from peers import drive, not_ready
from shapes import Needs, graph, run_bare, run_ours, sample_lines

_ENGINES = {
    "dbos": ("DBOS (SQLite)", "dbos_run.py"),
    "langgraph": ("LangGraph (SQLite checkpointer)", "langgraph_run.py"),
}
"""Other engines by their names in `peers`: as they are shown, and their driver."""

Limits = Mapping[str, float]


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


def beside_engines(
    context: Context, what: str, needs: Needs, concurrency: int, rounds: int, limits: Limits
) -> list[Row]:
    """Return a row for each other engine: how much longer it takes for the same graph.

    Args:
        context: of the run.
        what: the shape, in words.
        needs: the graph.
        concurrency: steps at once.
        rounds: how often each takes its turn.
        limits: how many times faster we are to be, by the engine's name in `peers`.
    """
    path = os.path.join(context.folder(), "graph.json")
    with open(path, "wb") as file:
        file.write(msgspec.json.encode(needs))
    dag = graph(needs)
    works: dict[str, Callable[[], float]] = {
        "ours": lambda: anyio.run(
            run_ours, dag, os.path.join(context.folder(), "events.jsonl"), concurrency
        )
    }
    rows = []
    for name, (shown, driver) in _ENGINES.items():
        if why := not_ready(name):
            rows.append(Row(what=f"{shown}, {what}", note=why))
        else:
            works[name] = functools.partial(_drive, context, name, driver, path, concurrency)
    if len(works) == 1:
        return rows
    works["ours"]()  # once unmeasured
    seconds = interleave(rounds, works)
    return rows + [
        paired(
            f"{_ENGINES[name][0]}, {what}",
            taken,
            "ours",
            seconds["ours"],
            unit="us a step",
            scale=functools.partial(_us_each, len(needs)),
            bar=Bar(">=", limits[name]),
            note=f"rounds: {rounds}",
        )
        for name, taken in seconds.items()
        if name != "ours"
    ]


def _drive(context: Context, name: str, driver: str, path: str, concurrency: int) -> float:
    return float(drive(name, driver, context.folder(), path, concurrency)["seconds"])
