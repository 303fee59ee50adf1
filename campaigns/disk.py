"""What a disk may hold after a power cut: the calls made so far, and what of them may be lost.

The rules are those of a POSIX file system that promises nothing beyond what was synced:

- A synced file has its bytes and its size. Beyond that, each 512-byte sector holds what it held
  at any moment since the last sync, independently of all others, and the size is any that the
  file had since then, or any between two of them that follow each other while it grew.
  (What one write was given counts as one moment, even if the system took it in parts.)
- After a failed sync some of the sectors may have been written. The system calls all of them
  clean: a later sync does not write them, unless they are written to again.
- Each change of a name is there or not, independently, unless its folder was synced since. A
  rename is there as a whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from .calls import (
    Cut,
    Made,
    Mark,
    Name,
    Named,
    Op,
    Renamed,
    State,
    Synced,
    SyncedFolder,
    Unnamed,
    Wrote,
)

SECTOR = 512
PAGE = 4096


class _Inode:
    """One file: what programs see, what is on the disk, and what was seen since the last sync.

    `image` is what the disk's sectors hold, whole ones, whatever `size` says of the file.
    """

    __slots__ = ("dirty", "ghosts", "image", "since", "size", "visible")

    def __init__(self, data: bytes = b"") -> None:
        self.visible = bytearray(data)
        self.image = data
        self.size = len(data)
        self.since: list[tuple[bytes, frozenset[int]]] = []  # what was seen, dirty sectors
        self.dirty: set[int] = set()
        self.ghosts = False  # clean sectors may differ from the disk's

    def write(self, offset: int, data: bytes, *, rest: bool) -> None:
        if rest and self.since:
            self.since.pop()
        gap = offset - len(self.visible)
        if gap > 0:
            self.visible.extend(bytes(gap))
        self.visible[offset : offset + len(data)] = data
        self._touch(offset, offset + len(data))

    def cut(self, size: int) -> None:
        old = len(self.visible)
        if size < old:
            del self.visible[size:]
        else:
            self.visible.extend(bytes(size - old))
        self._touch(min(size, old), max(size, old))

    def _touch(self, start: int, end: int) -> None:
        first, last = start // PAGE * PAGE, (end + PAGE - 1) // PAGE * PAGE
        self.dirty.update(range(first // SECTOR, last // SECTOR))
        self.since.append((bytes(self.visible), frozenset(self.dirty)))

    def sync(self) -> None:
        self.image = self._ghostly() if self.ghosts else bytes(self.visible)
        self.size = len(self.visible)
        self.ghosts = self.ghosts and self.image[: self.size] != self.visible
        self.since.clear()
        self.dirty.clear()

    def _ghostly(self) -> bytes:
        """Return the sectors after a sync that passes by those called clean."""
        image = bytearray(self.image.ljust(len(self.visible), b"\0"))
        for sector in self.dirty:
            _put(image, sector, self.visible)
        return bytes(image)

    def fail(self, rng: Random) -> None:
        """Call all clean, whatever of it is on the disk."""
        if self.since:
            self.size = self._size(rng)
            self.image = self._mix(rng)
        self.since.clear()
        self.dirty.clear()
        self.ghosts = True

    def sample(self, rng: Random) -> bytes:
        if not self.since:
            return self.image[: self.size].ljust(self.size, b"\0")
        size = self._size(rng)
        return self._mix(rng)[:size].ljust(size, b"\0")

    def _mix(self, rng: Random) -> bytes:
        """Return sectors of different moments."""
        longest = max(len(content) for content, _ in self.since)
        image = bytearray(self.image.ljust(longest, b"\0"))
        kept = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        last = len(self.since) - 1
        for sector in sorted(self.dirty):
            if sector * SECTOR >= len(image):
                break
            seen = last if rng.random() < kept else rng.randint(-1, last)
            if seen >= 0 and sector in self.since[seen][1]:  # else as the disk has it
                _put(image, sector, self.since[seen][0])
        return bytes(image)

    def _size(self, rng: Random) -> int:
        if rng.random() < 0.3:
            return len(self.since[-1][0])
        at = rng.randrange(len(self.since))
        after = len(self.since[at][0])
        before = len(self.since[at - 1][0]) if at else self.size
        if before >= after:
            return rng.choice((before, after))
        match rng.randrange(4):
            case 0:
                return before
            case 1:
                return after - 1
            case 2:
                return min(after, (rng.randint(before, after) + SECTOR - 1) // SECTOR * SECTOR)
            case _:
                return rng.randint(before, after)


def _put(image: bytearray, sector: int, content: bytes | bytearray) -> None:
    """Put one sector of a content into the image, with NULs beyond the content's end."""
    start, end = sector * SECTOR, min((sector + 1) * SECTOR, len(image))
    if start < end:
        image[start:end] = content[start:end].ljust(end - start, b"\0")


