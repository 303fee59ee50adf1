"""Many steps at once: syncs are shared, so what is left is the runner's own work."""

from __future__ import annotations

from beside import beside_bare, others
from harness import Bar, Case, Context, Row
from shapes import tangle, wide


def run(context: Context) -> list[Row]:
    bar = Bar("<=", 2.0)
    rounds, fewer = context.times(9, 3), context.times(5, 1)
    many = context.pick(10_000, 4_000)
    return [
        *beside_bare(context, "1,000 wide, 16 at once", wide(1000), 16, rounds, bar),
        *beside_bare(context, "random graph of 1,000, 16 at once", tangle(1000), 16, rounds, bar),
        *beside_bare(context, f"{many:,} wide, 64 at once", wide(many), 64, fewer, bar),
        *others("1,000 wide"),
    ]


CASE = Case(
    name="fanout",
    about="async no-op steps that don't wait for each other, through run_dag",
    bar="<= 2x the bare loop",
    run=run,
)
