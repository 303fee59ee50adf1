"""What the log's tests share: an event type, small logs, and system calls that fail on demand."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from eventlog import Durability, Event, Log, read_lines
from eventlog.fs import Files

BASE_NS = 1_700_000_000_000_000_000
CALLS = ("open", "write", "sync_data", "sync", "sync_dir", "truncate")


class Noted(Event, frozen=True, kw_only=True, tag="noted"):
    data: dict[str, Any]


def note(n: int, **more: Any) -> Noted:
    return Noted(data={"n": n, **more})


def ticking() -> Callable[[], int]:
    """A clock that goes on by 1.000001 s a look."""
    count = itertools.count()
    return lambda: BASE_NS + next(count) * 1_000_001_000


def numbers(path: Any) -> list[int]:
    """The `n` of each complete noted line."""
    found = (msgspec.json.decode(line.raw) for line in read_lines(path))
    return [line["data"]["n"] for line in found if line["type"] == "noted"]


def types(path: Any) -> list[str]:
    return [msgspec.json.decode(line.raw)["type"] for line in read_lines(path)]


def small_log(
    path: Any,
    batches: int = 3,
    size: int = 2,
    durability: Durability = Durability.GROUP,
    **more: Any,
) -> bytes:
    """Write `log.opened` and batches of notes; return the file's bytes."""
    with Log(path, durability=durability, clock=ticking()) as log:
        for batch in range(batches):
            log.append(*(note(batch * size + i, **more) for i in range(size)))
    return content(path)


def content(path: Any) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def put(path: Any, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


class SwiftFiles(Files):
    """Real calls that don't wait for the disk, for tests that open hundreds of logs."""

    def sync_data(self, fd: int) -> None:
        pass

    sync = sync_data

    def sync_dir(self, path: str) -> None:
        pass


class Crash(BaseException):
    """The process died here: nothing after it was run."""


class FaultyFiles(SwiftFiles):
    """Real calls (but for the waiting), noted in `calls`; the `nth` call of `name` (from 1) fails.

    `error` is an errno, or Crash. A failing write first writes `partial` of its bytes.
    `step` limits every write to so many bytes.
    """

    def __init__(
        self,
        name: str = "",
        nth: int = 0,
        error: int | type[Crash] = errno.EIO,
        *,
        partial: int = 0,
        step: int = 0,
        lasting: bool = False,
    ) -> None:
        self.calls: list[str] = []
        self.names: dict[int, str] = {}
        self.armed = True
        self.failed = 0
        self._name, self._nth, self._error = name, nth, error
        self._partial, self._step, self._lasting = partial, step, lasting

    def _note(self, name: str) -> bool:
        self.calls.append(name)
        count = self.calls.count(name)
        due = count >= self._nth if self._lasting else count == self._nth
        if self.armed and name == self._name and due:
            self.failed += 1
            return True
        return False

    def _fail(self) -> None:
        if isinstance(self._error, int):
            raise OSError(self._error, os.strerror(self._error))
        raise self._error

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        # The lock file's open is not part of the log's story.
        if not path.endswith(".lock") and self._note("open"):
            self._fail()
        fd = super().open(path, flags, mode)
        self.names[fd] = path
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if self._note("write"):
            if self._partial:
                super().write(fd, data[: self._partial])
            self._fail()
        return super().write(fd, data[: self._step] if self._step else data)

    def sync_data(self, fd: int) -> None:
        if self._note("sync_data"):
            self._fail()
        super().sync_data(fd)

    def sync(self, fd: int) -> None:
        if self._note("sync"):
            self._fail()
        super().sync(fd)

    def sync_dir(self, path: str) -> None:
        if self._note("sync_dir"):
            self._fail()
        super().sync_dir(path)

    def truncate(self, fd: int, size: int) -> None:
        # So is the lock file's.
        if not self.names[fd].endswith(".lock") and self._note("truncate"):
            self._fail()
        super().truncate(fd, size)


def every_flip(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each of the files that differ from `data` in one bit, with the byte's offset."""
    for offset, bit in itertools.product(range(len(data)), range(8)):
        changed = bytearray(data)
        changed[offset] ^= 1 << bit
        yield offset, bytes(changed)
