"""A chain: nothing overlaps, so each step costs a sync and what the runner adds to it."""

from __future__ import annotations

from beside import beside_bare, beside_engines
from harness import Bar, Case, Context, Row
from shapes import chain


def run(context: Context) -> list[Row]:
    rounds, fewer = context.times(9, 3), context.times(3, 1)
    needs = chain(context.pick(1000, 200))
    what = f"chain of {len(needs):,}"
    return [
        *beside_bare(context, what, needs, 4, rounds, Bar("<=", 1.5)),
        *beside_engines(context, what, needs, 4, fewer, {"dbos": 3.5, "langgraph": 3}),
    ]


CASE = Case(
    name="chain",
    about="1,000 async no-op steps, one after the other, through run_dag",
    bar="<= 1.5x the bare loop; >= 3.5x faster than DBOS, >= 3x than LangGraph",
    run=run,
)
