"""Appends that come together share one write and one sync, and each gets its own outcome."""

import threading
import time

import anyio
import pytest

from eventlog import EventInvalid, Log, LogPoisoned, LogWriteFailed, read_dicts
from eventlog.aio import AsyncLog
from eventlog.fs import Files
from eventlog.group import MAX_EVENTS

WAIT_S = 10.0


class Watched(Files):
    """Notes writes and syncs; the sync that is told to waits until it may go on."""

    def __init__(self):
        self.calls = []
        self.hold = None
        self.fail = False
        self.held = threading.Event()

    def write(self, fd, data):
        self.calls.append("write")
        return super().write(fd, data)

    def sync_data(self, fd):
        self.calls.append("sync")
        hold, self.hold = self.hold, None
        if hold is not None:
            self.held.set()
            assert hold.wait(WAIT_S)
        if self.fail:
            raise OSError(5, "Input/output error")
        super().sync_data(fd)


def event(number):
    return {"type": "counted", "data": {"n": number}}


def until(condition):
    give_up = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def appended_while_a_sync_is_held(log, files, appends):
    """Start one append, hold its sync, start the others, let go; return all outcomes."""
    outcomes = {}

    def append(name, events):
        try:
            outcomes[name] = log.append(*events)
        except Exception as error:  # noqa: BLE001 - looked at by the tests
            outcomes[name] = error

    files.calls.clear()
    go = files.hold = threading.Event()
    threads = [threading.Thread(target=append, args=("first", [event(0)]))]
    threads[0].start()
    assert files.held.wait(WAIT_S)
    for name, events in appends.items():
        threads.append(threading.Thread(target=append, args=(name, events)))
        threads[-1].start()
    until(lambda: len(log._group._waiting) == len(appends))
    go.set()
    for thread in threads:
        thread.join(WAIT_S)
    return outcomes


def test_appends_that_come_during_a_sync_share_the_next_one(tmp_path):
    files = Watched()
    with Log(tmp_path / "events.jsonl", files=files) as log:
        outcomes = appended_while_a_sync_is_held(
            log, files, {str(n): [event(n)] for n in range(1, 9)}
        )
        assert files.calls == ["write", "sync", "write", "sync"]
        assert sorted(seq for seqs in outcomes.values() for seq in seqs) == list(range(1, 10))
    assert [line["data"].get("n") for line in read_dicts(tmp_path / "events.jsonl")][1] == 0


def test_an_event_that_can_t_be_encoded_spoils_its_own_append_only(tmp_path):
    files = Watched()
    bad = {"type": "counted", "data": {"n": float("nan")}}
    with Log(tmp_path / "events.jsonl", files=files) as log:
        outcomes = appended_while_a_sync_is_held(
            log, files, {"good": [event(1)], "bad": [event(2), bad], "more": [event(3)]}
        )
        assert isinstance(outcomes["bad"], EventInvalid)
        assert len(outcomes["good"]) == len(outcomes["more"]) == 1
    lines = list(read_dicts(tmp_path / "events.jsonl"))
    assert sorted(line["data"]["n"] for line in lines[1:]) == [0, 1, 3]
    assert [line["seq"] for line in lines] == [0, 1, 2, 3]


def test_a_failed_sync_acknowledges_nothing_of_its_batch(tmp_path):
    files = Watched()
    log = Log(tmp_path / "events.jsonl", files=files)
    files.fail = True
    outcomes = appended_while_a_sync_is_held(log, files, {"a": [event(1)], "b": [event(2)]})
    assert isinstance(outcomes["first"], LogWriteFailed)
    assert isinstance(outcomes["a"], LogPoisoned)
    assert isinstance(outcomes["b"], LogPoisoned)
    assert outcomes["a"] is not outcomes["b"]
    files.fail = False
    with pytest.raises(LogPoisoned):
        log.append(event(3))
    log.close()
    with Log(tmp_path / "events.jsonl") as again:
        assert again.next_seq == 2  # both log.opened, and none of those


def test_a_batch_has_a_limit_but_one_append_is_never_split(tmp_path):
    files = Watched()
    with Log(tmp_path / "events.jsonl", files=files) as log:
        many = [event(n) for n in range(MAX_EVENTS + 1)]
        outcomes = appended_while_a_sync_is_held(log, files, {"many": many, "one": [event(1)]})
        assert len(outcomes["many"]) == MAX_EVENTS + 1
        assert files.calls.count("sync") == 3
        seqs = outcomes["many"]
        assert list(seqs) == list(range(seqs.start, seqs.start + MAX_EVENTS + 1))


def test_tasks_that_append_together_share_one_sync(tmp_path):
    files = Watched()

    async def main():
        async with AsyncLog(Log(tmp_path / "events.jsonl", files=files)) as log:
            files.calls.clear()
            seqs = []

            async def append(number):
                seqs.append(await log.append(event(number)))

            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(append, number)
            assert files.calls == ["write", "sync"]
            assert sorted(seq for found in seqs for seq in found) == list(range(1, 21))

    anyio.run(main)


def test_a_task_that_is_cancelled_has_appended_or_not_begun(tmp_path):
    async def main():
        async with AsyncLog(Log(tmp_path / "events.jsonl")) as log:
            with anyio.CancelScope() as before:
                before.cancel()
                await log.append(event(1))
            assert log.log.next_seq == 1
            done = []
            with anyio.CancelScope() as during:

                async def append():
                    done.append(await log.append(event(2)))

                async with anyio.create_task_group() as group:
                    group.start_soon(append)
                    await anyio.lowlevel.checkpoint()
                    during.cancel()
            assert done == [range(1, 2)]

    anyio.run(main)


def test_a_task_s_bad_event_is_its_own_error(tmp_path):
    async def main():
        async with AsyncLog(Log(tmp_path / "events.jsonl")) as log:
            with pytest.raises(EventInvalid):
                await log.append({"type": "counted", "data": {1, 2.5, float("inf")}})
            assert await log.append(event(1)) == range(1, 2)
            assert await log.append() == range(2, 2)

    anyio.run(main)