STALE = 6
"""So many states in a row that were seen before: there is little else to see here."""


class Disk:
    """What a disk holds while calls are made, and what a power cut may leave of it."""

    def __init__(self, state: State | None = None) -> None:
        self._inodes: dict[int, _Inode] = {}
        self._names: dict[str, int] = {}
        self._folders: set[str] = set()
        self._changes: list[Name] = []
        for ino, (path, data) in enumerate((state or {}).items()):
            self._inodes[-ino - 1] = _Inode(data)
            self._names[path] = -ino - 1

    def adopt(self, path: str, ino: int) -> None:
        """Say under which number calls will speak of a file that was there at the start."""
        self._inodes[ino] = self._inodes.pop(self._names[path])
        self._names[path] = ino

    def apply(self, op: Op, rng: Random) -> None:
        """Take in one call; `rng` decides what a failed sync wrote."""
        match op:
            case Wrote(ino, offset, data, rest):
                self._inodes[ino].write(offset, data, rest=rest)
            case Cut(ino, size):
                self._inodes[ino].cut(size)
            case Synced(ino, failed):
                if failed:
                    self._inodes[ino].fail(rng)
                else:
                    self._inodes[ino].sync()
            case SyncedFolder(path):
                here = [one for one in self._changes if os.path.dirname(_where(one)) == path]
                for change in here:
                    _change(self._names, self._folders, change)
                self._changes = [one for one in self._changes if one not in here]
            case Mark():
                pass
            case _:
                if isinstance(op, Named):
                    self._inodes.setdefault(op.ino, _Inode())
                self._changes.append(op)

    def sample(self, rng: Random) -> State:
        """Return one of the states that a power cut may leave now."""
        names, folders = dict(self._names), set(self._folders)
        kept = rng.choice((0.0, 0.3, 0.7, 1.0, 1.0))
        for change in self._changes:
            if rng.random() < kept:
                _change(names, folders, change)
        known = self._folders | {one.path for one in self._changes if isinstance(one, Made)}
        lost = {folder for folder in known if folder not in folders}
        data: dict[int, bytes] = {}
        state: State = {}
        for path, ino in names.items():
            if lost and any(path.startswith(folder + "/") for folder in lost):
                continue
            if ino not in data:
                data[ino] = self._inodes[ino].sample(rng)
            state[path] = data[ino]
        return state

    def seen(self) -> State:
        """Return what a program sees now, and what a killed one leaves."""
        names = dict(self._names)
        for change in self._changes:
            _change(names, set(), change)
        return {path: bytes(self._inodes[ino].visible) for path, ino in names.items()}


def _where(change: Name) -> str:
    return change.new if isinstance(change, Renamed) else change.path


def _change(names: dict[str, int], folders: set[str], change: Name) -> None:
    match change:
        case Named(path, ino):
            names[path] = ino
        case Unnamed(path):
            names.pop(path, None)
        case Renamed(old, new, ino):
            names.pop(old, None)
            names[new] = ino
        case Made(path):
            folders.add(path)


class Crash(NamedTuple):
    """One state to recover, and where it came from."""

    call: int
    mark: Any
    state: State


def crashes(disk: Disk, ops: list[Op], rng: Random, samples: int) -> Iterator[Crash | None]:
    """Make the calls on the disk, and yield what a kill and power cuts leave after each.

    Yields None for a state that was yielded before under the same mark; `mark` is the value of
    the last one.
    """
    mark: Any = None
    seen: set[int] = set()
    for call, op in enumerate(ops):
        disk.apply(op, rng)
        if isinstance(op, Mark):
            mark = op.value
        stale = 0
        for number in range(samples + 1):
            state = disk.sample(rng) if number else disk.seen()
            key = hash((id(mark), frozenset(state.items())))
            if key in seen:
                yield None
                stale += 1
                if stale >= STALE:
                    break
                continue
            stale = 0
            seen.add(key)
            yield Crash(call, mark, state)
