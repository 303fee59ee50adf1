"""Bring a log of version 1 up to date, one way or another, in a process of its own.

    python migration.py WAY LOG [--flat]

Prints the seconds that the work took, and those of the processor, without the interpreter's
start and the imports; and the most memory that the process held, with them. With
`--flat` the log is of version 2.0: its payload stands at the top, and moves into `data`. Only
ours keeps the bytes of numbers and text, reports what it can't read, syncs, and keeps the old log.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

_KEPT = ("ts", "level", "job_id", "type", "step")


def ours(path: str, _flat: bool) -> Callable[[], object]:
    """In place, with the old log kept."""
    from eventlog.migrate import migrate

    return lambda: migrate(path)


def stdlib(path: str, flat: bool) -> Callable[[], object]:
    """Decode each line with stdlib's json, change the dict, encode it: to another file."""

    def v1(event: dict[str, object]) -> dict[str, object]:
        return {"ts": f"{event.pop('timestamp')}Z", **event}

    def v2_0(event: dict[str, object]) -> dict[str, object]:
        kept = {name: event.pop(name) for name in _KEPT if name in event}
        return {**kept, "data": event}

    change = v2_0 if flat else v1

    def work() -> None:
        with open(path, encoding="utf-8") as old, open(f"{path}.new", "w", encoding="utf-8") as new:
            for line in old:
                text = json.dumps(change(json.loads(line)), separators=(",", ":"))
                new.write(text + "\n")

    return work


def duckdb(path: str, _flat: bool) -> Callable[[], object]:
    """Read with declared columns and `copy` to another file."""
    import duckdb

    def work() -> None:
        connection = duckdb.connect()
        connection.execute(f"""
            copy (select timestamp || 'Z' as ts, level, job_id, type, step, data from read_ndjson(
                '{path}', columns = {{timestamp: 'VARCHAR', level: 'VARCHAR', job_id: 'VARCHAR',
                type: 'VARCHAR', step: 'VARCHAR', data: 'JSON'}}))
            to '{path}.new' (format json)
        """)

    return work


WAYS = {"ours": ours, "stdlib": stdlib, "duckdb": duckdb}


def main() -> None:
    """Do the work that the command line names."""
    work = WAYS[sys.argv[1]](sys.argv[2], "--flat" in sys.argv)
    begun, busy = time.perf_counter(), time.process_time()
    work()
    told = {
        "seconds": time.perf_counter() - begun,
        "busy_s": time.process_time() - busy,
        "peak_bytes": peak_bytes(),
    }
    sys.stdout.write(json.dumps(told))


def peak_bytes() -> int:
    """Return the most memory this process held."""
    try:
        # What getrusage says counts the process that started this one, too.
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
