"""Going on with a job of which everything is done: read the log, skip each step, end."""

from __future__ import annotations

import os
import shutil

import anyio
from harness import Bar, Case, Context, Row, clock, interleave, paired, single
from shapes import Needs, chain, graph, run_ours, wide

from orchestrator.blobs import BlobStore
from orchestrator.history import fold_job


def run(context: Context) -> list[Row]:
    rounds = context.times(15, 5)
    rows = _rows(context, "wide", wide(1000), rounds)
    return rows + _rows(context, "chain", chain(1000), rounds)


def _rows(context: Context, what: str, needs: Needs, rounds: int) -> list[Row]:
    dag = graph(needs)
    done = context.folder()
    log = os.path.join(done, "events.jsonl")
    anyio.run(run_ours, dag, log, 16)

    def resume() -> float:
        copy = os.path.join(context.folder(), "job")
        shutil.copytree(done, copy)
        path = os.path.join(copy, "events.jsonl")
        return anyio.run(lambda: run_ours(dag, path, 16, resume=True))

    def fold() -> float:
        blobs = BlobStore(os.path.join(done, "artifacts"))
        with clock() as elapsed:
            fold_job(log, blobs, job_id="bench")
            return elapsed()

    resume()
    seconds = interleave(rounds, {"resume": resume, "fold": fold})
    bar = Bar("<=", 10, of="value", unit="ms")
    ms = [second * 1000 for second in seconds["resume"]]
    alone = single(f"resume of 1,000 done steps, {what}", ms, unit="ms", bar=bar)
    parts = paired(
        f"the same, {what}",
        seconds["resume"],
        "folding the log alone",
        seconds["fold"],
        unit="ms",
        scale=lambda second: second * 1000,
    )
    return [alone, parts]


CASE = Case(
    name="resume",
    about="run_dag(resume=True) of 1,000 done steps, in process, the log opened anew",
    bar="<= 10 ms",
    run=run,
)
