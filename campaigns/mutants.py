"""Broken writers and recoveries: the crash model must catch every one of them.

Each mutant leaves out, or turns around, one thing that the promises rest on. One that lives for
its whole budget of states would show that the model does not look there.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from eventlog import Durability, Log, LogOpened, codec, heal, inplace, recover
from eventlog import log as log_module

from . import replaced
from .crash import run as run_log
from .memory import MemoryFiles
from .recorded import RecordedFiles
from .tally import Tally

SAMPLES = 20
Run = Callable[[int, int, Tally, str], None]


class Mutant(NamedTuple):
    """One planted mistake.

    Attributes:
        name: what is wrong.
        plant: makes it so while it is entered.
        run: the lives that must end badly.
    """

    name: str
    plant: Callable[[], AbstractContextManager[Any]]
    run: Run


class Verdict(NamedTuple):
    """Whether a mutant was caught, after how many states, and by what."""

    name: str
    caught: bool
    states: int
    why: str


def hunt(mutant: Mutant, seed: int, budget: int, scratch: str) -> Verdict:
    """Run lives of a mutant until one ends badly, or `budget` states were looked at."""
    tally = Tally()
    with mutant.plant():
        while not tally.failures and tally.total < budget:
            mutant.run(seed, SAMPLES, tally, scratch)
            seed += 1
    why = tally.failures[0].why if tally.failures else ""
    return Verdict(mutant.name, bool(tally.failures), tally.total, why)


# --- ways to plant ---------------------------------------------------------------------------


def without(
    files: type, call: str, caller: str, *, nth: int = 0
) -> Callable[[], AbstractContextManager[Any]]:
    """Leave out a call that a function of this name makes; all, or of each two the `nth`."""

    def plant() -> AbstractContextManager[Any]:
        real = getattr(files, call)
        count = 0

        def made(self: Any, *args: Any) -> Any:
            nonlocal count
            if sys._getframe(1).f_code.co_name == caller:
                count += 1
                if nth in (0, 2 - count % 2):
                    return None
            return real(self, *args)

        return mock.patch.object(files, call, made)

    return plant


def replacing(owner: Any, name: str, new: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Put another function in one's place."""
    return lambda: mock.patch.object(owner, name, new)


# --- the log ---------------------------------------------------------------------------------


def _acknowledge_early(self: Any, lines: list[bytes], head: str, *, durable: bool = False) -> None:
    self._fence()
    self._sync()  # the batch before this one
    self._write(b"".join(lines))
    self._next, self._head = self._next + len(lines), head


def _retry(self: Any, fd: int | None = None, *, promised: int | None = None) -> None:
    if self._unsynced:
        for _ in range(2):
            try:
                self._files.sync_data(self._fd if fd is None else fd)
                break
            except OSError:
                continue
        self._unsynced = False
    self._durable = self._next - 1


def _two_at_once(self: Any, appends: Any) -> list[range]:
    """Write each append as a batch of its own, and sync after the last."""
    outcomes = []
    real = type(self)._sync
    try:
        for events, time_ns in appends:
            first = self._next
            self._durable = first - 1
            lines, head = self._sealed(events, first, self._head, time_ns)
            type(self)._sync = lambda *_, **__: None
            self._put(lines, head)
            outcomes.append(range(first, self._next))
    finally:
        type(self)._sync = real
    self._sync()
    return outcomes


def _not_alone(self: Any, event: Any) -> None:
    """Leave the sync of both events at level `os` to the last, as a version once did."""
    self._put(*self._sealed((event,), self._next, self._head, None, ours=True))
    if self._durability is Durability.OS and not isinstance(event, LogOpened):
        self._sync()


def _any_sum(line: bytes) -> codec.Seal | None:
    """Believe a line whatever its sum is."""
    if not codec.looks_sealed(line):
        return None
    seq = codec._SEQ.match(line)
    body = line[: line.rfind(b',"sum":"')]
    if seq is None:
        return None
    return codec.Seal(
        int(seq[1]), body[-17:-1].decode("ascii", "replace"), codec.said_sum(line), body
    )


@contextlib.contextmanager
def _no_sums() -> Iterator[None]:
    with (
        mock.patch.object(recover, "unseal", _any_sum),
        mock.patch.object(recover, "follows", lambda *_: None),
        mock.patch.object(recover, "follow_all", lambda *_: None),
        mock.patch.object(recover, "UNREADABLE", (msgspec.DecodeError, UnicodeDecodeError)),
    ):
        yield


