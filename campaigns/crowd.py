"""A crowd at one log: contenders that take turns at writing and are killed, readers that follow.

However many want to write, the seqs are contiguous, the epochs rise and nothing forks; every
reader hands out every line once, whole, in order.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import struct
import tempfile
import time
from collections import Counter
from random import Random
from typing import Any

from eventlog import Durability, EventLogError, Follower, Log, LogLocked

from . import chain
from .children import Ack, acks, drain, event, fork, is_orphan, kill, tell

KILLS_PER_LOG = 100
LEVELS = (Durability.GROUP, Durability.SYNC, Durability.OS)
_LINES = struct.Struct("<q")
_DEAD = {"wrong": "a reader died", "lines": 0, "polls": 0, "sha256": ""}


def _contend(path: str, pipe: int, who: int) -> None:
    """Take the log whenever it is free, append for a moment, let go."""
    rng = Random(who)
    number = 0
    while not is_orphan():
        try:
            log = Log(path, durability=rng.choice(LEVELS))
        except LogLocked:
            time.sleep(rng.uniform(0, 0.002))
            continue
        until = time.monotonic() + rng.uniform(0, 0.01)
        while time.monotonic() < until:
            batch = [event(who, number + i, rng) for i in range(rng.choice((1, 1, 2, 5)))]
            for i, seq in enumerate(log.append(*batch)):
                tell(pipe, Ack(seq, who, number + i))
            number += len(batch)
        log.close()


def _follow(path: str, go_on: int, answer: int) -> None:
    """Follow the log until `go_on` says how many lines there are; answer with what was read."""
    lines, digest, polls, total = 0, hashlib.sha256(), 0, -1
    wrong = ""
    while not os.path.exists(path) and not is_orphan():
        time.sleep(0.001)
    with Follower(path) as follower:
        while not is_orphan() and not wrong and (total < 0 or lines < total):
            if total < 0 and select.select([go_on], [], [], 0)[0]:
                (total,) = _LINES.unpack(os.read(go_on, _LINES.size))
            found = list(follower.poll())
            polls += 1
            for line in found:
                if line.seq != lines or not _is_whole(line.raw):
                    wrong = wrong or f"line {lines} came as {line.seq}: {line.raw[:80]!r}"
                lines += 1
                digest.update(line.raw + b"\n")
            if not found:
                time.sleep(0.0005)
    told = {"lines": lines, "polls": polls, "sha256": digest.hexdigest(), "wrong": wrong}
    os.write(answer, json.dumps(told).encode())


def _is_whole(raw: bytes) -> bool:
    """Return whether a line verifies alone; as the first of a log it would."""
    said = json.loads(raw)
    body, _, rest = raw.rpartition(b',"sum":"')
    return rest == (chain.sum_of(body) + '"}').encode() and "seq" in said


class Crowd:
    """One log, those who want to write it, and those who read it.

    Args:
        folder: of its own.
        seed: decides all but the instants.
        contenders: how many want to write.
        readers: how many follow.
    """

    def __init__(self, folder: str, seed: int, contenders: int, readers: int) -> None:
        self._path = os.path.join(folder, "events.jsonl")
        self._rng = Random(seed)
        self.counts: Counter[str] = Counter()
        self._acks, self._pipe = os.pipe()
        self._told: list[bytes] = []
        self._go_on: list[int] = []
        self._answers: list[int] = []
        self._reading: list[int] = []
        self._writing: list[int] = []
        for _ in range(readers):
            self._start_reader()
        for _ in range(contenders):
            self._start_writer()

    def _start_reader(self) -> None:
        there, here = os.pipe()
        answer, theirs = os.pipe()
        path, acks_in, acks_out = self._path, self._acks, self._pipe

        def work() -> None:
            for fd in (here, acks_in, acks_out):  # else nobody sees when the last writer is gone
                os.close(fd)
            _follow(path, there, theirs)

        self._reading.append(fork(work))
        os.close(there)
        os.close(theirs)
        self._go_on.append(here)
        self._answers.append(answer)

    def _start_writer(self) -> None:
        path, pipe, who = self._path, self._pipe, self._rng.randrange(1 << 40)
        self._writing.append(fork(lambda: _contend(path, pipe, who)))

    def run(self, kills: int) -> list[str]:
        """Kill so many contenders, one after the other; return what was wrong."""
        rng = self._rng
        for _ in range(kills):
            self._listen(rng.uniform(0, 0.01))
            if why := self._kill(rng.choice(self._writing)):
                return [why]
            self._start_writer()
        for pid in list(self._writing):
            if why := self._kill(pid):
                return [why]
        return self._settle()

    def _listen(self, seconds: float) -> None:
        """Take in acknowledgements, so that nobody waits for room in the pipe."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._acks], [], [], left)[0]:
                self._told.append(os.read(self._acks, 1 << 16))

    def _kill(self, pid: int) -> str:
        self._writing.remove(pid)
        self.counts["kills"] += 1
        code = kill(pid)
        return "" if code == -signal.SIGKILL else f"a contender ended by itself with {code}"

    def _settle(self) -> list[str]:
        """Let the readers end, and compare all with all."""
        os.close(self._pipe)
        self._pipe = -1
        self._told.append(drain(self._acks))
        self._acks = -1
        try:
            Log(self._path).close()
        except EventLogError as error:
            return [f"refused: {error}"]
        with open(self._path, "rb") as file:
            content = file.read()
        lines = chain.lines_of(content)
        told = acks(b"".join(self._told))
        gone = chain.missing(lines, told)
        self.counts["events"] += len(lines)
        self.counts["epochs"] += sum(b'"type":"log.opened"' in line for line in lines)
        self.counts["acknowledged"] += len(told)
        self.counts["lost"] += len(gone)
        wrong = [f"lost: {ack}" for ack in gone[:1]]
        if why := chain.check(lines):
            wrong.append(why)
        return wrong + self._compare(len(lines), hashlib.sha256(content).hexdigest())

    def _compare(self, lines: int, sha256: str) -> list[str]:
        wrong = []
        for go_on, answer, pid in zip(self._go_on, self._answers, self._reading, strict=True):
            with contextlib.suppress(BrokenPipeError):  # it died, and is told of below
                os.write(go_on, _LINES.pack(lines))
            said = drain(answer)
            os.waitpid(pid, 0)
            told: dict[str, Any] = json.loads(said) if said else dict(_DEAD)
            self.counts["lines followed"] += told["lines"]
            self.counts["polls"] += told["polls"]
            if told["wrong"] or (told["lines"], told["sha256"]) != (lines, sha256):
                wrong.append(f"a reader: {told['wrong'] or 'it read something else'}")
        self._answers.clear()
        self._reading.clear()
        return wrong

    def close(self) -> None:
        """End what still runs."""
        for pid in (*self._writing, *self._reading):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                kill(pid)
        for fd in (self._acks, self._pipe, *self._go_on, *self._answers):
            if fd >= 0:
                os.close(fd)


def main(kills: int, seed: int, contenders: int, readers: int, folder: str | None) -> int:
    """Run crowds until so many contenders were killed; return how often something was wrong."""
    print(f"crowd: seed {seed}, {contenders} contenders, {readers} readers")
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    while counts["kills"] < kills and not wrong:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            crowd = Crowd(scratch, seed, contenders, readers)
            try:
                due = min(KILLS_PER_LOG, kills - counts["kills"])
                wrong += [f"seed {seed}: {why}" for why in crowd.run(due)]
            finally:
                crowd.close()
            counts += crowd.counts
        counts["logs"] += 1
        seed += 1
    for name, count in sorted(counts.items()):
        print(f"{name:<24} {count:>10,}")
    print(
        f"{counts['kills']:,} kills, {counts['lost']:,} of {counts['acknowledged']:,}"
        f" acknowledged events lost, {len(wrong)} wrong, in {time.perf_counter() - began:.0f} s"
    )
    for why in wrong[:5]:
        print(f"WRONG: {why}")
    return len(wrong)
