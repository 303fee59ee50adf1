"""A million events over 10,000 jobs: asking them, listing them, finding one, going on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from harness import Bar, Case, Context, Row, clock, single
from joblogs import write_jobs

from cases.query import compare
from orchestrator.jobs import CATALOG, Jobs

_MAX_S = 600.0
_SPEC = "project: bench\nsteps:\n  a: {run: 'true'}\n"


def run(context: Context) -> list[Row]:
    jobs = context.pick(10_000, 200)
    rows = compare(context, jobs=jobs, each=100)
    runs = context.folder()
    write_jobs(runs, jobs, 100)
    found = Jobs(runs)
    rounds = context.times(3, 1)

    def first() -> float:
        path = os.path.join(runs, CATALOG)
        if os.path.exists(path):
            os.unlink(path)
        return _seconds(found.rows)

    rows += [
        single("list without a catalogue", [first()], unit="s", note="folds every log"),
        single("list", [_seconds(found.rows) for _ in range(rounds)], unit="s"),
        single(
            "find a job by its id",
            [_seconds(lambda: found.find(f"job_{7:016x}")) for _ in range(rounds)],
            unit="s",
        ),
        single(
            "find the newest job of a project",
            [_seconds(lambda: found.newest_of("p7")) for _ in range(rounds)],
            unit="s",
        ),
    ]
    spec = os.path.join(context.folder(), "spec.yaml")
    with open(spec, "w", encoding="utf-8") as file:
        file.write(_SPEC)
    command = [sys.executable, "-m", "orchestrator", "run", spec, "--display", "none"]
    few = context.folder()
    for place in (few, runs):
        _resume(command, place, "run")
    alone = [_resume(command, few) for _ in range(rounds)]
    among = [_resume(command, runs) for _ in range(rounds)]
    more = [a - b for a, b in zip(among, alone, strict=True)]
    return [
        *rows,
        single("orch run --resume, alone", alone, unit="s"),
        single("orch run --resume, among them", among, unit="s"),
        single("what they add", more, unit="s", bar=Bar("<=", 1, of="value", unit="s")),
    ]


def _seconds(work: Callable[[], object]) -> float:
    with clock() as elapsed:
        work()
        return elapsed()


def _resume(command: list[str], runs: str, how: str = "--resume") -> float:
    more = ["--resume"] if how == "--resume" else []
    begun = time.perf_counter()
    subprocess.run(
        [*command, *more, "--runs-dir", runs], check=True, capture_output=True, timeout=_MAX_S
    )
    return time.perf_counter() - begun


CASE = Case(
    name="jobs",
    about="1,000,000 events over 10,000 jobs: the same questions; list, find, resume",
    bar="as for `query`; --resume at most 1 s longer than without the others",
    run=run,
)
