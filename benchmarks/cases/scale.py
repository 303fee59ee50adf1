"""100,000 steps: what does one cost then, in time and memory?

Measured in a process of its own, so that its memory is its alone.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile

import anyio
import msgspec
from harness import Bar, Case, Context, Row
from shapes import graph, run_ours, wide

from orchestrator import EventEmitter, run_dag

_CHILD_MAX_S = 120.0
_CONCURRENCY = 64


def run(context: Context) -> list[Row]:
    many = context.pick(100_000, 20_000)
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    told = subprocess.run(
        [sys.executable, "-m", "cases.scale", str(many), context.folder()],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=_CHILD_MAX_S,
    )
    figures = msgspec.json.decode(told.stdout)
    few_us, many_us = figures["few_us"], figures["many_us"]
    return [
        Row(
            what=f"{many:,} wide, 64 at once",
            value=many_us,
            unit="us a step",
            beside="1,000 wide",
            beside_value=few_us,
            ratio=many_us / few_us,
            bar=Bar("<=", 1.3),
            note="1,000: median of 5 runs before and 5 after; the large one: one run",
        ),
        Row(
            what="memory over the built graph, at its peak",
            value=figures["peak_bytes"] / many,
            unit="bytes a step",
            bar=Bar("<=", 1024, of="value", unit="bytes"),
            note="the process's greatest resident memory, less what it held with the DAG built",
        ),
        Row(
            what="the same, after the run",
            value=figures["held_bytes"] / many,
            unit="bytes a step",
            note="freed memory that the allocator keeps counts too",
        ),
        Row(what="memory of the DAG", value=figures["dag_bytes"] / many, unit="bytes a step"),
    ]


def _resident_bytes() -> int:
    """Return what the process holds in memory now; where the system can't tell, its peak."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak_bytes()


def _peak_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def _child(many: int, folder: str) -> dict[str, float]:
    def place() -> str:
        return os.path.join(tempfile.mkdtemp(dir=folder), "events.jsonl")

    small = graph(wide(1000))
    await run_ours(small, place(), _CONCURRENCY)
    few = [await run_ours(small, place(), _CONCURRENCY) for _ in range(5)]
    gc.collect()
    empty = _resident_bytes()
    dag = graph(wide(many))
    gc.collect()
    built = _resident_bytes()
    with EventEmitter(place()) as emitter:
        begun = anyio.current_time()
        results = await run_dag(dag, "bench", None, emitter, concurrency=_CONCURRENCY)
        seconds = anyio.current_time() - begun
    gc.collect()
    held = _resident_bytes()
    assert all(result.ok for result in results.values())
    few += [await run_ours(small, place(), _CONCURRENCY) for _ in range(5)]
    return {
        "few_us": statistics.median(few) * 1e6 / 1000,
        "many_us": seconds * 1e6 / many,
        "dag_bytes": built - empty,
        "held_bytes": held - built,
        "peak_bytes": _peak_bytes() - built,
    }


CASE = Case(
    name="scale",
    about="100,000 steps against 1,000, in a process of its own",
    bar="time a step within 1.3x of 1,000; memory under 1 KiB a step over the built graph",
    run=run,
)

if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(anyio.run(_child, int(sys.argv[1]), sys.argv[2])))
