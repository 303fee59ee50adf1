"""Rot: every bit flipped, every truncation, every line removed, doubled, moved or swapped.

Each change is seen with the seq of the first line that is not as it was, or does no harm: the
last newline may be gone or spoilt, and a cut leaves the whole lines before it (what is missing
then only an anchor shows). No changed log that is refused is written to. Beside it stands what
a reader of plain JSON lines would have made of the same flips.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from eventlog import Durability, EventLogError, Log, Verdict, scan
from eventlog.lines import BytesSource

from .memory import MemoryFiles
from .story import steady

LEGS = 3
MAX_PAIRS = 20_000
STRIDE = 64
"""Of the flips, every so many are opened for writing, too."""


class Change(NamedTuple):
    """A changed log, and the seq of the first line that is not as it was."""

    kind: str
    data: bytes
    seq: int


def make(size: int, seed: int) -> bytes:
    """Return a sound log of about `size` bytes, of some legs at all levels."""
    rng = Random(seed)
    files = MemoryFiles({})
    ticks = itertools.count(1_700_000_000_000_000_000, 1_000_001)
    with steady(seed):
        for leg in range(1, LEGS + 1):
            level = rng.choice(tuple(Durability))
            with Log(
                "/l", files=files, lock_path="/k", durability=level, clock=lambda: next(ticks)
            ) as log:
                while log.offset < size * leg // LEGS:
                    batch = [{"type": "noted", "data": {"n": n}} for n in range(rng.choice((1, 3)))]
                    log.append(*batch, {"type": "said", "text": "x" * rng.choice((0, 30, 300))})
    return files.content("/l")


def flips(data: bytes, begin: int, end: int) -> Iterator[Change]:
    """Yield each log with one bit changed, of the bytes from `begin` to `end`."""
    ends = _ends(data)
    for offset in range(begin, min(end, len(data))):
        for bit in range(8):
            changed = bytearray(data)
            changed[offset] ^= 1 << bit
            yield Change("bit flipped", bytes(changed), bisect_right(ends, offset))


def cuts(data: bytes, begin: int, end: int) -> Iterator[Change]:
    """Yield each log that ends at one of these offsets."""
    ends = _ends(data)
    for size in range(begin, min(end, len(data))):
        yield Change("cut", data[:size], bisect_right(ends, size))


def moves(data: bytes, rng: Random) -> Iterator[Change]:
    """Yield logs with lines removed, doubled, moved and swapped; of many, a part."""
    lines = data.splitlines(keepends=True)
    count = len(lines)
    for seq in range(count - 1):
        yield Change("line removed", b"".join(lines[:seq] + lines[seq + 1 :]), seq)
    pairs = list(itertools.product(range(count), repeat=2))
    for one, other in rng.sample(pairs, min(MAX_PAIRS, len(pairs))):
        low, high = sorted((one, other))
        if low != high:
            between = lines[low + 1 : high]
            swapped = [*lines[:low], lines[high], *between, lines[low], *lines[high + 1 :]]
            yield Change("lines swapped", b"".join(swapped), low)
            moved = [*lines[:low], *between, lines[high], lines[low], *lines[high + 1 :]]
            yield Change("line moved", b"".join(moved), low)
            if high < count - 1:
                yield Change("lines removed", b"".join(lines[:low] + lines[high:]), low)
        doubled = [*lines[:other], lines[one], *lines[other:]]
        # A line before itself, or after, is the same: the second of the two is one too many.
        yield Change("line doubled", b"".join(doubled), other + (one == other))


def _ends(data: bytes) -> list[int]:
    return list(itertools.accumulate(map(len, data.splitlines(keepends=True))))


def judge(data: bytes, change: Change) -> str:
    """Return what is wrong with what is said of a change, if anything."""
    found = scan(BytesSource(change.data))
    if change.data[: found.end] != data[: found.end]:
        return "a changed line was accepted"
    if change.kind == "cut":
        whole = found.verdict is Verdict.WHOLE and len(change.data) == found.end
        settled = whole or found.verdict in {Verdict.TORN, Verdict.UNTERMINATED}
        lines = change.seq + (found.verdict is Verdict.UNTERMINATED)
        return "" if settled and found.lines == lines else f"{found.verdict}, {found.lines} lines"
    if found.verdict is Verdict.UNTERMINATED and found.junk:
        newline = len(change.data) == len(data) and found.end == len(data) - 1
        return "" if newline else "a changed log was called whole"
    if (found.verdict, found.bad_seq) != (Verdict.DAMAGED, change.seq):
        return f"{found.verdict} at {found.bad_seq}, and it is seq {change.seq}"
    return ""


def refused(change: Change) -> str:
    """Open a log for writing; return what is wrong, if it is damaged and not refused and kept."""
    if scan(BytesSource(change.data)).verdict is not Verdict.DAMAGED:
        return ""
    files = MemoryFiles({"/l": change.data})
    try:
        Log("/l", files=files, lock_path="/k").close()
    except EventLogError:
        return "" if files.content("/l") == change.data else "a refused log was changed"
    return "a damaged log was opened"


def _plain(data: bytes, changed: bytes) -> str:
    """Return what a reader of JSON lines makes of a change: `seen`, `harmless` or `silent`."""
    try:
        said = [json.loads(line) for line in changed.splitlines()]
    except ValueError:
        return "seen"
    return "harmless" if said == [json.loads(line) for line in data.splitlines()] else "silent"


class _Task(NamedTuple):
    kind: str
    size: int
    seed: int
    begin: int
    end: int


class _Told(NamedTuple):
    counts: Counter[str]
    plain: Counter[str]
    wrong: list[str]


def _work(task: _Task) -> _Told:
    data = make(task.size, task.seed)
    told = _Told(Counter(), Counter(), [])
    for number, change in enumerate(_changes(task, data)):
        told.counts[change.kind] += 1
        why = judge(data, change)
        if not why and number % STRIDE == 0:
            why = refused(change)
        if why:
            told.wrong.append(f"{change.kind}, number {number} from {task.begin}: {why}")
        elif change.kind == "bit flipped":
            at = change.seq
            old, new = (d.split(b"\n")[at : at + 1] for d in (data, change.data))
            told.plain[_plain(b"\n".join(old), b"\n".join(new))] += 1
    return told


def _changes(task: _Task, data: bytes) -> Iterator[Change]:
    match task.kind:
        case "flips":
            return flips(data, task.begin, task.end)
        case "cuts":
            return cuts(data, task.begin, task.end)
        case _:
            return moves(data, Random(task.seed))


def main(size: int, seed: int, workers: int) -> int:
    """Change one log in every way and print what was seen; return how much was not."""
    data = make(size, seed)
    lines = data.count(b"\n")
    print(f"rot: seed {seed}, a log of {len(data):,} bytes, {lines:,} lines, {workers} processes")
    began = time.perf_counter()
    step = max(1, len(data) // 64)
    tasks = [
        _Task(kind, size, seed, begin, begin + step)
        for kind in ("flips", "cuts")
        for begin in range(0, len(data), step)
    ]
    tasks.append(_Task("moves", size, seed, 0, 0))
    counts, plain = Counter[str](), Counter[str]()
    wrong: list[str] = []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for told in pool.imap_unordered(_work, tasks):
            counts += told.counts
            plain += told.plain
            wrong += told.wrong
    for kind, count in sorted(counts.items()):
        print(f"{kind:<24} {count:>10,}")
    print(
        f"{counts.total():,} changes, {len(wrong)} not seen or told wrong,"
        f" in {time.perf_counter() - began:.0f} s"
    )
    silent = plain["silent"] / max(1, plain.total())
    print(f"the same bits flipped, read as plain JSON lines: {silent:.0%} silently other content")
    for why in wrong[:5]:
        print(f"WRONG: {why}")
    return len(wrong)
