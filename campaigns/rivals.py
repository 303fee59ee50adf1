"""Five ways to keep events: ours at two levels, and what programs do without it.

Each has a writer, which tells of every event that was accepted, and a look at what is left.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from random import Random

from eventlog import Durability, EventLogError, Log

from . import chain
from .children import Ack, event, is_orphan, tell

Write = Callable[[str, int, Random], None]
"""Writes events into a folder until the disk goes away, and tells of each that was accepted."""


def _ours(durability: Durability, threads: int) -> Write:
    def write(folder: str, pipe: int, rng: Random) -> None:
        with Log(os.path.join(folder, "events.jsonl"), durability=durability) as log:
            writers = [
                threading.Thread(target=quietly, args=(lambda who: _append(log, pipe, who), who))
                for who in (rng.randrange(1 << 40) for _ in range(threads))
            ]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()

    return write


def _append(log: Log, pipe: int, who: int) -> None:
    rng = Random(who)
    number = 0
    while not is_orphan():
        batch = [event(who, number + i, rng) for i in range(rng.choice((1, 1, 2, 5)))]
        for i, seq in enumerate(log.append(*batch)):
            tell(pipe, Ack(seq, who, number + i))
        number += len(batch)


def _naive(folder: str, pipe: int, rng: Random) -> None:
    with open(os.path.join(folder, "events.jsonl"), "a", encoding="utf-8") as file:
        number = 0
        while not is_orphan():
            file.write(json.dumps(event(0, number, rng)) + "\n")
            file.flush()
            tell(pipe, Ack(number, 0, number))
            number += 1


def _sqlite(*pragmas: str) -> Write:
    def write(folder: str, pipe: int, rng: Random) -> None:
        with closing(sqlite3.connect(os.path.join(folder, "events.db"))) as base:
            for pragma in pragmas:
                base.execute(f"pragma {pragma}")
            base.execute("create table events (n integer primary key, body text)")
            base.commit()
            number = 0
            while not is_orphan():
                base.execute(
                    "insert into events values (?, ?)", (number, json.dumps(event(0, number, rng)))
                )
                base.commit()
                tell(pipe, Ack(number, 0, number))
                number += 1

    return write


def _in_log(folder: str, told: list[Ack]) -> tuple[int, str]:
    path = os.path.join(folder, "events.jsonl")
    try:
        Log(path).close()
    except EventLogError as error:
        return len(told), f"refused: {error}"
    with open(path, "rb") as file:
        lines = chain.lines_of(file.read())
    return len(chain.missing(lines, told)), chain.check(lines)


def _in_json(folder: str, told: list[Ack]) -> tuple[int, str]:
    there = set()
    wrong = ""
    try:
        with open(os.path.join(folder, "events.jsonl"), "rb") as file:
            for line in file:
                try:
                    there.add(json.loads(line)["data"]["n"])
                except (ValueError, KeyError, TypeError):
                    wrong = "a line that is no event"
    except FileNotFoundError:
        pass
    return sum(ack.number not in there for ack in told), wrong


def _in_sqlite(folder: str, told: list[Ack]) -> tuple[int, str]:
    try:
        with closing(sqlite3.connect(os.path.join(folder, "events.db"))) as base:
            there = {number for (number,) in base.execute("select n from events")}
    except sqlite3.DatabaseError as error:
        return len(told), "" if "no such table" in str(error) else f"refused: {error}"
    return sum(ack.number not in there for ack in told), ""


Look = Callable[[str, list[Ack]], tuple[int, str]]
WRITERS: dict[str, tuple[Write, Look]] = {
    "eventlog group": (_ours(Durability.GROUP, 4), _in_log),
    "eventlog sync": (_ours(Durability.SYNC, 1), _in_log),
    "json + flush": (_naive, _in_json),
    "SQLite WAL FULL": (_sqlite("journal_mode=wal", "synchronous=full"), _in_sqlite),
    "SQLite default": (_sqlite(), _in_sqlite),
}


def quietly(write: Callable[..., None], *arguments: object) -> None:
    """Write until the disk goes away."""
    try:
        write(*arguments)
    except (EventLogError, OSError, sqlite3.Error):
        pass
