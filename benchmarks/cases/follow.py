"""Following a log: how long from the append until the record is handed out elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from harness import Case, Context, Row, single

from eventlog import Event, LogOpened, follow

_WRITER = """
import sys, time
from eventlog import Durability, Log

path, level, count, pause_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
with Log(path, durability=Durability(level)) as log:
    print("open", flush=True)
    sys.stdin.readline()
    for _ in range(count):
        time.sleep(pause_s)
        log.append({"type": "sent", "data": time.monotonic_ns()})
"""


class Sent(Event, frozen=True, kw_only=True, tag="sent"):
    data: int


def run(context: Context) -> list[Row]:
    busy, calm = context.pick(1000, 100), context.pick(40, 5)
    rows = []
    for what, level, count, pause_s in (
        ("one event every 2 ms, `os`", "os", busy, 0.002),
        ("one event every 2 ms, `sync`", "sync", busy, 0.002),
        ("one event every 300 ms, `os`", "os", calm, 0.3),
    ):
        taken = _latencies_ms(context, level, count, pause_s)
        rows += [
            single(f"{what}: {share} %", [_percentile(taken, share)], unit="ms")
            for share in (50, 90, 99)
        ]
        rows[-1] = single(
            rows[-1].what,
            [_percentile(taken, 99)],
            unit="ms",
            note=f"of {count}; the longest: {taken[-1]:.1f} ms",
        )
    return rows


def _latencies_ms(context: Context, level: str, count: int, pause_s: float) -> list[float]:
    """Return the sorted milliseconds from just before each append until it was handed out."""
    path = os.path.join(context.folder(), "events.jsonl")
    command = [sys.executable, "-c", _WRITER, path, level, str(count), str(pause_s)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    taken: list[float] = []
    try:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdout.readline()
        with follow(path, Sent | LogOpened, until=lambda: len(taken) == count) as records:
            writer.stdin.write("go\n")
            writer.stdin.flush()
            for record in records:
                if isinstance(record.event, Sent):
                    taken.append((time.monotonic_ns() - record.event.data) / 1e6)
                    if len(taken) == count:
                        break
    finally:
        writer.kill()
        writer.communicate()
    return sorted(taken)


def _percentile(values: list[float], share: int) -> float:
    return values[min(len(values) - 1, len(values) * share // 100)]


CASE = Case(
    name="follow",
    about="from just before an append until another process is handed the record",
    bar="none; the longest pause between two looks is 100 ms, after a change it is 1 ms",
    run=run,
)
