"""Random lives of a log: legs of open and append, each ended by a close, a kill or a power cut.

A leg runs the real writer over files in memory. Its calls are noted, with marks for what it
promised; `crash` then cuts the power at each of them.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import socket
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple
from unittest import mock

from eventlog import Durability, EventLogError, Log, Verdict, check, scan

from .calls import Mark, Op, State
from .memory import Bytes, Fault, MemoryFiles

PATH = "/events.jsonl"
START_NS = 1_700_000_000_000_000_000
LEVELS = (Durability.GROUP, Durability.GROUP, Durability.SYNC, Durability.OS)
FOREIGN = (
    b'{"timestamp":"2025-10-22T10:00:00","type":"step.started","step":"a"}\n',
    b'{"type":"x","sum":42,"pad":"%b"}\n',
    b"\n",
    b'{"ts":"2025-10-22T10:00:00Z","type":"job.started","job_id":"j"}\n',
)


class Promise(NamedTuple):
    """What must be there from a mark on.

    Attributes:
        phase: the write path that runs from here.
        power: bytes of the log that survive a power cut.
        kill: bytes of it that survive the writer's death.
        tail: the torn end that the open found: it is moved aside, never lost.
    """

    phase: str
    power: bytes
    kill: bytes
    tail: bytes = b""


@contextlib.contextmanager
def steady(seed: int) -> Iterator[None]:
    """Make what logs contain depend on the seed alone."""
    rng = Random(f"names {seed}")
    with (
        mock.patch.object(secrets, "token_hex", lambda n: rng.randbytes(n).hex()),
        mock.patch.object(os, "getpid", return_value=4242),
        mock.patch.object(socket, "gethostname", return_value="host"),
    ):
        yield


class Leg:
    """One writer's stretch: what it did to the files, and what it promised.

    Args:
        files: what it finds; its `ops` take the calls and the marks.
        rng: decides all that it does.
        promised: what must survive from before.
        bad: whether the disk is a bad one: most legs fail, and most syncs are what does.
    """

    def __init__(self, files: MemoryFiles, rng: Random, promised: Promise, *, bad: bool) -> None:
        self._files = files
        self._rng = rng
        self._ops: list[Op] = files.ops if files.ops is not None else []
        self.level = rng.choice((*LEVELS, Durability.OS, Durability.OS) if bad else LEVELS)
        self.promise = promised
        if rng.random() < (0.8 if bad else 0.2):
            files.fault = _fault(rng, bad=bad)
        files.step = rng.choice((0, 0, 0, 0, 0, 100, 511))

    def run(self) -> Promise:
        """Open and append, to the end or to the first failure; return what is promised then."""
        phase, tail = _phase(self._files.content(PATH))
        self._mark(phase, tail=tail)
        log = None
        try:
            if phase == "repair unsealed" and self._rng.random() < 0.5:
                check._heal(PATH, f"{PATH}.lock", self._files)
                self._mark(phase, tail=tail)
                return self.promise
            log = Log(PATH, durability=self.level, clock=self._clock(), files=self._files)
            self._promise(f"append {self.level}", log)
            self._append(log)
        except EventLogError:
            assert self._files.fault is not None
            assert self._files.fault.hits, "a log in memory fails only where it is told to"
            self._mark("after a failure", tail=self.promise.tail)
        if log is not None and self._rng.random() < 0.7:  # else it is killed before
            self._close(log)
        self._files.fault = None
        self._files.step = 0
        return self.promise

    def _close(self, log: Log) -> None:
        try:
            log.close()
        except EventLogError:
            self._mark("after a failure", tail=self.promise.tail)
        else:
            if not log._poison:
                self._promise("closed", log)

    def _append(self, log: Log) -> None:
        rng = self._rng
        number = itertools.count(log.next_seq)
        for _ in range(rng.choice((0, 1, 2, 3, 5))):
            appends: list[tuple[tuple[dict[str, Any], ...], None]] = []
            for _ in range(rng.choice((1, 1, 2, 3))):
                batch = [_event(next(number), rng) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
                appends.append((tuple(batch), None))
            log.append_all(appends)
            self._promise(f"append {self.level}", log)
            if self.level is Durability.OS and rng.random() < 0.3:
                log.sync()
                self._promise("append os", log, synced=True)

    def _promise(self, phase: str, log: Log, *, synced: bool = False) -> None:
        content = self._files.content(PATH)[: log.offset]
        durable = synced or self.level is not Durability.OS or not phase.startswith("append")
        durable = durable or not self.promise.phase.startswith("append")  # the open syncs
        power = content if durable else self.promise.power
        self.promise = Promise(phase, power, content)
        self._ops.append(Mark("promise", self.promise))

    def _mark(self, phase: str, *, tail: bytes) -> None:
        self.promise = self.promise._replace(phase=phase, tail=tail)
        self._ops.append(Mark("promise", self.promise))

    def _clock(self) -> Any:
        ticks = itertools.count(START_NS, 1_000_001_000)
        return lambda: next(ticks)


def _event(number: int, rng: Random) -> dict[str, Any]:
    pad = rng.choice((0, 0, 10, 40, 200, 400, 800, 1600))
    return {"type": "noted", "data": {"n": number, "pad": "p" * (pad and rng.randint(1, pad))}}


def _fault(rng: Random, *, bad: bool) -> Fault:
    often = ("sync",) * (6 if bad else 1)
    name = rng.choice(("write", *often, "truncate", "sync_dir"))
    number = rng.choice((errno.EIO, errno.ENOSPC))
    return Fault(
        name,
        rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 7, 9)),
        number,
        partial=rng.choice((0, 0, 7, 200, 700)),
    )


def _phase(content: bytes) -> tuple[str, bytes]:
    """Name the write path that an open goes, and the torn tail that it finds."""
    if not content:
        return "create", b""
    found = scan(Bytes(content))
    if found.verdict is not Verdict.WHOLE:
        torn = found.verdict is Verdict.TORN
        name = "repair" if found.sealed else "repair unsealed"
        return name, content[found.end :] if torn else b""
    return ("reopen" if found.sealed else "continue unsealed"), b""


def beginning(rng: Random) -> State:
    """Return what stands there before the first leg: nothing, or another tool's lines."""
    if rng.random() < 0.7:
        return {}
    lines = [rng.choice(FOREIGN) for _ in range(rng.randint(1, 4))]
    pad = b"p" * rng.randint(0, 600)
    content = b"".join(line % pad if b"%b" in line else line for line in lines)
    if rng.random() < 0.5:
        content += FOREIGN[0][: rng.randint(1, len(FOREIGN[0]))]
    return {PATH: content}


def whole_lines(content: bytes) -> bytes:
    """Return an unsealed log's complete lines: what its own tool may have promised."""
    return content[: content.rfind(b"\n") + 1]
