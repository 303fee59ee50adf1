"""Following a log: each line once, in order, whatever is done to the file meanwhile."""

from __future__ import annotations

import os
import shutil
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logkit import Noted, SwiftFiles, content, note, open_descriptors, put, small_log

import eventlog.follower
from eventlog import (
    EventInvalid,
    Follower,
    Line,
    Log,
    LogDamaged,
    LogNotFound,
    LogOpened,
    LogRewritten,
    Rejected,
    UnknownEvent,
    follow,
    read,
    read_lines,
)

Types = Noted | LogOpened


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_a_follower_gets_each_line_once_wherever_the_writes_are_cut(path):
    whole = small_log(path.with_name("whole"), batches=2)
    expected = list(read_lines(path.with_name("whole")))
    for piece in (1, 2, 7, 100, len(whole)):
        put(path, b"")
        got = []
        with Follower(path) as follower, open(path, "ab", buffering=0) as file:
            for begin in range(0, len(whole), piece):
                file.write(whole[begin : begin + piece])
                new = list(follower.poll())
                got += new
                assert got == expected[: whole[: begin + piece].count(b"\n")]
        assert got == expected


def test_a_follower_whose_consumer_stops_midway_misses_nothing(path):
    small_log(path)
    with Follower(path) as follower:
        got = [next(iter(follower.poll())) for _ in range(7)]
        assert list(follower.poll()) == []
    assert got == list(read_lines(path))


def test_a_follower_from_the_end_gets_only_what_is_new(path):
    small_log(path, batches=1)
    with Follower(path, from_end=True) as follower:
        assert list(follower.poll()) == []
        with Log(path) as log:
            log.append(note(9))
        assert [line.seq for line in follower.poll()] == [3, 4]


def test_a_follower_sees_no_torn_tail_come_and_go(path):
    whole = small_log(path)
    put(path, whole[:-10])
    with Follower(path) as follower:
        assert len(list(follower.poll())) == 6
        with Log(path) as log:
            log.append(note(9))
        got = [msgspec.json.decode(line.raw) for line in follower.poll()]
    assert [line["type"] for line in got] == ["log.opened", "log.recovered", "noted"]
    assert [line["seq"] for line in got] == [6, 7, 8]


def test_following_ends_after_what_came_last(path):
    small_log(path, batches=1)
    pauses: list[float] = []
    log = Log(path)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        log.append(note(len(pauses)))

    def ended() -> bool:
        if len(pauses) == 3:
            log.append(note(100))  # written between the look and the last reading
            log.close()
            return True
        return False

    with Follower(path) as follower:
        lines: list[Any] = [msgspec.json.decode(x.raw) for x in follower.follow(ended, sleep)]
    assert [line["data"].get("n") for line in lines[4:]] == [1, 2, 3, 100]
    assert len(pauses) == 3


# --- what was read is gone -----------------------------------------------------------------------


def whole_lines(path: Any) -> list[Line]:
    return list(read_lines(path))


@pytest.mark.parametrize("reading", ["poll", "block"])
def test_lines_taken_back_are_told_and_then_what_stands_there_now_is_read(path, reading):
    def take(follower: Follower) -> list[Line]:
        if reading == "poll":
            return list(follower.poll())
        block = follower.block()
        return list(block.lines()) if block else []

    small_log(path)
    kept = whole_lines(path)[:4]
    with Follower(path) as follower:
        assert len(take(follower)) == 7
        os.truncate(path, kept[-1].end)
        with pytest.raises(LogRewritten, match=r"events 4 to 6 are not .* shrank") as caught:
            take(follower)
        assert (caught.value.seq, caught.value.offset) == (4, kept[-1].end)
        assert caught.value.path == str(path)
        assert take(follower) == []
        with Log(path) as log:
            log.append(note(9), note(10), note(11))
        assert [line.seq for line in take(follower)] == [4, 5, 6, 7]
        assert take(follower) == []
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(LogRewritten, match="event 7 is not"):
            take(follower)


