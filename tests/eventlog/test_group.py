"""Appends that come together share one write and one sync, and each gets its own outcome."""

import asyncio
import linecache
import signal
import sys
import threading
import time

import anyio
import pytest
from logkit import SwiftFiles

from eventlog import EventInvalid, Log, LogPoisoned, LogWriteFailed, group, read_dicts, sealer
from eventlog import log as log_module
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


def test_fields_that_fail_spoil_their_own_append_only(tmp_path):
    files = Watched()

    def fields(event):
        return {"half": event["data"]["n"] / 2} if isinstance(event, dict) else {}

    with Log(tmp_path / "events.jsonl", files=files, fields=fields) as log:
        outcomes = appended_while_a_sync_is_held(
            log, files, {"good": [event(1)], "bad": [event("x")], "more": [event(3)]}
        )
        assert isinstance(outcomes["bad"], TypeError)
        assert len(outcomes["good"]) == len(outcomes["more"]) == len(log.append(event(4))) == 1
    assert [line["seq"] for line in read_dicts(tmp_path / "events.jsonl")] == [0, 1, 2, 3, 4]


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
            assert done == []
            assert log.log.next_seq == 1
            assert await log.append(event(3)) == range(1, 2)

    anyio.run(main)


@pytest.mark.parametrize("way", ["scope", "task"])
def test_a_task_that_is_cancelled_once_another_committed_for_it_has_appended(tmp_path, way):
    async def main():
        async with AsyncLog(Log(tmp_path / "events.jsonl")) as log:
            done = []
            scope = anyio.CancelScope()

            async def first():
                done.append(await log.append(event(1)))  # and the second's
                scope.cancel() if way == "scope" else task.cancel()

            async def second():
                with scope:
                    done.append(await log.append(event(2)))
                    await anyio.lowlevel.checkpoint()
                    done.append("went on")

            tasks = [asyncio.ensure_future(one()) for one in (first, second)]
            task = tasks[1]
            await asyncio.wait(tasks)
            # What asyncio cancels, it cancels once: there the append may not hide it.
            assert task.cancelled() is (way == "task")
            assert done == [range(1, 2), range(2, 3)][: 1 if way == "task" else 2]
            assert log.log.next_seq == 3

    anyio.run(main)


def test_a_task_s_bad_event_is_its_own_error(tmp_path):
    async def main():
        async with AsyncLog(Log(tmp_path / "events.jsonl")) as log:
            with pytest.raises(EventInvalid):
                await log.append({"type": "counted", "data": {1, 2.5, float("inf")}})
            assert await log.append(event(1)) == range(1, 2)
            assert await log.append() == range(2, 2)

    anyio.run(main)


# --- whoever is interrupted, the others go on ----------------------------------------------------


class Interrupting:
    """Raises KeyboardInterrupt at the `nth` line that a thread runs of the group or the log."""

    def __init__(self, nth):
        self.left = nth

    def __call__(self, frame, event, _arg):
        if frame.f_code.co_filename not in {group.__file__, log_module.__file__}:
            return None
        if event == "line":
            # No signal is taken at a `try:`, nor between a with block's end and its release.
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if line == "try:" or line.startswith("with "):
                return self
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def append_interrupted(log, nth, number):
    """Append; return what came of it, and whether the nth line was reached."""
    trace = Interrupting(nth)
    sys.settrace(trace)
    try:
        seqs = log.append(event(number))
    except (KeyboardInterrupt, LogPoisoned):
        seqs = range(0)
    finally:
        sys.settrace(None)
    return seqs, trace.left > 0


def numbers_at(path):
    return {line["seq"]: line["data"].get("n") for line in read_dicts(path)}


