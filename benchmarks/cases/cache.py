"""Ten thousand answers from the cache, each verified: of this job, of another job, and in a job."""

from __future__ import annotations

import json
import os
import sqlite3
import tracemalloc

from harness import Bar, Case, Context, Row, clock, interleave, paired, single

import orchestrator
from orchestrator.cache import Cache, Call
from orchestrator.cachefile import Entry
from orchestrator.cachepolicy import CacheMode
from orchestrator.folder import RunFolder
from orchestrator.keys import call_key, part_hashes
from orchestrator.providers.base import Reply, Usage

_ANSWER = "An answer of a few sentences, as a small model gives it. " * 20
_JOBS_BESIDE = 50
"""Other jobs that hold entries too: a hit must not depend on how many there are."""


def run(context: Context) -> list[Row]:
    number = context.pick(10_000, 500)
    rounds = context.times(5, 1)
    world = _World(context.folder(), number)
    works = {
        "own": lambda: world.hits("maker"),
        "other": lambda: world.hits(world.next_job()),
        "bare": world.bare,
    }
    seconds = interleave(rounds, works)

    def per_hit(second: float) -> float:
        return second / number * 1e6

    bar = Bar("<=", 1000, of="value", unit="us")
    rows = [
        single(
            f"{number:,} hits, {where}",
            [per_hit(second) for second in seconds[how]],
            unit="us a hit",
            bar=bar,
        )
        for how, where in (("own", "in the job's folder"), ("other", "in another job's, copied"))
    ]
    rows.append(
        paired(
            f"{number:,} hits, in the job's folder",
            seconds["own"],
            "open, read, json.loads",
            seconds["bare"],
            unit="us a hit",
            scale=per_hit,
        )
    )
    rows.append(_memory(world))
    rows.append(_job(context, context.pick(1000, 100)))
    return rows


class _World:
    """A runs/ folder in which one job made all the answers and many others made some."""

    def __init__(self, runs: str, number: int) -> None:
        self.runs = runs
        self.calls = [_call(index) for index in range(number)]
        self._jobs = 0
        self._fill("maker", self.calls)
        for other in range(_JOBS_BESIDE):
            self._fill(f"beside{other}", [_call(-1 - other)])

    def _fill(self, job: str, calls: list[Call]) -> None:
        # The entries' durability is not what is measured.
        from orchestrator.cachefile import SUFFIX, encoded

        folder = RunFolder(self.runs, job)
        os.makedirs(folder.cache, mode=0o700)
        for call in calls:
            path = os.path.join(folder.cache, call.key + SUFFIX)
            with open(path, "wb", opener=_private) as file:
                file.write(encoded(_entry(call, job)))

    def next_job(self) -> str:
        self._jobs += 1
        return f"job{self._jobs}"

    def hits(self, job: str, calls: list[Call] | None = None) -> float:
        """Look every answer up; return the seconds."""
        cache = Cache(RunFolder(self.runs, job), CacheMode.USE, print)
        try:
            cache.look(_call(-1).key, "s")  # takes in the folders, once for each process
            with clock() as elapsed:
                for call in calls or self.calls:
                    look = cache.look(call.key, "s")
                    assert look.entry is not None
                return elapsed()
        finally:
            cache.close()

    def bare(self) -> float:
        """Only read the files and parse them; return the seconds."""
        folder = RunFolder(self.runs, "maker").cache
        with clock() as elapsed:
            for call in self.calls:
                with open(os.path.join(folder, f"{call.key}.json"), "rb") as file:
                    json.loads(file.read())
            return elapsed()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _call(index: int) -> Call:
    prompt = f"Question {index}: " + "what do bees do in winter, and why? " * 10
    components = {
        "provider": "openai",
        "base_url": "http://127.0.0.1:1/v1",
        "model": "m",
        "messages": [None, [{"role": "user", "content": prompt}]],
        "options": {"temperature": 0},
        "sample": 0,
    }
    return Call(key=call_key(components), components=components, parts=part_hashes(components))


def _entry(call: Call, job: str) -> Entry:
    return Entry(
        key=call.key,
        parts=call.parts,
        job_id=job,
        project="p",
        step="s",
        created_at="2026-01-01T00:00:00.000000Z",
        duration_s=1.0,
        provider="openai",
        model="m",
        request=call.components,
        reply=Reply(
            text=_ANSWER, model="m", stop_reason="stop", usage=Usage(tokens_in=100, tokens_out=300)
        ),
    )


def _memory(world: _World) -> Row:
    """Return how much memory all hits but the first ones leave behind."""
    cache = Cache(RunFolder(world.runs, "maker"), CacheMode.USE, print)
    first = len(world.calls) // 10
    tracemalloc.start()
    try:
        for call in world.calls[:first]:
            cache.look(call.key, "s")
        before, _ = tracemalloc.get_traced_memory()
        for call in world.calls[first:]:
            cache.look(call.key, "s")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        cache.close()
    what = f"memory after {len(world.calls):,} hits beside after the first tenth"
    bar = Bar("<=", 64, of="value", unit="KiB")
    return single(what, [max(after - before, 0) / 1024], unit="KiB", bar=bar)


def _job(context: Context, number: int) -> Row:
    """Return what a hit costs with all that a job does around it: the log, the step, the runner."""
    runs = context.folder()
    steps = {f"s{index}": {"llm": {"prompt": f"Question {index}"}} for index in range(number)}
    spec = {"project": "p", "provider": "offline", "concurrency": 16, "steps": steps}
    quiet = {"runs_dir": runs, "warn": lambda _: None}
    orchestrator.run(spec, **quiet)
    with clock() as elapsed:
        result = orchestrator.run(spec, **quiet)
        seconds = elapsed()
    assert result.state.totals.hits == number
    return single(
        f"a job of {number:,} llm steps, all hits",
        [seconds / number * 1e6],
        unit="us a step",
        note=f"SQLite {sqlite3.sqlite_version}; begin and end of the job are in it",
    )


CASE = Case(
    name="cache",
    about="answers from the cache, each read, verified, and copied where another job made it",
    bar="<= 1 ms a hit, memory flat",
    run=run,
)