def test_lines_put_in_the_place_of_others_between_two_looks_are_seen(path):
    small_log(path)
    before = whole_lines(path)
    with Follower(path) as follower:
        list(follower.poll())
        os.truncate(path, before[5].offset)
        with Log(path) as log:
            log.append(*map(note, range(20)))  # it is longer now than it was
        with pytest.raises(LogRewritten, match=r"events 5 to 6 .* other lines") as caught:
            list(follower.poll())
        assert caught.value.seq == 5
        assert list(follower.poll()) == whole_lines(path)[5:]


def test_what_is_gone_is_found_across_what_was_read_at_several_times(path):
    path.touch()
    with Follower(path) as follower:
        for n in range(6):
            with Log(path) as log:
                log.append(note(n))
            list(follower.poll())
        stands = whole_lines(path)
        os.truncate(path, stands[3].offset + 5)
        with pytest.raises(LogRewritten) as caught:
            list(follower.poll())
        # It is named by what was read at one time: two lines each.
        assert (caught.value.seq, caught.value.offset) == (2, stands[2].offset)
        assert list(follower.poll()) == [stands[2]]
        put(path, b"")
        with pytest.raises(LogRewritten, match="events 0 to 2"):
            list(follower.poll())
        assert follower.seq == follower.offset == 0


def test_a_line_that_is_changed_after_it_was_read_counts_as_gone_when_it_is_the_last(path):
    small_log(path)
    with Follower(path) as follower:
        list(follower.poll())
        put(path, content(path).replace(b'"n":5', b'"n":6'))
        with pytest.raises(LogRewritten) as caught:
            list(follower.poll())
        assert caught.value.seq == 6


def test_lines_swapped_while_they_are_read_are_read_again(path, monkeypatch):
    small_log(path)
    lines = whole_lines(path)
    os.truncate(path, lines[3].offset)
    with Follower(path) as follower:
        list(follower.poll())
        with Log(path) as log:
            log.append(note(1), note(2))
        right = content(path)
        # The first reading sees a mixture: what follows does not belong to what was read.
        readings = [right[: lines[3].offset] + lines[4].raw + b"\n", right]
        real = eventlog.follower.blocks

        def blocks(source: Any, start: int) -> Any:
            put(path, readings.pop(0) if readings else right)
            source.refresh()
            return real(source, start)

        monkeypatch.setattr(eventlog.follower, "blocks", blocks)
        assert list(follower.poll()) == whole_lines(path)[3:]


def test_a_damaged_log_is_followed_past_the_damage(path):
    small_log(path)
    lines = content(path).splitlines(keepends=True)
    put(path, b"".join(lines[:3] + lines[4:]))
    with Follower(path) as follower:
        assert [line.raw + b"\n" for line in follower.poll()] == lines[:3] + lines[4:]


# --- another file --------------------------------------------------------------------------------


def test_a_copy_that_took_the_name_is_followed_on(path, tmp_path):
    small_log(path)
    with Follower(path) as follower:
        assert len(list(follower.poll())) == 7
        shutil.copy(path, tmp_path / "copy")
        os.replace(tmp_path / "copy", path)
        assert list(follower.poll()) == []
        with Log(path) as log:
            log.append(note(9))
        assert [line.seq for line in follower.poll()] == [7, 8]


def test_the_old_file_is_read_to_its_end_before_a_new_one_begins(path, tmp_path):
    small_log(path, batches=1)
    with Follower(path) as follower:
        assert len(list(follower.poll())) == 3
        with Log(path) as log:
            log.append(note(7))
        os.replace(path, tmp_path / "old")
        new = small_log(path, batches=2)
        lines = follower.poll()
        assert [next(lines).seq, next(lines).seq] == [3, 4]
        with pytest.raises(LogRewritten, match="another file has the log's name") as caught:
            next(lines)
        assert (caught.value.seq, caught.value.offset) == (0, 0)
        assert [line.raw + b"\n" for line in follower.poll()] == new.splitlines(keepends=True)


