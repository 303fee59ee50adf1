"""Appending to the log: one at a time, in batches, with and without a sync."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
from collections.abc import Callable

import msgspec
from harness import Bar, Case, Context, Row, Timed, clock, interleave, paired
from logs import FIELDS, events, ready_lines

from eventlog import Durability, Log
from eventlog.fs import FILES


def run(context: Context) -> list[Row]:
    rounds = context.times(7, 3)
    few, many = context.pick(500, 200), context.pick(50_000, 10_000)
    return [
        *_synced(context, few, rounds),
        *_batched(context, few, many, rounds),
        *_unsynced(context, many, rounds),
    ]


def _synced(context: Context, count: int, rounds: int) -> list[Row]:
    works = {
        "sync": _log(context, count, Durability.SYNC),
        "group": _log(context, count, Durability.GROUP),
        "raw write + fdatasync": _raw(context, count, sync=True),
        "json + flush + fdatasync": _json(context, count, sync=True),
        "SQLite WAL, FULL": _sqlite(context, count, 1),
    }
    seconds = interleave(rounds, works)
    return [
        paired(
            f"`{name}`, one at a time",
            seconds[name],
            beside,
            seconds[beside],
            unit="us an event",
            scale=lambda second: second * 1e6 / count,
            bar=Bar("<=", 1.3) if name == "sync" and beside.startswith("raw") else None,
        )
        for name in ("sync", "group")
        for beside in list(works)[2:]
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
        seconds = interleave(rounds, works)
        alone = [second * count / few for second in seconds["sync"]]  # as if it wrote as many
        bar = Bar(">=", 10) if size == 64 else None
        for name, other, limit in (
            ("`sync`, one at a time", alone, bar),
            (f"raw write + fdatasync of {size}", seconds["raw"], None),
            (f"SQLite WAL, FULL, {size} a transaction", seconds["sqlite"], None),
        ):
            rows.append(
                paired(
                    f"`group`, {size} in a batch",
                    seconds["group"],
                    name,
                    other,
                    unit="events/s",
                    scale=functools.partial(_rate, count),
                    bar=limit,
                )
            )
    return rows


def _unsynced(context: Context, count: int, rounds: int) -> list[Row]:
    works = {
        "one": _log(context, count, Durability.OS),
        "batch": _log(context, count, Durability.OS, 256),
        "raw write": _raw(context, count, sync=False),
        "msgspec + write": _msgspec(context, count),
        "json + flush": _json(context, count, sync=False),
    }
    seconds = interleave(rounds, works)
    scale = functools.partial(_rate, count)
    bar = Bar(">=", 200_000, of="value", unit="events/s")
    rows = []
    for what, name in (("`os`, one at a time", "one"), ("`os`, 256 in a batch", "batch")):
        for beside in list(works)[2:]:
            limit = bar if beside == "raw write" else None
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


def _sqlite(context: Context, count: int, size: int) -> Timed:
    lines = [(line.decode(),) for line in ready_lines(os.path.join(context.folder(), "x"), count)]
    batches = [lines[start : start + size] for start in range(0, count, size)]

    def work() -> float:
        base = sqlite3.connect(os.path.join(context.folder(), "events.db"), isolation_level=None)
        try:
            base.execute("pragma journal_mode = wal")
            base.execute("pragma synchronous = full")
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
    bar="`sync` <= 1.3x raw write + fdatasync in time; `group` of 64 >= 10x `sync`; `os` >= 200k/s",
    run=run,
)
