"""Going on with a job of which everything is done: read the log, skip each step, end."""

from __future__ import annotations

import os
import shutil

import anyio
from harness import Bar, Case, Context, Row, clock, interleave, paired, single
from shapes import Needs, chain, graph, run_ours, wide

from eventlog import Log, read
from orchestrator import events as ev
from orchestrator.blobs import BlobStore
from orchestrator.history import fold_job
from orchestrator.journal import line_fields


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

    def least() -> float:
        copy = os.path.join(context.folder(), "job")
        shutil.copytree(done, copy)
        path = os.path.join(copy, "events.jsonl")
        with clock() as elapsed:
            with Log(path, fields=line_fields("bench")) as log:
                for _ in read(path, ev.AnyJobEvent):
                    pass
                log.append(*skips)
            return elapsed()

    last = list(read(log, ev.AnyJobEvent))
    ends = [record for record in last if isinstance(record.event, ev.StepSucceeded)]
    skips = [_skip(record.event, record.seq) for record in ends]
    resume()
    seconds = interleave(rounds, {"resume": resume, "fold": fold, "least": least})
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
    floor = paired(
        f"the same, {what}",
        seconds["resume"],
        "checking, reading and appending its lines",
        seconds["least"],
        unit="ms",
        scale=lambda second: second * 1000,
        note="without any state: open the log, decode each event, seal and sync 1,000 step.skipped",
    )
    return [alone, parts, floor]


def _skip(event: ev.StepSucceeded, seq: int) -> ev.StepSkipped:
    """Return what a resume writes of a step that is done."""
    data = ev.Skip(
        reason="already succeeded",
        key=event.data.key,
        from_step=event.step,
        from_seq=seq,
        output_sha256=event.data.output_sha256,
    )
    return ev.StepSkipped(step=event.step, data=data)


CASE = Case(
    name="resume",
    about="run_dag(resume=True) of 1,000 done steps, in process, the log opened anew",
    bar="<= 10 ms",
    run=run,
)
