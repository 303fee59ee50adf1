"""Mutants of the log: of append, open, repair and recovery; see `mutants`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import msgspec

from eventlog import Log, LogOpened, codec, heal, recover
from eventlog import log as log_module

from .crash import run as run_log
from .memory import MemoryFiles
from .mutants import Mutant, replacing, without
from .tally import Tally


def _acknowledge_early(
    self: Any, lines: list[bytes], head: str, first: int, *, durable: bool = False
) -> bool:
    self._fence()
    self._sync()  # the batch before this one
    self._write(b"".join(lines))
    self._next, self._head = self._next + len(lines), head
    return True


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
            self._put(lines, head, first)
            outcomes.append(range(first, self._next))
    finally:
        type(self)._sync = real
    self._sync()
    return outcomes


def _not_alone(self: Any, event: Any) -> None:
    """Leave the sync of both events at level `os` to the last, as a version once did."""
    lines, head = self._sealed((event,), self._next, self._head, None, ours=True)
    self._put(lines, head, self._next)
    if not self._syncs and not isinstance(event, LogOpened):
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
    name: str,
    plant: Callable[[], AbstractContextManager[Any]],
    failing: float = 0.15,
    *,
    life: int = 0,
) -> Mutant:
    def run(seed: int, samples: int, tally: Tally, _: str) -> None:
        run_log(seed, samples, tally, failing=failing)

    return Mutant(name, plant, run, life)


LOG = (
    _log("append: no sync", without(MemoryFiles, "sync_data", "_sync")),
    _log("append: acknowledged before the sync", replacing(Log, "_put", _acknowledge_early)),
    _log("append: a failed sync is tried again", replacing(Log, "_sync", _retry), 1.0, life=400006),
    _log(
        "append: the next batch before the sync of the last",
        replacing(Log, "append_all", _two_at_once),
        life=200000,
    ),
    _log(
        "append: a failed batch is left where it is",
        replacing(Log, "_cut", lambda *_: None),
        1.0,
        life=200007,
    ),
    _log("failure: clean pages are not written again", _no_second_writing, 1.0, life=400157),
    _log("open: the folder is not synced", without(MemoryFiles, "sync_dir", "_open"), life=400000),
    _log(
        "open: what is there is not synced first",
        without(MemoryFiles, "sync", "_open"),
        life=200010,
    ),
    _log(
        "open: log.opened is not synced alone",
        replacing(Log, "_append_own", _not_alone),
        life=300004,
    ),
    _log("recovery: the sum is not checked", _no_sums, life=500001),
    _log(
        "recovery: unwritten sectors are damage",
        replacing(recover, "_has_zero_sector", lambda *_: False),
    ),
    _log(
        "repair: no sync after the truncation", without(MemoryFiles, "sync", "_settle"), life=500022
    ),
    _log(
        "repair: the tail is cut off without a copy",
        replacing(heal, "_set_aside", _cut_only),
        life=400000,
    ),
    _log("repair: the copy is not synced", without(MemoryFiles, "sync", "_set_aside"), life=200001),
    _log(
        "repair: the copy's folder is not synced",
        without(MemoryFiles, "sync_dir", "_set_aside"),
        life=500002,
    ),
    _log("repair: a copy that failed to sync is believed", _believed_copy, 1.0, life=100063),
)
