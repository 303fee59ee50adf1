"""Bringing an old log up to date: time, and the most memory that it takes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from harness import Bar, Case, Context, Row, interleave, missing, paired, single

_DRIVER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "drivers", "migration.py")
_SED = r's/^\{"timestamp":"([^"]*)"/{"ts":"\1Z"/'
_JQ = '{ts: (.timestamp + "Z")} + del(.timestamp)'
_TYPES = ("step.started", "llm.request", "llm.response", "step.succeeded")
_DATA = '"attempt":1,"duration_s":%.3f,"provider":"ollama","model":"llama3","tokens_out":%d'
_HEAD = '"level":"INFO","job_id":"job_bench","type":"%s","step":"step-%03d"'
_SAMPLE = 1000
_TIMEOUT_S = 600.0
_BEGAN = datetime(2025, 10, 22, 10, tzinfo=UTC).replace(tzinfo=None)
_BETWEEN = timedelta(milliseconds=50, microseconds=1)


class Took(NamedTuple):
    """What doing the work once took: by the clock, of the processor, and at most of memory."""

    seconds: float
    busy_s: float
    peak_bytes: int = 0


Work = Callable[[], Took]


def run(context: Context) -> list[Row]:
    count = context.pick(200_000, 20_000)
    rounds = context.times(5, 2)
    folder = context.folder()
    v1 = _write(os.path.join(folder, "v1.jsonl"), count, "v1")
    spaced = _write(os.path.join(folder, "spaced.jsonl"), count, "spaced")
    v2_0 = _write(os.path.join(folder, "v2_0.jsonl"), count, "v2.0")
    works: dict[str, Work] = {
        "ours": lambda: _driven("ours", v1),
        "stdlib json": lambda: _driven("stdlib", v1),
        "sed": lambda: _piped(v1, "sed", "-E", _SED),
        "jq": lambda: _piped(v1, "jq", "-c", _JQ),
        "DuckDB COPY": lambda: _driven("duckdb", v1),
        "ours, spaced": lambda: _driven("ours", spaced),
        "stdlib json, spaced": lambda: _driven("stdlib", spaced),
        "ours, v2.0": lambda: _driven("ours", v2_0, "--flat"),
        "stdlib json, v2.0": lambda: _driven("stdlib", v2_0, "--flat"),
    }
    gone = {
        "jq": "" if shutil.which("jq") else "skipped: jq is not installed",
        "sed": "" if shutil.which("sed") else "skipped: sed is not installed",
        "DuckDB COPY": missing("duckdb"),
    }
    for name, why in gone.items():
        if why:
            del works[name]
    took: dict[str, list[Took]] = {name: [] for name in works}

    def timed(name: str) -> Callable[[], float]:
        def once() -> float:
            took[name].append(works[name]())
            return took[name][-1].seconds

        return once

    interleave(rounds, {name: timed(name) for name in works})
    rows = [
        row
        for what, mine, other, bar in (
            ("v1, compact", "ours", "stdlib json", Bar(">=", 6)),
            ("v1, compact", "ours", "sed", Bar(">=", 3)),
            ("v1, compact", "ours", "jq", None),
            ("v1, compact", "ours", "DuckDB COPY", None),
            ("v1, as json.dumps writes it", "ours, spaced", "stdlib json, spaced", Bar(">=", 6)),
            ("v2.0: the payload moves", "ours, v2.0", "stdlib json, v2.0", None),
        )
        for row in (
            _beside(what, took[mine], other, took[other], count, bar)
            if other in works
            else [Row(what=what, beside=other, note=gone[other])]
        )
    ]
    large = os.path.join(folder, "large.jsonl")
    with open(large, "wb") as many:
        for _ in range(5):
            with open(v1, "rb") as one:
                shutil.copyfileobj(one, many)
    took["ours, five times the lines"] = [_driven("ours", large)]
    return rows + [
        single(
            f"peak memory, {name}",
            [each.peak_bytes / 1e6 for each in found],
            unit="MB",
            bar=Bar("<=", 40, of="value", unit="MB") if name.startswith("ours") else None,
        )
        for name, found in took.items()
        if found[0].peak_bytes
    ]


def _beside(
    what: str, ours: list[Took], name: str, others: list[Took], count: int, bar: Bar | None
) -> list[Row]:
    """Return the rows of two that took turns: by the clock, and of the processor alone."""
    return [
        paired(
            f"{what}{more}",
            [getattr(one, field) for one in ours],
            name.partition(",")[0],
            [getattr(one, field) for one in others],
            unit="lines/s",
            scale=lambda second: count / second,
            bar=limit,
        )
        for field, more, limit in (("seconds", "", bar), ("busy_s", ", processor time", None))
    ]


def _write(path: str, count: int, form: str) -> str:
    """Write an old log: of one job, one line each 50 ms, and return its path."""
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            stamp = (_BEGAN + number * _BETWEEN).isoformat(timespec="microseconds")
            head = _HEAD % (_TYPES[number % 4], number // 4 % 500)
            data = _DATA % (number % 9973 / 1000, number % 4096)
            if form == "v2.0":
                line = f'{{"ts":"{stamp}Z",{head},{data}}}'
            else:
                line = f'{{"timestamp":"{stamp}",{head},"data":{{{data}}}}}'
            if form == "spaced":
                line = json.dumps(json.loads(line))
            file.write(line + "\n")
    return path


def _driven(way: str, path: str, *more: str) -> Took:
    """Run the driver over a copy of a log, and look at what it made."""
    copy = f"{path}.copy"
    shutil.copyfile(path, copy)
    try:
        command = [sys.executable, _DRIVER, way, copy, *more]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_TIMEOUT_S)
        _check(path, copy if way == "ours" else f"{copy}.new")
        return Took(**json.loads(done.stdout))
    finally:
        for name in (copy, f"{copy}.new", f"{copy}.v1", f"{copy}.lock"):
            if os.path.exists(name):
                os.unlink(name)


def _piped(path: str, *command: str) -> Took:
    """Run a filter from a file to another."""
    new = f"{path}.new"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        with open(new, "wb") as out:
            begun = time.perf_counter()
            subprocess.run([*command, path], check=True, stdout=out, timeout=_TIMEOUT_S)
            seconds = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        _check(path, new)
        return Took(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    finally:
        os.unlink(new)


def _check(old: str, new: str) -> None:
    """Compare the first lines, as values: not every way keeps the bytes."""
    with open(old, encoding="utf-8") as before, open(new, encoding="utf-8") as after:
        for _ in range(_SAMPLE):
            event, now = json.loads(next(before)), json.loads(next(after))
            stamp = event.pop("timestamp", None)
            due = event if stamp is None else {"ts": f"{stamp}Z", **event}
            if "data" not in due:
                kept = ("ts", "level", "job_id", "type", "step")
                data = {name: value for name, value in due.items() if name not in kept}
                due = {name: due[name] for name in kept} | {"data": data}
            if now != due:
                raise RuntimeError(f"{new} has {now} where {due} is due")


CASE = Case(
    name="migration",
    about="a log of 200,000 lines brought to version 2.1; ours in place, synced, the old one kept",
    bar=">= 6x stdlib json, >= 3x sed, <= 40 MB at any size",
    run=run,
)
