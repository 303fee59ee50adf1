"""Ask one question of the logs below a folder, in one way; print seconds and memory as JSON.

    python ask_logs.py WAY QUESTION RUNS

The clock starts when everything is imported: what is told apart is the work, not the start.
"""

from __future__ import annotations

import glob
import json
import os
import resource
import sys
import time
from collections import defaultdict

import msgspec

QUESTIONS = {
    "types": "select type, count(*) from {events} group by all order by all",
    "models": (
        "select {model} as model, count(*), round(sum({duration_s}), 3), sum({tokens_out})::bigint"
        " from {events} where type = 'llm.response' group by all order by all"
    ),
}
_COLUMNS = (
    "{seq:'BIGINT',ts:'TIMESTAMP',level:'VARCHAR',job_id:'VARCHAR',type:'VARCHAR',"
    "step:'VARCHAR',item:'VARCHAR',data:'JSON'}"
)


class Data(msgspec.Struct, frozen=True):
    model: str = ""
    duration_s: float = 0.0
    tokens_out: int = 0


class Line(msgspec.Struct):
    type: str = ""
    data: Data = Data()


def ours(question: str, runs: str) -> dict[str, object]:
    import duckdb  # noqa: F401 - so that its import is not measured

    from orchestrator.ask import database

    names = {name: name for name in ("model", "duration_s", "tokens_out")}
    begun = time.perf_counter()
    found = database([runs], runs_dir=runs)
    rows = found.query(QUESTIONS[question].format(events="events", **names)).rows
    answered_s = time.perf_counter() - begun
    found.close()
    return {"rows": rows, "seconds": answered_s, "kept_s": time.perf_counter() - begun}


def read_ndjson(question: str, runs: str) -> dict[str, object]:
    import duckdb

    fields = {
        "model": "data->>'model'",
        "duration_s": "(data->>'duration_s')::double",
        "tokens_out": "(data->>'tokens_out')::bigint",
    }
    begun = time.perf_counter()
    logs = sorted(glob.glob(os.path.join(runs, "*", "events.jsonl")))
    events = f"read_ndjson({logs!r}, columns={_COLUMNS})"
    rows = duckdb.connect().execute(QUESTIONS[question].format(events=events, **fields)).fetchall()
    return {"rows": rows, "seconds": time.perf_counter() - begun}


def msgspec_loop(question: str, runs: str) -> dict[str, object]:

    decode = msgspec.json.Decoder(Line).decode_lines
    begun = time.perf_counter()
    counts: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0])
    for log in sorted(glob.glob(os.path.join(runs, "*", "events.jsonl"))):
        with open(log, "rb") as file:
            rest = b""
            while chunk := file.read(1 << 16):
                whole, newline, after = (rest + chunk).rpartition(b"\n")
                rest = after
                for line in decode(whole + newline):
                    if question == "types":
                        counts[line.type][0] += 1
                    elif line.type == "llm.response":
                        entry = counts[line.data.model]
                        entry[0] += 1
                        entry[1] += line.data.duration_s
                        entry[2] += line.data.tokens_out
    width = 1 if question == "types" else 3
    rows = sorted((key, *values[:width]) for key, values in counts.items())
    rows = [(key, n, *(round(v, 3) for v in more)) for key, n, *more in rows]
    return {"rows": rows, "seconds": time.perf_counter() - begun}


WAYS = {"ours": ours, "read_ndjson": read_ndjson, "msgspec": msgspec_loop}


if __name__ == "__main__":
    told = WAYS[sys.argv[1]](*sys.argv[2:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told["peak_mb"] = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(json.dumps(told))
