"""Failing disks and dying processes: nothing acknowledged is lost, nothing else is claimed."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys

import pytest
from logkit import (
    CALLS,
    Crash,
    FaultyFiles,
    content,
    note,
    numbers,
    put,
    small_log,
)

from eventlog import Durability, Log, LogPoisoned, LogWriteFailed, Verdict, read_dicts, scan
from eventlog.fs import FILES, write_over, write_whole
from eventlog.source import LogFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def is_whole(path) -> bool:
    with LogFile(path) as file:
        return scan(file).verdict is Verdict.WHOLE


def write_until_it_fails(path, files, durability) -> tuple[list[int], bool]:
    """Append batches of 1, 2 and 3; return what was acknowledged, and whether all was."""
    acknowledged: list[int] = []
    log = None
    try:
        log = Log(path, files=files, durability=durability)
        for first, size in ((10, 1), (20, 2), (30, 3)):
            log.append(*(note(first + i) for i in range(size)))
            acknowledged += [first + i for i in range(size)]
        log.close()
    except (LogWriteFailed, Crash):
        if log is not None:
            for call in (lambda: log.append(note(666)), log.sync):
                with pytest.raises(LogPoisoned):
                    call()
            files.armed = False
            log.close()
        return acknowledged, False
    return acknowledged, True


def is_prefix_of_what_was_written(found: list[int], acknowledged: list[int]) -> bool:
    return (
        found[: len(acknowledged)] == acknowledged
        and found == [10, 20, 21, 30, 31, 32][: len(found)]
    )


FAULTS = {
    "EIO": {"error": errno.EIO},
    "ENOSPC": {"error": errno.ENOSPC},
    "EINTR": {"error": errno.EINTR},
    "crash": {"error": Crash},
    "partial": {"error": errno.ENOSPC, "partial": 7},
    "partial crash": {"error": Crash, "partial": 200},
    "short": {"error": errno.ENOSPC, "step": 50},
    "for ever": {"error": errno.EIO, "partial": 100, "lasting": True},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("durability", [Durability.GROUP, Durability.OS])
@pytest.mark.parametrize("before", ["nothing", "log", "torn"])
def test_no_failing_call_makes_a_false_acknowledgement_and_the_next_open_heals(
    path, call, fault, durability, before
):
    for nth in range(1, 100):
        for name in path.parent.glob("events.jsonl*"):
            name.unlink()
        old: list[int] = []
        if before != "nothing":
            whole = small_log(path, batches=1)
            put(path, whole if before == "log" else whole[:-9])
            old = [0, 1] if before == "log" else [0]
        files = FaultyFiles(call, nth, **FAULTS[fault])
        acknowledged, done = write_until_it_fails(path, files, durability)
        assert done is not (files.failed > 0) or call == "truncate"
        if path.exists():
            assert numbers(path)[: len(old)] == old
            assert is_prefix_of_what_was_written(numbers(path)[len(old) :], acknowledged)
        with Log(path) as log:
            log.append(note(99))
        assert is_whole(path)
        found = numbers(path)
        assert found.pop() == 99
        assert found[: len(old)] == old
        assert is_prefix_of_what_was_written(found[len(old) :], acknowledged)
        if not files.failed:
            break
    # Every call that a writer makes was made to fail at least once.
    reached = {"truncate": before == "torn", "sync_data": True}.get(call, True)
    assert (nth > 1) is reached


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("partial", [0, 1, 60, 10_000])
def test_a_full_disk_leaves_the_file_at_the_last_good_line(path, durability, partial):
    files = FaultyFiles("write", 3, errno.ENOSPC, partial=partial)
    with Log(path, files=files, durability=durability) as log:
        log.append(note(1))
        before = content(path)
        with pytest.raises(LogWriteFailed) as caught:
            log.append(note(2), note(3))
        assert "[ENOSPC]" in caught.value.message
        assert (caught.value.path, caught.value.offset) == (str(path), len(before))
        assert "make room" in caught.value.hint
        assert content(path) == before
        with pytest.raises(LogPoisoned, match="write failed with ENOSPC"):
            log.append(note(4))
    assert content(path) == before


def test_a_batch_that_could_not_be_synced_is_taken_back(path):
    # Its bytes may be in memory only, where the next open would believe them.
    with Log(path, files=FaultyFiles("sync_data", 3)) as log:
        log.append(note(1))
        before = content(path)
        with pytest.raises(LogWriteFailed, match=r"sync failed: .* \[EIO\]"):
            log.append(note(2))
        assert content(path) == before


def test_what_was_acknowledged_at_level_os_is_not_taken_back_when_a_sync_fails(path):
    log = Log(path, files=FaultyFiles("sync_data", 2), durability=Durability.OS)
    log.append(note(1))
    with pytest.raises(LogWriteFailed, match="sync failed"):
        log.close()
    log.close()
    assert numbers(path) == [1]
    Log(path).close()  # and the lock is free


def test_what_is_not_taken_back_after_a_failed_sync_is_written_again_for_the_next_one(path):
    # The system calls the pages clean that it could not write: the next open's sync would
    # pass them by, and what it finds in memory would be believed.
    small_log(path)
    before = content(path)
    files = FaultyFiles("sync", 1)
    with pytest.raises(LogWriteFailed, match="open failed"):
        Log(path, files=files)
    assert files.calls == ["open", "open", "sync", "open", "write"]
    files = FaultyFiles("sync_data", 2)
    log = Log(path, files=files, durability=Durability.OS)
    log.append(note(7))
    with pytest.raises(LogWriteFailed, match="sync failed"):
        log.sync()
    assert files.calls[-3:] == ["sync_data", "open", "write"]
    log.close()
    assert content(path).startswith(before)
    assert numbers(path)[-1] == 7


def test_the_copy_of_a_torn_tail_that_could_not_be_synced_is_no_copy(path):
    torn = small_log(path)[:-9]
    put(path, torn)
    with pytest.raises(LogWriteFailed, match="recovery failed"):
        Log(path, files=FaultyFiles("sync", 2))
    assert sorted(os.listdir(path.parent)) == ["events.jsonl", "events.jsonl.lock"]
    assert content(path) == torn


def test_a_file_is_not_written_over_by_the_bytes_of_another(path, tmp_path):
    other = tmp_path / "other"
    put(path, b"long and old")
    put(other, b"new")
    fd = os.open(path, os.O_RDONLY)
    write_over(FILES, fd, str(other))
    write_over(FILES, fd, str(tmp_path / "nothing"))
    assert content(other) == b"new"
    write_over(FILES, fd, str(path))
    assert content(path) == b"long and old"
    os.close(fd)


def test_a_failed_sync_is_not_tried_again(path):
    files = FaultyFiles("sync_data", 2)
    log = Log(path, files=files)
    with pytest.raises(LogWriteFailed):
        log.append(note(1))
    count = len(files.calls)
    with pytest.raises(LogPoisoned):
        log.sync()
    log.close()
    assert files.calls[count:] == []


def test_an_interrupted_append_poisons_the_handle(path):
    # Ctrl-C may strike between the write and the bookkeeping: what the handle knows and what
    # the file holds could differ.
    class Interrupted(FaultyFiles):
        def sync_data(self, fd):
            if self.calls.count("write") == 2:
                raise KeyboardInterrupt
            super().sync_data(fd)

    with Log(path, files=Interrupted()) as log:
        with pytest.raises(KeyboardInterrupt):
            log.append(note(1))
        with pytest.raises(LogPoisoned, match="interrupted"):
            log.append(note(2))
    with Log(path) as log:
        log.append(note(3))
    assert numbers(path) == [1, 3]


def test_an_append_from_within_an_append_is_refused(path):
    class Nested(FaultyFiles):
        def write(self, fd, data):
            if self.calls.count("write") == 1:
                with pytest.raises(LogPoisoned):
                    log.append(note(2))
            return super().write(fd, data)

    with Log(path, files=Nested()) as log:
        log.append(note(1))
    assert numbers(path) == [1]


def test_a_close_that_fails_still_frees_the_lock(path):
    class Stubborn(FaultyFiles):
        def close(self, fd):
            super().close(fd)
            if self.names[fd].endswith(".jsonl"):
                raise OSError(errno.EIO, "close")

    log = Log(path, files=Stubborn())
    with pytest.raises(LogWriteFailed, match="close failed"):
        log.close()
    Log(path).close()


@pytest.mark.parametrize("call", ["open", "write", "sync", "rename", "sync_dir"])
def test_a_file_that_is_replaced_as_a_whole_is_the_old_or_the_new_one(tmp_path, call):
    class Renaming(FaultyFiles):
        def rename(self, old, new):
            if self._note("rename"):
                self._fail()
            super().rename(old, new)

    target = tmp_path / "manifest.json"
    put(target, b"old")
    with pytest.raises(OSError, match="No space"):
        write_whole(Renaming(call, 1, errno.ENOSPC, partial=2), str(target), b"new")
    assert content(target) == (b"new" if call == "sync_dir" else b"old")
    assert os.listdir(tmp_path) == ["manifest.json"]
    write_whole(Renaming("write", 9, step=1), str(target), b"newer")
    assert content(target) == b"newer"


def seqs_and_numbers(path) -> list[tuple[int, int | None]]:
    return [(line["seq"], line["data"].get("n")) for line in read_dicts(path)]


WRITER = """
import random, sys
from eventlog import Durability, Log
path, seed, durability = sys.argv[1:]
rng = random.Random(int(seed))
with Log(path, durability=Durability(durability)) as log:
    print("open", log.epoch, flush=True)
    while True:
        size = rng.choice((1, 1, 2, 5))
        pad = "x" * rng.choice((0, 30, 3000))
        first = log.next_seq
        batch = [{"type": "noted", "data": {"n": first + i, "pad": pad}} for i in range(size)]
        print("ack", log.append(*batch).stop - 1, flush=True)
"""


@pytest.mark.parametrize("durability", ["os", "group"])
def test_kill_9_at_any_instant_loses_nothing_that_was_acknowledged(path, durability):
    seed = int(os.environ.get("EVENTLOG_SEED", random.randrange(1 << 32)))
    print("EVENTLOG_SEED", seed)  # shown if the test fails
    rng = random.Random(seed)
    acknowledged = -1
    for kill in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(seed + kill), durability],
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout is not None
            said = [child.stdout.readline() for _ in range(rng.choice((0, 1, 2, 10, 40, 100)))]
            child.send_signal(signal.SIGKILL)
            said += child.stdout  # what it had said before it died
        whole = [line.split() for line in said if line.endswith("\n")]  # the last may be cut
        acknowledged = max([acknowledged, *(int(seq) for word, seq in whole if word == "ack")])
        with Log(path) as log:
            assert log.next_seq > acknowledged, (seed, kill)
            assert log.epoch <= 2 * kill + 2
            acknowledged = log.next_seq - 1
        assert is_whole(path)
    noted = [(seq, n) for seq, n in seqs_and_numbers(path) if n is not None]
    assert noted
    assert all(seq == n for seq, n in noted)  # each is where its acknowledgement said
