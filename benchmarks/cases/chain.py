"""A chain: nothing overlaps, so each step costs a sync and what the runner adds to it."""

from __future__ import annotations

from beside import beside_bare, others
from harness import Bar, Case, Context, Row
from shapes import chain


def run(context: Context) -> list[Row]:
    rounds = context.times(9, 3)
    needs = chain(1000)
    rows = beside_bare(context, "chain of 1,000", needs, 4, rounds, Bar("<=", 1.5))
    return [*rows, *others("chain of 1,000")]


CASE = Case(
    name="chain",
    about="1,000 async no-op steps, one after the other, through run_dag",
    bar="<= 1.5x the bare loop",
    run=run,
)
