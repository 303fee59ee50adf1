"""One contract over `Log` and `MemoryLog`."""

from __future__ import annotations

import anyio
import msgspec
import pytest
from logkit import BASE_NS, Noted, note

from eventlog import (
    AsyncLog,
    Durability,
    EventInvalid,
    LineTooLong,
    Log,
    LogOpened,
    LogPoisoned,
    MemoryLog,
    Verdict,
    read,
    scan,
)
from eventlog.codec import MAX_LINE_BYTES
from eventlog.lines import BytesSource


class InFile:
    """A `Log`, and how to look at what it wrote."""

    def __init__(self, folder, durability):
        self.path = folder / "events.jsonl"
        self.durability = durability

    def open(self, **more):
        return Log(self.path, durability=self.durability, **more)

    def records(self, log, types):
        return list(read(self.path, types))

    def content(self, log):
        return self.path.read_bytes()


class InMemory:
    def open(self, **more):
        return MemoryLog(**more)

    def records(self, log, types):
        return list(log.read(types))

    def content(self, log):
        return b"".join(log.lines)


@pytest.fixture(params=["memory", *Durability])
def world(request, tmp_path):
    return InMemory() if request.param == "memory" else InFile(tmp_path, request.param)


def test_it_begins_with_log_opened_at_epoch_1(world):
    with world.open() as log:
        assert (log.next_seq, log.epoch) == (1, 1)
        [record] = world.records(log, LogOpened)
        assert record.seq == 0
        assert record.event.data.epoch == 1
        assert record.sum == log.head


def test_what_is_appended_is_read_in_its_order(world):
    with world.open() as log:
        assert log.append(note(1)) == range(1, 2)
        assert log.append(note(2), {"type": "other", "data": 3}) == range(2, 4)
        assert log.append() == range(4, 4)
        log.sync()
        assert (log.next_seq, log.offset) == (4, len(world.content(log)))
        records = world.records(log, Noted)
    assert [record.seq for record in records] == [0, 1, 2, 3]
    assert [record.event for record in records[1:3]] == [note(1), note(2)]
    assert records[3].event.type == "other"
    assert records[3].event.data == 3


def test_the_lines_are_a_sound_log(world):
    with world.open(fields={"job_id": "j"}) as log:
        log.append(note(1), note(2))
        log.append(note(3))
        found = scan(BytesSource(world.content(log)))
        assert (found.verdict, found.lines, found.head) == (Verdict.WHOLE, 4, log.head)
        for record, line in zip(
            world.records(log, Noted), world.content(log).splitlines(), strict=True
        ):
            assert world.content(log)[record.offset :].startswith(line)
            assert msgspec.json.decode(line)["job_id"] == "j"


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ([note(1, x=float("nan"))], EventInvalid),
        ([{"no": "type"}], EventInvalid),
        ([{"type": "x", "seq": 1}], EventInvalid),
        ([{"type": "log.opened"}], EventInvalid),
        ([note(1, x="x" * MAX_LINE_BYTES)], LineTooLong),
        ([note(1), note(2, x="\ud800")], EventInvalid),
    ],
)
def test_a_batch_with_a_bad_event_leaves_no_trace(world, bad, error):
    with world.open() as log:
        before = (world.content(log), log.next_seq, log.head, log.offset)
        with pytest.raises(error):
            log.append(*bad)
        assert (world.content(log), log.next_seq, log.head, log.offset) == before
        assert log.append(note(1)) == range(1, 2)


def test_fields_are_fixed_or_follow_from_the_event(world):
    def fields(event):
        return {"level": "INFO" if isinstance(event, LogOpened) else "WARN"}

    with world.open(fields=fields) as log:
        log.append(note(1))
        levels = [msgspec.json.decode(x)["level"] for x in world.content(log).splitlines()]
    assert levels == ["INFO", "WARN"]
    with pytest.raises(EventInvalid):
        world.open(fields={"sum": "x"})


def test_times_come_from_the_clock_or_with_the_batch(world):
    with world.open(clock=lambda: BASE_NS) as log:
        log.append(note(1), time_ns=BASE_NS + 10**9)
        assert [record.ts[17:] for record in world.records(log, Noted)] == [
            "20.000000Z",
            "21.000000Z",
        ]


@pytest.mark.parametrize("time_ns", [10**30, -(10**30), 253_402_300_800 * 10**9, 1.5, "now"])
def test_a_time_that_is_none_is_refused_before_anything_is_written(world, time_ns):
    with world.open() as log:
        before = world.content(log)
        with pytest.raises(EventInvalid, match="is no time"):
            log.append(note(1), time_ns=time_ns)
        assert world.content(log) == before
        assert log.append(note(1), time_ns=0) == range(1, 2)


def test_a_closed_log_takes_nothing_and_stays_readable(world):
    with world.open() as log:
        log.append(note(1))
    log.close()
    for call in (lambda: log.append(note(2)), log.sync):
        with pytest.raises(LogPoisoned, match="closed"):
            call()
    assert [record.event for record in world.records(log, Noted)][1:] == [note(1)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_append_to_it_as_well(world, backend):
    pytest.importorskip(backend)
    outcomes = {}

    async def append(log, number, **more):
        try:
            outcomes[number] = await log.append(note(number), **more)
        except EventInvalid as error:
            outcomes[number] = error

    async def main(opened):
        async with AsyncLog(opened) as log, anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(append, log, number)
            tasks.start_soon(lambda: append(log, 5, time_ns=10**30))
        with pytest.raises(LogPoisoned, match="closed"):
            await log.append(note(9))
        return world.records(opened, Noted)

    records = anyio.run(main, world.open(), backend=backend)
    assert isinstance(outcomes.pop(5), EventInvalid)
    for number, seqs in outcomes.items():
        assert [records[seq].event for seq in seqs] == [note(number)]
    assert len(records) == 6