def test_a_name_that_goes_is_waited_for(path, tmp_path):
    small_log(path)
    with Follower(path) as follower:
        list(follower.poll())
        os.replace(path, tmp_path / "away")
        assert list(follower.poll()) == []
        with Log(tmp_path / "away") as log:
            log.append(note(1))
        assert [line.seq for line in follower.poll()] == [7, 8]
        os.replace(tmp_path / "away", path)
        assert list(follower.poll()) == []


def test_an_unsealed_log_in_another_file_proves_nothing(path, tmp_path):
    put(path, b'{"type":"a"}\n')
    with Follower(path) as follower:
        list(follower.poll())
        shutil.copy(path, tmp_path / "copy")
        os.replace(tmp_path / "copy", path)
        with pytest.raises(LogRewritten):
            list(follower.poll())
        assert [line.seq for line in follower.poll()] == [0]


def test_an_empty_log_that_is_replaced_has_lost_nothing(path, tmp_path):
    path.touch()
    with Follower(path) as follower:
        assert list(follower.poll()) == []
        small_log(tmp_path / "other")
        os.replace(tmp_path / "other", path)
        assert len(list(follower.poll())) == 7


STEPS = ["append", "tear", "heal", "cut", "copy", "new", "poll", "poll one"]


@given(st.lists(st.sampled_from(STEPS) | st.integers(0, 3000), max_size=25))
def test_whatever_is_done_to_the_file_a_follower_ends_with_its_lines(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("follow") / "events.jsonl"
    with Log(path, files=SwiftFiles()):
        pass
    got: list[bytes] = []

    def poll(most: int | None = None) -> None:
        lines = follower.poll()
        try:
            for line in lines:
                assert line.seq == len(got)
                got.append(line.raw)
                if most is not None:
                    return
        except LogRewritten as error:
            del got[error.seq :]
            poll(most)

    with Follower(path) as follower:
        for number, step in enumerate(steps):
            match step:
                case "append" | "heal":
                    with Log(path, files=SwiftFiles()) as log:
                        log.append(note(number))
                case "tear":
                    with open(path, "ab") as file:
                        file.write(b'{"seq":7,"ts":"2025')
                case "cut":
                    whole = whole_lines(path)
                    os.truncate(path, whole[-1].offset)
                case int():
                    os.truncate(path, min(step, path.stat().st_size))
                case "copy":
                    shutil.copy(path, path.with_name("copy"))
                    os.replace(path.with_name("copy"), path)
                case "new":
                    path.unlink()
                    with Log(path, files=SwiftFiles()):
                        pass
                case "poll one":
                    poll(1)
                case _:
                    poll()
            if not whole_lines(path):
                with Log(path, files=SwiftFiles()):
                    pass
        poll()
        poll()
        assert got == [line.raw for line in whole_lines(path)]


# --- from a place on -----------------------------------------------------------------------------


def test_following_goes_on_after_any_record(path):
    small_log(path)
    records = list(read(path, Types))
    for record in records:
        found = list(follow(path, Types, after=record, until=lambda: True))
        assert found == records[record.seq + 1 :]
        with Follower(path, after=record) as follower:
            assert (follower.seq, len(list(follower.poll()))) == (record.seq + 1, 6 - record.seq)


def test_a_place_that_is_not_there_any_more_is_refused(path):
    small_log(path)
    record = list(read(path, Types))[4]
    for change in (
        {"sum": ""},
        {"sum": "A" * 16},
        {"seq": 3},
        {"offset": 0},
        {"offset": -1},
        {"offset": record.offset + 1},
        {"offset": 1 << 40},
    ):
        wrong = msgspec.structs.replace(record, **change)
        with pytest.raises(LogRewritten, match="does not hold the line"):
            Follower(path, after=wrong)
    os.truncate(path, record.offset + 100)
    with pytest.raises(LogRewritten) as caught:
        next(follow(path, Types, after=record))
    assert (caught.value.seq, caught.value.path) == (4, str(path))


# --- records -------------------------------------------------------------------------------------


def test_records_come_as_reading_gives_them(path):
    put(path, b'{"type":"noted","data":{"n":1}}\n\n{"type":"later"}\n')
    small_log(path)
    expected = list(read(path, Types, verify=True))
    assert list(follow(path, Types, until=lambda: True, verify=True)) == expected
    assert isinstance(expected[1].event, UnknownEvent)


def test_an_error_about_a_line_does_not_lose_the_others(path):
    lines = [b'{"type":"noted","data":{"n":1}}', b'{"type":"noted","data":7}', b"no", b'{"type":1}']
    put(path, b"\n".join(lines) + b"\n")
    records = follow(path, Noted, until=lambda: True)
    seqs = [next(records).seq]
    for number in (1, 2):
        with pytest.raises(EventInvalid) as caught:
            next(records)
        assert caught.value.seq == number
    seqs += [record.seq for record in records]
    assert seqs == [0, 3]
    rejected: list[Rejected] = []
    found = follow(path, Noted, until=lambda: True, rejected=rejected)
    assert [record.seq for record in found] == [0, 3]
    assert [one.seq for one in rejected] == [1, 2]


def test_a_wrong_sum_is_seen_by_those_who_ask(path):
    put(path, small_log(path).replace(b'"n":3', b'"n":4'))
    records = follow(path, Types, until=lambda: True, verify=True)
    with pytest.raises(LogDamaged):
        list(records)
    assert [record.seq for record in records] == [5, 6]


def test_a_log_rewritten_is_told_once_and_following_goes_on(path):
    small_log(path)
    records = follow(path, Types)
    assert [next(records).seq for _ in range(7)] == list(range(7))
    put(path, b"")
    with pytest.raises(LogRewritten):
        next(records)
    small_log(path, batches=1)
    assert [next(records).seq for _ in range(3)] == [0, 1, 2]
    records.close()
    assert list(records) == []


def test_a_log_that_is_not_there_is_told_when_it_is_asked_for(path):
    records = follow(path)
    with pytest.raises(LogNotFound):
        next(records)


def test_no_file_stays_open(path):
    small_log(path)
    before = open_descriptors()
    for record in follow(path, Types):
        assert record.seq == 0
        break
    list(follow(path, Types, until=lambda: True))
    with follow(path, Types) as records:
        next(records)
    assert open_descriptors() == before


def test_tasks_follow_while_others_append(path):
    async def main() -> list[list[int]]:
        seen: list[list[int]] = [[], []]

        async def tail(into: list[int]) -> None:
            async for record in follow(path, Types, poll_s=0.002):
                into.append(record.seq)
                if record.seq == 40:
                    return

        with Log(path, files=SwiftFiles()) as log:
            async with anyio.create_task_group() as tasks:
                for into in seen:
                    tasks.start_soon(tail, into)
                for n in range(20):
                    log.append(note(n), note(n))
                    await anyio.lowlevel.checkpoint()
        return seen

    assert anyio.run(main) == [list(range(41))] * 2


def test_a_task_that_waits_for_more_can_be_cancelled_and_go_on(path):
    small_log(path)

    async def main() -> list[int]:
        records = follow(path, Types)
        seen = []
        with anyio.move_on_after(0.05):
            async for record in records:
                seen.append(record.seq)  # noqa: PERF401 - what was seen before is kept
        with Log(path, files=SwiftFiles()) as log:
            log.append(note(1))
        seen += [(await anext(records)).seq, (await anext(records)).seq]
        records.close()
        assert [record async for record in records] == []
        return seen

    assert anyio.run(main) == list(range(9))
