"""SQL over a million events in one log: the first query, and later ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from harness import Bar, Case, Context, Row, Timed, interleave, paired, single
from joblogs import write_jobs

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_MAX_S = 600.0
_JQ = "reduce inputs as $line ({}; .[$line.type] += 1)"


def run(context: Context) -> list[Row]:
    return compare(context, jobs=1, each=context.pick(1_000_000, 20_000))


def compare(context: Context, *, jobs: int, each: int) -> list[Row]:
    """Return the rows of queries over so many logs of so many events."""
    runs = context.folder()
    size_mb = write_jobs(runs, jobs, each) / 1e6
    asked = _Asked(runs)
    works: dict[str, Timed] = {}
    for question in ("types", "models"):
        works[f"read_ndjson {question}"] = asked.timed("read_ndjson", question)
        works[f"msgspec {question}"] = asked.timed("msgspec", question)
        works[f"first {question}"] = asked.timed("ours", question, before=asked.forget)
        works[f"later {question}"] = asked.timed("ours", question, kept=True)
    works["first command"] = asked.command(before=asked.forget)
    works["later command"] = asked.command()
    works["read_ndjson command"] = asked.timed("read_ndjson", "types", whole=True)
    if jobs == 1 and shutil.which("jq"):
        works["jq types"] = lambda: _jq(runs)
    seconds = interleave(context.times(3, 1), works)
    rows = [
        _row(
            f"{when} query, {question}",
            seconds[f"{when} {question}"],
            beside,
            seconds[f"{beside} {question}"],
            Bar("<=", limit) if beside == "read_ndjson" else None,
        )
        for question in ("types", "models")
        for when, limit in (("first", 4.0), ("later", 0.25))
        for beside in ("read_ndjson", "msgspec", "jq")
        if f"{beside} {question}" in seconds
    ]
    rows += [
        _row(
            f"{when} query, the whole command",
            seconds[f"{when} command"],
            "python with read_ndjson",
            seconds["read_ndjson command"],
            None,
        )
        for when in ("first", "later")
    ]
    rows += [
        single("peak memory, first query", asked.peaks["first models"], unit="MB"),
        single("peak memory, later query", asked.peaks["later models"], unit="MB"),
        single("peak memory, read_ndjson", asked.peaks["read_ndjson models"], unit="MB"),
        single("until the index is kept, first query", asked.kept["first models"], unit="s"),
        Row(what="logs", value=size_mb, unit="MB"),
        Row(what="index", value=asked.index_mb(), unit="MB"),
    ]
    return rows


def _row(what: str, ours: list[float], beside: str, other: list[float], bar: Bar | None) -> Row:
    return paired(what, ours, beside, other, unit="s", scale=lambda second: second, bar=bar)


class _Asked:
    """Asks in processes of their own, and compares the answers."""

    def __init__(self, runs: str) -> None:
        self.runs = runs
        self.peaks: dict[str, list[float]] = {}
        self.kept: dict[str, list[float]] = {}
        self._answers: dict[str, Any] = {}
        self._index = os.path.join(runs, ".index")

    def forget(self) -> None:
        shutil.rmtree(self._index, ignore_errors=True)

    def index_mb(self) -> float:
        folder = os.path.join(self._index, "events")
        return sum(entry.stat().st_size for entry in os.scandir(folder)) / 1e6

    def timed(
        self,
        way: str,
        question: str,
        *,
        before: Callable[[], None] | None = None,
        kept: bool = False,
        whole: bool = False,
    ) -> Timed:
        name = f"{'first' if before else 'later' if kept else way} {question}"

        def ask() -> float:
            if before is not None:
                before()
            if kept and not os.path.isdir(self._index):
                _ask(way, question, self.runs)
            begun = time.perf_counter()
            told = _ask(way, question, self.runs)
            passed_s = time.perf_counter() - begun
            due = self._answers.setdefault(question, told["rows"])
            if told["rows"] != due:
                raise RuntimeError(f"{name}: {told['rows']} where {due} are due")
            self.peaks.setdefault(name, []).append(told["peak_mb"])
            self.kept.setdefault(name, []).append(told.get("kept_s", 0.0))
            return passed_s if whole else told["seconds"]

        return ask

    def command(self, *, before: Callable[[], None] | None = None) -> Timed:
        sql = "select type, count(*) from events group by all order by all"
        command = [sys.executable, "-m", "orchestrator", "events", "query", sql]

        def ask() -> float:
            if before is not None:
                before()
            begun = time.perf_counter()
            subprocess.run(
                [*command, "--runs-dir", self.runs], check=True, capture_output=True, timeout=_MAX_S
            )
            return time.perf_counter() - begun

        return ask


def _ask(way: str, question: str, runs: str) -> dict[str, Any]:
    command = [sys.executable, os.path.join(_HERE, "ask_logs.py"), way, question, runs]
    done = subprocess.run(command, check=True, capture_output=True, timeout=_MAX_S)
    return json.loads(done.stdout)


def _jq(runs: str) -> float:
    (job,) = (name for name in os.listdir(runs) if name.startswith("job_"))
    begun = time.perf_counter()
    subprocess.run(
        ["jq", "-n", _JQ, os.path.join(runs, job, "events.jsonl")],
        check=True,
        capture_output=True,
        timeout=_MAX_S,
    )
    return time.perf_counter() - begun


CASE = Case(
    name="query",
    about="SQL over 1,000,000 events in one log: lines by type; calls, seconds and tokens by model",
    bar="first <= 4x DuckDB read_ndjson with declared columns, later <= 0.25x, in process",
    run=run,
)
