"""A log of 100 MB: verifying it, opening it for append, and what memory that takes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys

from harness import Case, Context, Row, Timed, clock, interleave, paired, single
from logs import write

from eventlog import Log
from eventlog.check import verify

_LINE_BYTES = 245
_TORN = b'{"seq":'
_CHUNK = 64 << 10

_CHILD = """
import resource, sys
sys.path.insert(0, sys.argv[3])
from logs import Types
from eventlog import Log, read
from eventlog.check import verify

def peak():
    try:  # getrusage counts what the parent held when it forked
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
what, path = sys.argv[1:3]
if what == "read":
    for _ in read(path, Types, verify=True):
        pass
elif what == "verify":
    assert verify(path).ok
elif what == "open":
    Log(path).close()
print(before, peak())
"""


def run(context: Context) -> list[Row]:
    megabytes = context.pick(100, 5)
    rounds = context.times(5, 2)
    path = os.path.join(context.folder(), "events.jsonl")
    write(path, megabytes * 1_000_000 // _LINE_BYTES)
    size = os.path.getsize(path)
    works: dict[str, Timed] = {
        "verify": functools.partial(_timed, lambda: verify(path)),
        "open": functools.partial(_open, context, path, b""),
        "torn": functools.partial(_open, context, path, _TORN),
        "hash": functools.partial(_timed, lambda: _hash_lines(path)),
        "json": functools.partial(_timed, lambda: _parse(path)),
    }
    seconds = interleave(rounds, works)
    made = (
        ("verify: sums, chain and seqs", "verify"),
        ("opening it for append", "open"),
        ("the same, with a torn tail to move aside", "torn"),
    )
    rows = [
        paired(
            what,
            seconds[name],
            beside,
            seconds[other],
            unit="MB/s",
            scale=lambda second: size / second / 1e6,
            note=f"{_median(seconds[name]):.2f} s for {size / 1e6:.0f} MB"
            if other == "hash"
            else "",
        )
        for what, name in made
        for beside, other in (("hashing each line, no more", "hash"), ("stdlib json", "json"))
    ]
    return [*rows, *_memory(path)]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _timed(work: object) -> float:
    with clock() as elapsed:
        work()  # type: ignore[operator]
        return elapsed()


def _open(context: Context, path: str, tail: bytes) -> float:
    """Return the seconds in which a copy of the log, with a tail, is opened for append."""
    folder = context.folder()
    copy = os.path.join(folder, "events.jsonl")
    shutil.copyfile(path, copy)
    with open(copy, "ab") as file:
        file.write(tail)
        file.flush()
        os.fsync(file.fileno())  # the open would have to, and that is the disk's time
    try:
        with clock() as elapsed:
            log = Log(copy)
            seconds = elapsed()
        log.close()
    finally:
        shutil.rmtree(folder)
    return seconds


def _hash_lines(path: str) -> None:
    """Hash what a sum covers of each line: the work that no check can do without."""
    sha256 = hashlib.sha256
    with open(path, "rb") as file:
        for line in file:
            sha256(line[:-27]).digest()


def _parse(path: str) -> None:
    with open(path, "rb") as file:
        for line in file:
            json.loads(line)


def _memory(path: str) -> list[Row]:
    rows = []
    for what, name in (
        ("reading records, each sum checked", "read"),
        ("verify", "verify"),
        ("opening it for append", "open"),
    ):
        grown, whole = _peak(name, path)
        rows.append(
            single(
                f"memory that is added at its peak: {what}",
                [grown / 1e6],
                unit="MB",
                note=f"the process takes {whole / 1e6:.0f} MB in all",
            )
        )
    return rows


def _peak(what: str, path: str) -> tuple[int, int]:
    """Return the bytes by which a process of its own grew, and its peak."""
    benchmarks = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, "-c", _CHILD, what, path, benchmarks]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    before, after = map(int, done.stdout.split())
    return after - before, after


CASE = Case(
    name="large",
    about="a log of 100 MB: verifying it, opening it (recovery), and the memory that takes",
    bar="none; beside the hashing that no check can do without",
    run=run,
)
