"""Every call of every write path fails once, and for ever: a typed error or success, no lie.

The n-th call to the system, of whatever kind, fails; n goes up until nothing fails any more.
With EVENTLOG_ALL_FAULTS set, every way of writing meets every fault over every kind of log.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import threading

import anyio
import msgspec
import pytest
from logkit import SwiftFiles, content, note, numbers, put, small_log

from eventlog import (
    AsyncLog,
    Checkpoint,
    Durability,
    EventLogError,
    Log,
    LogPoisoned,
    Verdict,
    checkpoint,
    load_checkpoint,
    repair,
    salvage,
    save_checkpoint,
    scan,
)
from eventlog.fs import Files
from eventlog.migrate import migrate
from eventlog.source import LogFile

CALLS = [name for name, call in vars(Files).items() if callable(call) and name[0] != "_"]
FOREIGN = b'{"timestamp":"2025-10-22T10:00:00","type":"x","n":1}\n' * 3
MAX_CALLS = 200


class NthFails(SwiftFiles):
    """The `nth` call of all fails, from 1, and those after it if `lasting`; some do half first."""

    def __init__(self, nth: int, error: int, *, lasting: bool = False, short: int = 0) -> None:
        self.count = self.hits = 0
        self.last = ""
        self._nth, self._error, self._lasting, self._short = nth, error, lasting, short

    def fails(self, name: str) -> bool:
        self.count += 1
        due = self.count == self._nth or (self._lasting and self.count > self._nth)
        if due:
            self.hits += 1
            self.last = name
        return due

    def fail(self) -> None:
        raise OSError(self._error, os.strerror(self._error))

    def write(self, fd, data):
        if self.fails("write"):
            SwiftFiles.write(self, fd, data[: len(data) // 2])
            self.fail()
        return SwiftFiles.write(self, fd, data[: self._short] if self._short else data)

    def close(self, fd):
        SwiftFiles.close(self, fd)  # it is closed, whatever it says
        if self.fails("close"):
            self.fail()


def _wrapped(name):
    real = getattr(SwiftFiles, name)

    @functools.wraps(real)
    def call(self, *args, **more):
        if self.fails(name):
            self.fail()
        return real(self, *args, **more)

    return call


for _name in CALLS:
    if _name not in {"write", "close"}:
        setattr(NthFails, _name, _wrapped(_name))


def appending(durability, path, files, promised):
    with Log(path, files=files, durability=durability) as log:
        for number in (10, 11, 12):
            try:
                log.append(note(number))
            except EventLogError:
                with pytest.raises(LogPoisoned):
                    log.append(note(666))
                raise
            promised.append(number)


def in_threads(path, files, promised):
    with Log(path, files=files) as log:

        def work(number):
            try:
                log.append(note(number))
                promised.append(number)
                log.append(note(number + 1))
                promised.append(number + 1)
            except EventLogError:
                pass

        threads = [threading.Thread(target=work, args=(n,)) for n in (10, 20, 30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def in_tasks(path, files, promised):
    async def work(log, number):
        try:
            await log.append(note(number))
            promised.append(number)
            await log.append(note(number + 1))
            promised.append(number + 1)
        except EventLogError:
            pass

    async def main():
        async with AsyncLog(Log(path, files=files)) as log, anyio.create_task_group() as tasks:
            for number in (10, 20, 30):
                tasks.start_soon(work, log, number)

    anyio.run(main)


WRITERS = {
    **{str(level): functools.partial(appending, level) for level in Durability},
    "threads": in_threads,
    "tasks": in_tasks,
    "repair": lambda path, files, promised: repair(str(path), files=files),
}
BEFORE = ["nothing", "sealed", "torn", "unterminated", "foreign", "foreign torn"]
FAULTS = {
    "EIO": {"error": errno.EIO},
    "ENOSPC for ever": {"error": errno.ENOSPC, "lasting": True},
    "EINTR after short writes": {"error": errno.EINTR, "short": 60},
}


def prepare(path, before) -> bytes:
    """Make what stands there before; return what of it must survive."""
    for name in path.parent.iterdir():
        name.unlink()
    if before == "nothing":
        return b""
    data = FOREIGN if before.startswith("foreign") else small_log(path, batches=1)
    if before.endswith("torn"):
        data += b'{"seq":3,"ts"'
    put(path, data[:-1] if before == "unterminated" else data)
    return data.removesuffix(b'{"seq":3,"ts"')


def cases() -> list[tuple[str, str, str]]:
    """All that there are, or those that differ most."""
    found = []
    for way, before, fault in itertools.product(WRITERS, BEFORE, FAULTS):
        if way == "repair" and not before.endswith(("torn", "unterminated")):
            continue  # nothing to do
        main = way == "group" or (fault != "EINTR after short writes" and way == "repair")
        short = fault != "EINTR after short writes" and before in {"nothing", "torn"}
        if main or short or os.environ.get("EVENTLOG_ALL_FAULTS"):
            found.append((way, before, fault))
    return found


@pytest.mark.parametrize(("way", "before", "fault"), cases())
def test_whatever_call_of_a_writer_fails_nothing_promised_is_lost(tmp_path, way, before, fault):
    path = tmp_path / "events.jsonl"
    for nth in range(1, MAX_CALLS):
        kept = prepare(path, before)
        files = NthFails(nth, **FAULTS[fault])
        promised: list[int] = []
        descriptors = len(os.listdir("/dev/fd"))
        try:
            WRITERS[way](path, files, promised)
        except EventLogError:
            assert files.hits
        assert len(os.listdir("/dev/fd")) == descriptors, files.last
        at_once = content(path) if path.exists() else b""
        with Log(path, files=SwiftFiles()) as log:  # what came about is healed
            log.append(note(99))
        whole = content(path)
        assert whole.startswith(kept), files.last
        # Threads that lost may have written less than they could; nobody wrote more.
        found = numbers(path)[2 * (before in {"sealed", "torn", "unterminated"}) :]
        found = [n for n in found if n != 1]
        assert found.pop() == 99
        assert set(promised) <= set(found), files.last
        assert len(found) == len(set(found))
        assert set(found) <= {10, 11, 12, 20, 21, 30, 31}
        with LogFile(path) as file:
            assert scan(file).verdict is Verdict.WHOLE
        assert len(at_once) <= len(whole)
        if not files.hits:
            break
    assert 5 < nth < MAX_CALLS - 1


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_call_of_a_salvage_fails_the_log_stays_and_the_copy_is_whole_or_not_there(
    tmp_path, fault
):
    path, to = tmp_path / "events.jsonl", tmp_path / "copy.jsonl"
    data = small_log(path)
    damaged = data.replace(b'"n":3', b'"n":4')
    put(path, damaged)
    sound = data[: data.index(b'"n":3')].rpartition(b"\n")[0] + b"\n"
    for nth in range(1, MAX_CALLS):
        to.unlink(missing_ok=True)
        files = NthFails(nth, **FAULTS[fault])
        try:
            assert salvage(str(path), str(to), files=files).bytes == len(sound)
            assert content(to) == sound
        except EventLogError:
            assert files.hits
            assert not to.exists() or content(to) == sound, files.last
            assert "ever" in fault or not list(tmp_path.glob("*.tmp-*"))
        assert content(path) == damaged
        if not files.hits:
            break
    assert 4 < nth < MAX_CALLS - 1


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_call_of_a_saved_checkpoint_fails_the_old_or_the_new_one_is_there(
    tmp_path, fault, monkeypatch
):
    path = tmp_path / "totals.json"
    old, new = (Checkpoint(seq=n, sum="x" * 16, version=1, state=msgspec.Raw(b"1")) for n in (1, 2))

    def loaded() -> bytes:
        found = load_checkpoint(path)
        assert found is not None
        return found.encode()

    for nth in range(1, MAX_CALLS):
        monkeypatch.setattr(checkpoint, "FILES", SwiftFiles())
        save_checkpoint(path, old)
        files = NthFails(nth, **FAULTS[fault])
        monkeypatch.setattr(checkpoint, "FILES", files)
        try:
            save_checkpoint(path, new)
            assert loaded() == new.encode()
        except EventLogError:
            assert files.hits
            assert loaded() in (old.encode(), new.encode())
        if not files.hits:
            break
    assert 3 < nth < MAX_CALLS - 1


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_call_of_a_migration_fails_the_log_is_the_old_or_the_new_one(tmp_path, fault):
    path = tmp_path / "events.jsonl"
    put(path, FOREIGN)
    migrate(path)
    new = content(path)
    for nth in range(1, MAX_CALLS):
        for name in tmp_path.iterdir():
            name.unlink()
        put(path, FOREIGN)
        files = NthFails(nth, **FAULTS[fault])
        try:
            migrate(path, files=files)
            assert content(path) == new
        except EventLogError:
            assert files.hits
            assert content(path) in (FOREIGN, new), files.last
        migrate(path)
        assert content(path) == new
        assert content(tmp_path / "events.jsonl.v1") == FOREIGN
        if not files.hits:
            break
    assert 5 < nth < MAX_CALLS - 1