def _cut_only(_files: Any, _fd: int, path: str, _start: int, _size: int) -> str:
    return f"{path}.torn-1"


def _copy_once(files: Any, fd: int, start: int, size: int, copy: int) -> None:
    if not files.size(copy):
        _COPY(files, fd, start, size, copy)


_COPY = heal._copy


@contextlib.contextmanager
def _no_second_writing() -> Iterator[None]:
    with (
        mock.patch.object(log_module, "write_over", lambda *_: None),
        mock.patch.object(heal, "write_over", lambda *_: None),
    ):
        yield


@contextlib.contextmanager
def _believed_copy() -> Iterator[None]:
    with (
        mock.patch.object(heal, "_copy", _copy_once),
        without(MemoryFiles, "unlink", "_set_aside")(),
    ):
        yield


def _log(
    name: str, plant: Callable[[], AbstractContextManager[Any]], failing: float = 0.15
) -> Mutant:
    def run(seed: int, samples: int, tally: Tally, _: str) -> None:
        run_log(seed, samples, tally, failing=failing)

    return Mutant(name, plant, run)


LOG = (
    _log("append: no sync", without(MemoryFiles, "sync_data", "_sync")),
    _log("append: acknowledged before the sync", replacing(Log, "_put", _acknowledge_early)),
    _log("append: a failed sync is tried again", replacing(Log, "_sync", _retry), 1.0),
    _log(
        "append: the next batch before the sync of the last",
        replacing(Log, "append_all", _two_at_once),
    ),
    _log(
        "append: a failed batch is left where it is", replacing(Log, "_cut", lambda *_: None), 1.0
    ),
    _log("failure: clean pages are not written again", _no_second_writing, 1.0),
    _log("open: the folder is not synced", without(MemoryFiles, "sync_dir", "_open")),
    _log("open: what is there is not synced first", without(MemoryFiles, "sync", "_open")),
    _log("open: log.opened is not synced alone", replacing(Log, "_append_own", _not_alone)),
    _log("recovery: the sum is not checked", _no_sums),
    _log(
        "recovery: unwritten sectors are damage",
        replacing(recover, "_has_zero_sector", lambda *_: False),
    ),
    _log("repair: no sync after the truncation", without(MemoryFiles, "sync", "_settle")),
    _log("repair: the tail is cut off without a copy", replacing(heal, "_set_aside", _cut_only)),
    _log("repair: the copy is not synced", without(MemoryFiles, "sync", "_set_aside")),
    _log("repair: the copy's folder is not synced", without(MemoryFiles, "sync_dir", "_set_aside")),
    _log("repair: a copy that failed to sync is believed", _believed_copy, 1.0),
)


# --- files replaced as a whole ---------------------------------------------------------------


def _in_place(files: Any, path: str, data: bytes) -> None:
    fd = files.open(path, 0o101)  # O_WRONLY | O_CREAT
    files.truncate(fd, 0)
    files.write(fd, data)
    files.sync(fd)
    files.close(fd)
    files.sync_dir("/")


def _whole(name: str, plant: Callable[[], AbstractContextManager[Any]]) -> Mutant:
    return Mutant(
        name, plant, lambda seed, samples, tally, _: replaced.run_whole(seed, samples, tally)
    )


def _migration(name: str, plant: Callable[[], AbstractContextManager[Any]]) -> Mutant:
    return Mutant(name, plant, replaced.run_migration)


REPLACED = (
    _whole("write_whole: no sync of the file", without(MemoryFiles, "sync", "write_whole")),
    _whole("write_whole: no sync of the folder", without(MemoryFiles, "sync_dir", "write_whole")),
    _whole("write_whole: in place", replacing(replaced, "write_whole", _in_place)),
    _migration("migration: no sync of the new log", without(RecordedFiles, "sync", "_write")),
    _migration(
        "migration: the old log's second name is not synced",
        without(RecordedFiles, "sync_dir", "put_in_place", nth=1),
    ),
    _migration(
        "migration: the new log's name is not synced",
        without(RecordedFiles, "sync_dir", "put_in_place", nth=2),
    ),
    _migration("migration: the old log is not kept", replacing(inplace, "_keep", lambda *_: False)),
)


def all_mutants() -> list[Mutant]:
    """Return all mutants; those of the file store only where the orchestrator is installed."""
    found = [*LOG, *REPLACED]
    try:
        from .stored_mutants import STORED
    except ImportError:
        return found
    return [*found, *STORED]
