"""kill -9: writers die at random instants and at random calls, and the log goes on.

Three ways to die: at a random instant of appending (one thread, or four that share batches), in
the first moments (open and recovery), and exactly before, within or after the n-th call to the
system. Now and then the file's end is torn in between, as a power cut would, so that opens have
something to repair.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import tempfile
import threading
import time
from collections import Counter
from random import Random
from typing import NamedTuple

from eventlog import Durability, EventLogError, Log
from eventlog.fs import Files

from . import chain
from .children import Ack, acks, drain, event, fork, is_orphan, kill, tell

KILLS_PER_LOG = 20
KINDS = ("append", "append", "threads", "open", "call", "call")
LEVELS = (Durability.GROUP, Durability.GROUP, Durability.SYNC, Durability.OS)
LONGEST_S = 0.02
PATIENCE_S = 10.0
"""How long a writer may take to its first acknowledgement."""


class Told(NamedTuple):
    """What a worker found."""

    counts: Counter[str]
    wrong: list[str]


class DyingFiles(Files):
    """The real calls; the process kills itself at the `nth`.

    Args:
        nth: which, from 1.
        where: `before`, `after`, or `within` (a write then writes only a part).
    """

    def __init__(self, nth: int, where: str) -> None:
        self._left, self._where = nth, where

    def _die(self, where: str) -> None:
        if where == "before":
            self._left -= 1
        if self._left == 0 and where == self._where:
            os.kill(os.getpid(), signal.SIGKILL)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        self._die("before")
        fd = super().open(path, flags, mode)
        self._die("after")
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._die("before")
        if self._left == 0 and self._where == "within":
            super().write(fd, data[: len(data) // 2])
            self._die("within")
        written = super().write(fd, data)
        self._die("after")
        return written

    def sync(self, fd: int) -> None:
        self._die("before")
        super().sync(fd)
        self._die("after")

    def sync_data(self, fd: int) -> None:
        self._die("before")
        super().sync_data(fd)
        self._die("after")

    def sync_dir(self, path: str) -> None:
        self._die("before")
        super().sync_dir(path)
        self._die("after")

    def truncate(self, fd: int, size: int) -> None:
        self._die("before")
        super().truncate(fd, size)
        self._die("after")


def _write(path: str, pipe: int, seed: int, kind: str) -> None:
    rng = Random(seed)
    level = rng.choice(LEVELS)
    files = Files()
    if kind == "call":
        files = DyingFiles(rng.randint(1, 20), rng.choice(("before", "within", "after")))
    with Log(path, durability=level, files=files) as log:
        threads = 4 if kind == "threads" else 1
        writers = [
            threading.Thread(target=_append, args=(log, pipe, seed * 8 + who))
            for who in range(threads)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()


def _append(log: Log, pipe: int, who: int) -> None:
    rng = Random(who)
    number = 0
    while not is_orphan():
        size = rng.choice((1, 1, 1, 2, 5))
        batch = [event(who, number + i, rng) for i in range(size)]
        for i, seq in enumerate(log.append(*batch)):
            tell(pipe, Ack(seq, who, number + i))
        number += size


class Subject:
    """One log that is killed again and again.

    Args:
        folder: of its own.
        seed: decides all but the instants.
    """

    def __init__(self, folder: str, seed: int) -> None:
        self._path = os.path.join(folder, "events.jsonl")
        self._rng = Random(seed)
        self._whole = 0  # bytes and lines that were there after the last recovery
        self._lines = 0
        self.counts: Counter[str] = Counter()

    def kill(self) -> str:
        """Start a writer, kill it, recover; return what is wrong, if anything."""
        rng = self._rng
        kind = rng.choice(KINDS)
        if self._whole and rng.random() < 0.2:
            self._tear()
        self.counts[f"kills: {kind}"] += 1
        end, pipe = os.pipe()
        seed = rng.randrange(1 << 40)
        pid = fork(lambda: _write(self._path, pipe, seed, kind))
        os.close(pipe)
        if kind in {"append", "threads"}:  # at any instant of appending, however slow the machine
            select.select([end], [], [], PATIENCE_S)
        time.sleep(rng.uniform(0, 0.003 if kind == "open" else LONGEST_S))
        code = kill(pid)
        told = acks(drain(end))
        if code != -signal.SIGKILL:
            return f"a writer ended by itself with {code}"
        self.counts["acknowledged"] += len(told)
        return self._recover(told)

    def _tear(self) -> None:
        """Leave what a power cut may leave: a part of a line, or space that was never written."""
        with open(self._path, "ab") as file:
            line = b'{"seq":%d,"ts":"2026-11-23T10:00:00.000000Z","type":"noted"' % self._lines
            file.write(self._rng.choice((line, line[:9], bytes(700), line + bytes(5000))))
        self.counts["torn before"] += 1

    def _recover(self, told: list[Ack]) -> str:
        try:
            with Log(self._path) as log:
                self.counts["tails moved aside"] += log.recovered is not None
                lines = log.next_seq
        except EventLogError as error:
            return f"refused: {error}"
        with open(self._path, "rb") as file:
            file.seek(self._whole)
            new = chain.lines_of(file.read())
        gone = chain.missing(new, told, self._lines)
        self.counts["lost"] += len(gone)
        self._whole += sum(map(len, new))
        self._lines += len(new)
        if lines != self._lines:
            return f"{self._lines} lines where the writer counts {lines}"
        return f"lost: {len(gone)} acknowledged events, such as {gone[0]}" if gone else ""

    def end(self) -> str:
        """Look at the whole log; return what is wrong, if anything."""
        with open(self._path, "rb") as file:
            lines = chain.lines_of(file.read())
        self.counts["events"] += len(lines)
        return chain.check(lines)


def _work(task: tuple[int, int, str | None]) -> Told:
    kills, seed, folder = task
    counts: Counter[str] = Counter()
    wrong = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        subject = Subject(scratch, seed)
        for _ in range(kills):
            if why := subject.kill():
                wrong.append(f"seed {seed}: {why}")
                break
        else:
            if why := subject.end():
                wrong.append(f"seed {seed}: {why}")
        counts += subject.counts
    return Told(counts, wrong)


def main(kills: int, seed: int, workers: int, folder: str | None) -> int:
    """Kill so many writers and print what came of it; return how often it was wrong."""
    print(f"kill -9: seed {seed}, {workers} processes")
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    tasks = [
        (min(KILLS_PER_LOG, kills - first), seed + number, folder)
        for number, first in enumerate(range(0, kills, KILLS_PER_LOG))
    ]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for told in pool.imap_unordered(_work, tasks):
            counts += told.counts
            wrong += told.wrong
    for name, count in sorted(counts.items()):
        print(f"{name:<24} {count:>10,}")
    done = sum(count for name, count in counts.items() if name.startswith("kills"))
    print(
        f"{done:,} kills, {counts['lost']:,} of {counts['acknowledged']:,} acknowledged events"
        f" lost, {len(wrong)} logs wrong, in {time.perf_counter() - began:.0f} s"
    )
    for why in wrong[:5]:
        print(f"WRONG: {why}")
    return len(wrong)
