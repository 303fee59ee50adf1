"""Appending to the log: one at a time, in batches, with and without a sync."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable

import anyio
import msgspec
import peers
from harness import Bar, Case, Context, Row, Timed, clock, interleave, paired
from logs import FIELDS, events, ready_lines

from eventlog import AsyncLog, Durability, Log
from eventlog.fs import FILES

_LIBRARY = "eventsourcing"
_APPENDERS = 64


def run(context: Context) -> list[Row]:
    rounds = context.times(7, 3)
    few, many = context.pick(500, 200), context.pick(50_000, 10_000)
    return [
        *_synced(context, few, rounds),
        *_shared(context, few, rounds),
        *_batched(context, few, many // 4, rounds),
        *_unsynced(context, many, rounds),
    ]


def _synced(context: Context, count: int, rounds: int) -> list[Row]:
    """Return the rows of one event after the other, each synced.

    Beside the raw calls the rounds are short and many: a disk's syncs differ tenfold within
    seconds, and then only neighbours can be compared.
    """
    short, many = max(count // 5, 1), rounds * 5
    raw = "raw write + fdatasync"
    near = interleave(
        many,
        {
            "sync": _log(context, short, Durability.SYNC),
            raw: _raw(context, short, sync=True),
            "group": _log(context, short, Durability.GROUP),
        },
    )
    works = {
        "sync": _log(context, count, Durability.SYNC),
        "group": _log(context, count, Durability.GROUP),
        "json + flush + fdatasync": _json(context, count, sync=True),
        "SQLite WAL, FULL": _sqlite(context, count, 1),
    }
    why = peers.not_ready(_LIBRARY)
    if not why:
        works[f"{_LIBRARY} (its SQLite)"] = _library(context, count, 1)
    seconds = interleave(rounds, works)

    def row(name: str, beside: str, taken: dict[str, list[float]], of: int) -> Row:
        return paired(
            f"`{name}`, one at a time",
            taken[name],
            beside,
            taken[beside],
            unit="us an event",
            scale=lambda second: second * 1e6 / of,
            bar=Bar("<=", 1.3) if (name, beside) == ("sync", raw) else None,
        )

    rows = []
    for name in ("sync", "group"):
        rows.append(row(name, raw, near, short))
        rows += [row(name, beside, seconds, count) for beside in list(works)[2:]]
    return [*rows, Row(what=f"{_LIBRARY} (its SQLite)", note=why)] if why else rows


def _shared(context: Context, few: int, rounds: int) -> list[Row]:
    """Return the rows of 64 that append one event each, again and again, beside one at a time."""
    count = few * 8 - few * 8 % _APPENDERS
    works = {
        "tasks": _tasks(context, count),
        "threads": _threads(context, count),
        "sync": _log(context, few, Durability.SYNC),
    }
    seconds = interleave(rounds, works)
    alone = [second * count / few for second in seconds["sync"]]  # as if it wrote as many
    return [
        paired(
            f"`group`, {_APPENDERS} {name} with one event each",
            seconds[name],
            "`sync`, one at a time",
            alone,
            unit="events/s",
            scale=functools.partial(_rate, count),
            bar=Bar(">=", 10),
        )
        for name in ("tasks", "threads")
    ]


def _batched(context: Context, few: int, many: int, rounds: int) -> list[Row]:
    rows = []
    for size in (64, 256):
        count = many - many % size
        works = {
            "group": _log(context, count, Durability.GROUP, size),
            "raw": _raw(context, count, sync=True, size=size),
            "sqlite": _sqlite(context, count, size),
            "sync": _log(context, few, Durability.SYNC),
        }
        if ready := not peers.not_ready(_LIBRARY):
            works["library"] = _library(context, count, size)
        seconds = interleave(rounds, works)
        alone = [second * count / few for second in seconds["sync"]]  # as if it wrote as many
        beside = {
            "`sync`, one at a time": alone,
            f"raw write + fdatasync of {size}": seconds["raw"],
            f"SQLite WAL, FULL, {size} a transaction": seconds["sqlite"],
        }
        if ready:
            beside[f"{_LIBRARY} (its SQLite), {size} a save"] = seconds["library"]
        for name, other in beside.items():
            rows.append(
                paired(
                    f"`group`, {size} in a batch",
                    seconds["group"],
                    name,
                    other,
                    unit="events/s",
                    scale=functools.partial(_rate, count),
                )
            )
    return rows


def _unsynced(context: Context, count: int, rounds: int) -> list[Row]:
    works = {
        "one": _log(context, count, Durability.OS),
        "batch": _log(context, count, Durability.OS, 256),
        "the least a sealed append can do": _least(context, count),
        "raw write": _raw(context, count, sync=False),
        "msgspec + write": _msgspec(context, count),
        "json + flush": _json(context, count, sync=False),
        "SQLite WAL, NORMAL": _sqlite(context, count, 1, "normal"),
        "SQLite WAL, NORMAL, 256 a transaction": _sqlite(context, count, 256, "normal"),
    }
    seconds = interleave(rounds, works)
    scale = functools.partial(_rate, count)
    bar = Bar(">=", 200_000, of="value", unit="events/s")
    rows = []
    for what, name, others in (
        ("`os`, one at a time", "one", list(works)[2:-1]),
        ("`os`, 256 in a batch", "batch", [*list(works)[3:-2], list(works)[-1]]),
    ):
        for beside in others:
            limit = bar if beside == "raw write" and name == "batch" else None
            row = paired(
                what,
                seconds[name],
                beside,
                seconds[beside],
                unit="events/s",
                scale=scale,
                bar=limit,
            )
            rows.append(row)
    return rows


def _rate(count: int, seconds: float) -> float:
    return count / seconds


def _log(context: Context, count: int, durability: Durability, size: int = 1) -> Timed:
    given = events(count)
    batches = [given[start : start + size] for start in range(0, count, size)]

    def work() -> float:
        path = os.path.join(context.folder(), "events.jsonl")
        with Log(path, fields=FIELDS, durability=durability) as log, clock() as elapsed:
            for batch in batches:
                log.append(*batch)
            return elapsed()

    return work


def _tasks(context: Context, count: int) -> Timed:
    given = events(count)

    async def main(path: str) -> float:
        async with AsyncLog(Log(path, fields=FIELDS)) as log:

            async def append(first: int) -> None:
                for event in given[first::_APPENDERS]:
                    await log.append(event)

            with clock() as elapsed:
                async with anyio.create_task_group() as group:
                    for first in range(_APPENDERS):
                        group.start_soon(append, first)
                return elapsed()

    return lambda: anyio.run(main, os.path.join(context.folder(), "events.jsonl"))


def _threads(context: Context, count: int) -> Timed:
    given = events(count)

    def work() -> float:
        with Log(os.path.join(context.folder(), "events.jsonl"), fields=FIELDS) as log:

            def append(first: int) -> None:
                for event in given[first::_APPENDERS]:
                    log.append(event)

            threads = [threading.Thread(target=append, args=(n,)) for n in range(_APPENDERS)]
            with clock() as elapsed:
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                seconds = elapsed()
            if log.next_seq != count + 1:  # and log.opened
                raise RuntimeError(f"{log.next_seq} events were appended where {count + 1} are due")
        return seconds

    return work


def _library(context: Context, count: int, size: int) -> Timed:
    """Return the work of an event-sourcing library, in a process and environment of its own."""

    def work() -> float:
        told = peers.drive(_LIBRARY, "eventsourcing_append.py", context.folder(), count, size)
        return float(told["seconds"])

    return work


def _raw(context: Context, count: int, *, sync: bool, size: int = 1) -> Timed:
    lines = ready_lines(os.path.join(context.folder(), "lines"), count)
    batches = [b"".join(lines[start : start + size]) for start in range(0, count, size)]

    def write(fd: int) -> None:
        for batch in batches:
            os.write(fd, batch)
            if sync:
                FILES.sync_data(fd)

    return _file(context, write)


def _json(context: Context, count: int, *, sync: bool) -> Timed:
    given = [msgspec.to_builtins(event) for event in events(count)]

    def write(fd: int) -> None:
        with os.fdopen(os.dup(fd), "a", encoding="utf-8") as file:
            for event in given:
                file.write(json.dumps(event) + "\n")
                file.flush()
                if sync:
                    FILES.sync_data(fd)

    return _file(context, write)


def _msgspec(context: Context, count: int) -> Timed:
    given = events(count)
    encode = msgspec.json.encode

    def write(fd: int) -> None:
        for event in given:
            os.write(fd, encode(event) + b"\n")

    return _file(context, write)


def _least(context: Context, count: int) -> Timed:
    """Return a loop that does for each event only what no sealed append can do without.

    It looks at the file that has the name, encodes, hashes, and writes: no types, members, locks,
    limits or errors.
    """
    given = events(count)
    encode, sha256 = msgspec.json.encode, hashlib.sha256

    def work() -> float:
        path = os.path.join(context.folder(), "lines")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        total, size = b"A" * 16, 0
        try:
            with clock() as elapsed:
                for seq, event in enumerate(given):
                    if os.lstat(path).st_size != size:
                        raise RuntimeError("the file is not as it was left")
                    stamp = b"2026-11-23T10:00:01.%06dZ" % (time.time_ns() // 1000 % 1_000_000)
                    members = encode(event)[1:-1]
                    body = b'{"seq":%d,"ts":"%b",%b,"prev":"%b"' % (seq, stamp, members, total)
                    total = base64.urlsafe_b64encode(sha256(body).digest()[:12])
                    size += os.write(fd, b'%b,"sum":"%b"}\n' % (body, total))
                return elapsed()
        finally:
            os.close(fd)

    return work


def _file(context: Context, write: Callable[[int], None]) -> Timed:
    def work() -> float:
        path = os.path.join(context.folder(), "lines")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            with clock() as elapsed:
                write(fd)
                return elapsed()
        finally:
            os.close(fd)

    return work


def _sqlite(context: Context, count: int, size: int, synchronous: str = "full") -> Timed:
    lines = [(line.decode(),) for line in ready_lines(os.path.join(context.folder(), "x"), count)]
    batches = [lines[start : start + size] for start in range(0, count, size)]

    def work() -> float:
        base = sqlite3.connect(os.path.join(context.folder(), "events.db"), isolation_level=None)
        try:
            base.execute("pragma journal_mode = wal")
            base.execute(f"pragma synchronous = {synchronous}")
            base.execute("create table events (seq integer primary key, line text)")
            with clock() as elapsed:
                for batch in batches:
                    base.execute("begin")
                    base.executemany("insert into events (line) values (?)", batch)
                    base.execute("commit")
                return elapsed()
        finally:
            base.close()

    return work


CASE = Case(
    name="append",
    about="sealed events of about 240 bytes, one process, by durability level",
    bar="`sync` <= 1.3x raw write + fdatasync in time; `group` with 64 appenders >= 10x `sync`;"
    " `os` >= 200k/s",
    run=run,
)
