"""Many steps at once: syncs are shared, so what is left is the runner's own work."""

from __future__ import annotations

from beside import beside_bare, beside_engines
from harness import Bar, Case, Context, Row
from shapes import tangle, wide


def run(context: Context) -> list[Row]:
    bar = Bar("<=", 2.0)
    rounds, fewer, once = context.times(9, 3), context.times(3, 1), context.times(1, 1)
    some, many = context.pick(1000, 200), context.pick(10_000, 4_000)
    limits, high = {"dbos": 20, "langgraph": 5}, {"dbos": 25, "langgraph": 25}
    rows: list[Row] = []
    for what, needs in (
        (f"{some:,} wide, 16 at once", wide(some)),
        (f"random graph of {some:,}, 16 at once", tangle(some)),
    ):
        rows += beside_bare(context, what, needs, 16, rounds, bar)
        rows += beside_engines(context, what, needs, 16, fewer, limits)
    what = f"{many:,} wide, 64 at once"
    rows += beside_bare(context, what, wide(many), 64, context.times(5, 1), bar)
    if not context.quick:  # half a minute for each engine
        rows += beside_engines(context, what, wide(many), 64, once, high)
    return rows


CASE = Case(
    name="fanout",
    about="async no-op steps that don't wait for each other, through run_dag",
    bar="<= 2x the bare loop; >= 5x faster than LangGraph, >= 20x than DBOS; 10,000: >= 25x both",
    run=run,
)
