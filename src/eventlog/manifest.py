"""What an index says of itself: which logs, how far, and where their events are."""

from __future__ import annotations

import hashlib
import os

import msgspec

from .found import LineRejected, LogState
from .lines import Source

VERSION = 1

_HEAD = 4 << 10
_TAIL = 64 << 10
_SETTLED_NS = 100_000_000
"""A file that was changed so shortly before may be changed again without a newer stamp."""

_WHOLE = 4 << 20
"""A log that has not settled is read anew, if it is not larger than this."""

_NAMED = 100
"""Rejected lines of a log that are named."""


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """Which file, and when it was last changed."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """Take it from the system's answer."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class Entry(msgspec.Struct, kw_only=True, array_like=True):
    """A log, as far as the index knows it.

    Attributes:
        log: its number; a log that is read anew gets another one.
        job_id: whose log it was said to be.
        stamp: of the file when it was read.
        settled: whether the stamp was old enough to be trusted.
        end: offset after the last line that was read.
        head, tail: hashes of the first and the last bytes before `end`.
        state: what was counted.
        rejected: the first lines that could not be loaded.
        jobs: up to two of the names that stand in its lines.
    """

    log: int
    job_id: str | None
    stamp: Stamp
    settled: bool
    end: int
    head: bytes
    tail: bytes
    state: LogState
    rejected: list[LineRejected] = []
    jobs: list[str] = []

    def is_same(self, stamp: Stamp, job_id: str | None) -> bool:
        """Return whether nothing can have changed since."""
        return self.settled and self.stamp == stamp and self.job_id == job_id

    def goes_on(self, source: Source, stamp: Stamp, job_id: str | None) -> bool:
        """Return whether the file has what was read, and at most more lines after it."""
        before = self.stamp
        if self.job_id != job_id or (stamp.dev, stamp.ino) != (before.dev, before.ino):
            return False
        if stamp.size < self.end or (
            stamp.size == before.size and stamp.mtime_ns != before.mtime_ns
        ):
            return False  # shorter, or written to without growing
        if not self.settled and stamp.size == before.size and self.end <= _WHOLE:
            return False
        return (self.head, self.tail) == prints(source, self.end)


class Segment(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A file of events."""

    name: str
    stamp: Stamp
    crc: int
    rows: int
    logs: list[int]


class Manifest(msgspec.Struct, kw_only=True):
    """What the index holds. `next_log` is the number of the next log; `shape` of the columns."""

    version: int = VERSION
    shape: str = ""
    next_log: int = 1
    logs: dict[str, Entry] = {}
    segments: list[Segment] = []


def prints(source: Source, end: int) -> tuple[bytes, bytes]:
    """Return hashes of the first and the last bytes of what is before an offset."""
    tail = max(0, end - _TAIL)
    return (
        hashlib.sha256(source.read_at(0, min(_HEAD, end))).digest()[:16],
        hashlib.sha256(source.read_at(tail, end - tail)).digest()[:16],
    )


def is_settled(stamp: Stamp, now_ns: int) -> bool:
    """Return whether a later change of the file must give it another stamp."""
    return now_ns - max(stamp.mtime_ns, stamp.ctime_ns) > _SETTLED_NS


def parsed(data: bytes, shape: str) -> Manifest | None:
    """Return a manifest that is whole, of this version, and of these columns; else None."""
    head, _, payload = data.partition(b"\n")
    if not payload or hashlib.sha256(payload).hexdigest().encode() != head:
        return None
    try:
        manifest = msgspec.json.decode(payload, type=Manifest)
    except (msgspec.DecodeError, RecursionError):
        return None
    return manifest if (manifest.version, manifest.shape) == (VERSION, shape) else None


def written(manifest: Manifest) -> bytes:
    """Return a manifest with the hash of its bytes before it."""
    payload = msgspec.json.encode(manifest)
    return hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def capped(rejected: list[LineRejected]) -> list[LineRejected]:
    """Return as many named lines of a log as the index keeps."""
    return rejected[:_NAMED]
