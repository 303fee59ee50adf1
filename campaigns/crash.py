"""Cut the power, or kill the writer, at every call of a log's life; see what recovery makes of it.

For each state: every event that was promised is there, nothing else is accepted than what was
written, the seqs are contiguous, and a second recovery changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from random import Random

from eventlog import Durability, EventLogError, Log

from . import chain
from .calls import Mark, Op, State, Wrote
from .disk import STALE, Disk
from .memory import MemoryFiles
from .story import PATH, START_NS, Leg, Promise, beginning, steady, whole_lines
from .tally import Failure, Tally

LEGS = 4


def run(seed: int, samples: int, tally: Tally, *, failing: float = 0.15) -> None:
    """Live one life of a log and look at its crashes.

    Args:
        seed: decides all of it.
        samples: how many states are drawn after each call.
        tally: takes the counts.
        failing: how likely it is that the disk is a bad one, and programs go on using it.
    """
    rng = Random(seed)
    tally.lives += 1
    with steady(seed):
        start = beginning(rng)
        lines = whole_lines(start.get(PATH, b""))
        promised = Promise("", lines, lines)
        files, disk = MemoryFiles(start, []), _disk(start)
        known = _lines(start.get(PATH, b""))
        bad = rng.random() < failing
        for number in range(rng.randint(1, LEGS)):
            assert files.ops is not None
            files.ops.clear()
            leg = Leg(files, rng, promised, bad=bad)
            promised = leg.run()
            walk = _Walk(seed, number, rng, disk, known, tally)
            cut = walk.over(files.ops, samples)
            if rng.random() < (0.2 if bad else 0.6):
                state, promised, known = cut
                files, disk = MemoryFiles(state, []), _disk(state)
            else:
                known = walk.known
            if tally.failures and tally.failures[-1].seed == seed:
                return  # what follows from a wrong state says nothing


def _disk(state: State) -> Disk:
    disk = Disk(state)
    for path, ino in MemoryFiles(state).inos().items():
        disk.adopt(path, ino)
    return disk


def _lines(content: bytes) -> set[bytes]:
    lines = content.split(b"\n")
    return {line + b"\n" for line in lines}


class _Walk:
    """One leg's calls, one after the other, with a crash after each."""

    def __init__(
        self, seed: int, leg: int, rng: Random, disk: Disk, known: set[bytes], tally: Tally
    ) -> None:
        self._seed, self._leg, self._rng, self._disk, self._tally = seed, leg, rng, disk, tally
        self.known = known
        self._seen: set[int] = set()
        self._promise = Promise("", b"", b"")

    def over(self, ops: list[Op], samples: int) -> tuple[State, Promise, set[bytes]]:
        """Look at every prefix; return one state to go on from, and what must be in it."""
        rng = self._rng
        chosen = rng.randrange(len(ops)) if ops else -1
        kept: tuple[State, Promise, set[bytes]] = ({}, self._promise, set())
        before = b""
        for call, op in enumerate(ops):
            self._disk.apply(op, rng)
            if isinstance(op, Mark):
                self._promise = op.value
            elif isinstance(op, Wrote):
                self.known |= _lines(self._disk.seen().get(PATH, b""))
            promise = self._promise
            seen = self._disk.seen()
            self._look(call, seen, promise, promise.kill)
            if isinstance(op, Wrote):
                self._look(call, _cut_short(before, seen, rng), promise, promise.kill)
            before = seen.get(PATH, b"")
            stale = 0
            for _ in range(samples):
                fresh = self._look(call, self._disk.sample(rng), promise, promise.power)
                stale = 0 if fresh else stale + 1
                if stale >= STALE:
                    break
            if call == chosen:
                survives = promise._replace(kill=promise.power)
                kept = (self._disk.sample(rng), survives, set(self.known))
        return kept

    def _look(self, call: int, state: State, promise: Promise, required: bytes) -> bool:
        key = hash((frozenset(state.items()), len(required), promise.phase))
        if key in self._seen:
            self._tally.repeats += 1
            return False
        self._seen.add(key)
        self._tally.states[promise.phase] += 1
        level = self._rng.choice(tuple(Durability))
        why = judge(state, required, self.known, promise.tail, level)
        if why:
            self._tally.fail(Failure(self._seed, self._leg, call, promise.phase, why))
        return True


def _cut_short(before: bytes, seen: State, rng: Random) -> State:
    """Return what a writer leaves that was killed within the write that was its last call."""
    whole = seen.get(PATH, b"")
    if len(whole) <= len(before):
        return seen
    return seen | {PATH: whole[: rng.randrange(len(before), len(whole))]}


def judge(state: State, required: bytes, known: set[bytes], tail: bytes, level: Durability) -> str:
    """Recover a state, twice, and return what is wrong with what comes of it, if anything."""
    files = MemoryFiles(state)
    try:
        with Log(PATH, durability=level, clock=lambda: START_NS, files=files) as log:
            recovered, own = log.recovered, log.next_seq
    except (EventLogError, OSError) as error:
        return f"refused: {error}"
    after = files.content(PATH)
    lines = chain.lines_of(after)
    new = 2 if recovered else 1
    accepted = lines[:-new]
    if not after.startswith(required) or len(b"".join(accepted)) < len(required):
        return f"lost: {len(required)} bytes were promised, {len(b''.join(accepted))} are there"
    for seq, line in enumerate(accepted):
        if line not in known:
            return f"accepted as seq {seq}, but never written: {line[:80]!r}"
    if len(lines) != own:
        return f"{len(lines)} lines where the writer counts {own}"
    if why := chain.check(lines):
        return why
    if tail and not _kept_aside(files, state, tail):
        return "the torn tail is neither in the log nor beside it"
    if why := _recoveries(files, lines):
        return why
    return _again(files, after, level)


def _kept_aside(files: MemoryFiles, before: State, tail: bytes) -> bool:
    if before.get(PATH, b"").endswith(tail):
        return True
    return any(data == tail for path, data in files.state().items() if ".torn-" in path)


def _recoveries(files: MemoryFiles, lines: list[bytes]) -> str:
    """Check that each tail that the log says was moved aside stands there."""
    for line in lines:
        if b'"type":"log.recovered"' in line and line.startswith(b'{"seq":'):
            data = json.loads(line)["data"]
            moved = files.content(f"/{data['moved_to']}")
            if hashlib.sha256(moved).hexdigest() != data["sha256"]:
                return f"{data['moved_to']} is not what was moved there"
    return ""


def _again(files: MemoryFiles, after: bytes, level: Durability) -> str:
    others = {path: data for path, data in files.state().items() if path != PATH}
    try:
        with Log(PATH, durability=level, clock=lambda: START_NS, files=files) as log:
            recovered = log.recovered
    except (EventLogError, OSError) as error:
        return f"refused after a recovery: {error}"
    content = files.content(PATH)
    one_more = content.startswith(after) and content.count(b"\n", len(after)) == 1
    same = others == {path: data for path, data in files.state().items() if path != PATH}
    if recovered is not None or not one_more or not same:
        return "a second recovery changed something"
    return ""