def test_an_interrupt_at_any_line_of_a_leading_append_leaves_no_thread_waiting(tmp_path):
    for nth in range(1, 300):
        path = tmp_path / f"{nth}.jsonl"
        files = SwiftFiles()
        log = Log(path, files=files)
        outcomes = {}

        def follow_up(number, log=log, outcomes=outcomes):
            try:
                outcomes[number] = log.append(event(number))
            except LogPoisoned:
                outcomes[number] = range(0)

        threads = [threading.Thread(target=follow_up, args=(n,)) for n in (1, 2)]

        def others_come(fd, data, files=files, threads=threads, log=log):
            del files.write  # once
            threads[0].start()
            until(lambda: len(log._group._waiting) == 1)
            return SwiftFiles.write(files, fd, data)

        files.write = others_come
        outcomes[0], through = append_interrupted(log, nth, 0)
        vars(files).pop("write", None)
        if threads[0].ident is None:
            threads[0].start()
        threads[1].start()
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), nth
        log.close()
        Log(path, files=SwiftFiles()).close()
        found = numbers_at(path)
        for number, seqs in outcomes.items():
            assert all(found[seq] == number for seq in seqs), nth
        if through:
            break
    assert nth > 30
    assert all(outcomes.values())


class Handling:
    """Calls a handler at the nth line of the log's own code, as a signal's is called."""

    def __init__(self, nth, handler):
        self.left = nth
        self.handler = handler

    def __call__(self, frame, event, _arg):
        if frame.f_code.co_filename not in {group.__file__, log_module.__file__, sealer.__file__}:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self.handler()
        return self


@pytest.mark.parametrize("level", ["group", "sync", "os"])
def test_an_append_from_within_an_append_at_any_line_is_refused_or_stands_whole(tmp_path, level):
    for nth in range(1, 400):
        path = tmp_path / f"{nth}.jsonl"
        log = Log(path, files=SwiftFiles(), durability=level)
        got = {}

        def handler(log=log, got=got):
            try:
                got[7] = log.append(event(7), event(8))[:1]
            except LogPoisoned:
                got[7] = range(0)

        trace = Handling(nth, handler)
        sys.settrace(trace)
        try:
            got[0] = log.append(event(0))
        finally:
            sys.settrace(None)
        got[1] = log.append(event(1))
        log.close()
        Log(path, files=SwiftFiles()).close()  # it is not damaged
        found = numbers_at(path)
        assert got[0], nth
        assert all(found[seq] == number for number, seqs in got.items() for seq in seqs), nth
        if trace.left > 0:
            break
    assert nth > 20


def test_members_that_are_made_by_appending_come_after_what_was_appended(tmp_path):
    def fields(event):
        if isinstance(event, dict) and event["type"] == "counted" and not noted:
            noted.append(log.append({"type": "noted"}))
        return {"by": "me"}

    noted = []
    path = tmp_path / "events.jsonl"
    with Log(path, fields=fields, files=SwiftFiles()) as log:
        seqs = log.append({"type": "counted", "data": {"n": 1}}, {"type": "counted"})
    Log(path, files=SwiftFiles()).close()
    assert [line["type"] for line in read_dicts(path)][1:4] == ["noted", "counted", "counted"]
    assert (noted, seqs) == ([range(1, 2)], range(2, 4))


def test_an_interrupt_while_others_commit_takes_the_append_back_and_they_go_on(tmp_path):
    files = Watched()
    log = Log(tmp_path / "events.jsonl", files=files)
    go = files.hold = threading.Event()
    leading = threading.Thread(target=log.append, args=(event(0),))
    leading.start()
    assert files.held.wait(WAIT_S)

    def interrupt():
        until(lambda: len(log._group._waiting) == 1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        log.append(event(1))
    interrupter.join(WAIT_S)
    go.set()
    leading.join(WAIT_S)
    after = threading.Thread(target=log.append, args=(event(2),))
    after.start()
    after.join(WAIT_S)
    assert not after.is_alive()
    log.close()
    assert list(numbers_at(tmp_path / "events.jsonl").values()) == [None, 0, 2]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_task_that_asyncio_itself_cancels_leaves_no_other_waiting(tmp_path, victim):
    async def main():
        log = AsyncLog(Log(tmp_path / "events.jsonl"))
        tasks = [asyncio.create_task(log.append(event(n))) for n in range(3)]
        await asyncio.sleep(0)
        tasks[victim].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done.pop(victim), asyncio.CancelledError)
        assert all(isinstance(seqs, range) for seqs in done)
        assert len(await asyncio.wait_for(log.append(event(3)), WAIT_S)) == 1
        await log.aclose()
        return done

    asyncio.run(main())
    found = list(numbers_at(tmp_path / "events.jsonl").values())[1:]
    assert set(found) >= {0, 1, 2, 3} - {victim}
