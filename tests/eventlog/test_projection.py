"""State as a fold over events."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from logkit import Noted, content, note, put, small_log

from eventlog import (
    Checkpoint,
    EventInvalid,
    EventLogError,
    Log,
    LogWriteFailed,
    MemoryLog,
    Projection,
    Record,
    Rejected,
    codec,
    fold_file,
    follow,
    load_checkpoint,
    read,
    save_checkpoint,
)


def add(state: int, record: Record) -> int:
    return state + record.event.data["n"] if isinstance(record.event, Noted) else state


def collect(state: list[int], record: Record) -> list[int]:
    state.append(record.seq)
    return state


TOTAL = Projection(initial=lambda: 0, evolve=add)
SEEN = Projection(initial=list, evolve=collect)


@pytest.fixture
def log():
    log = MemoryLog()
    log.append(*(note(n) for n in (1, 2, 4, 8)))
    return log


def test_a_fold_begins_at_the_initial_state(log):
    assert TOTAL.fold([]) == 0
    assert TOTAL.fold(log.read(Noted)) == 15


def test_a_fold_can_go_on_from_any_point(log):
    records = list(log.read(Noted))
    for point in range(len(records) + 1):
        assert TOTAL.fold(records[point:], TOTAL.fold(records[:point])) == 15


def test_each_fold_from_the_start_gets_a_state_of_its_own(log):
    assert SEEN.fold(log.read(Noted)) == SEEN.fold(log.read(Noted)) == [0, 1, 2, 3, 4]


def test_a_state_that_is_false_is_a_state(log):
    assert TOTAL.fold(log.read(Noted), 0) == 15
    kept: list[int] = []
    assert SEEN.fold(log.read(Noted), kept) is kept


# --- checkpoints ---------------------------------------------------------------------------------


class Total(msgspec.Struct):
    cents: int = 0
    seen: dict[int, str] = {}


def tally(state: Total, record: Record[Any]) -> Total:
    if isinstance(record.event, Noted):
        state.cents += record.event.data["n"]
        state.seen[record.seq] = record.sum
    return state


class Counting:
    """A projection, and how many records it has folded."""

    def __init__(self, version: int = 1) -> None:
        self.folded = 0

        def evolve(state: Total, record: Record[Any]) -> Total:
            self.folded += 1
            return tally(state, record)

        self.projection = Projection(initial=Total, evolve=evolve, version=version)

    def fold(self, path: Any, checkpoint: Checkpoint | None = None) -> tuple[Total, Checkpoint]:
        self.folded = 0
        return fold_file(path, Noted, self.projection, checkpoint)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_a_fold_goes_on_from_any_point_to_the_same_state(path):
    counting = Counting()
    data = small_log(path, batches=4)
    lines = data.splitlines(keepends=True)
    whole, _ = counting.fold(path)
    assert counting.folded == 9
    for count in range(1, 10):
        put(path, b"".join(lines[:count]))
        _, checkpoint = counting.fold(path)
        assert checkpoint.seq == count - 1
        put(path, data)
        state, last = counting.fold(path, checkpoint)
        assert (state, counting.folded) == (whole, 9 - count)
        assert last == counting.fold(path)[1]
        assert counting.fold(path, last) == (whole, last)
        assert counting.folded == 0


def test_a_torn_tail_is_folded_when_it_is_whole(path):
    counting = Counting()
    data = small_log(path)
    put(path, data[:-10])
    _, checkpoint = counting.fold(path)
    put(path, data)
    assert counting.fold(path, checkpoint)[0] == counting.fold(path)[0]


def test_going_on_leaves_the_checkpoint_as_it_was(path):
    counting = Counting()
    small_log(path)
    _, checkpoint = counting.fold(path)
    encoded = checkpoint.encode()
    with Log(path) as log:
        log.append(note(100))
    states = [counting.fold(path, checkpoint)[0] for _ in range(3)]
    assert states[0] == states[1] == states[2]
    assert checkpoint.encode() == encoded


@pytest.mark.parametrize("change", ["cut", "other", "edited", "swapped", "sealed over", "version"])
def test_a_checkpoint_that_does_not_hold_is_passed_over(path, change):
    counting = Counting()
    small_log(path)
    if change == "sealed over":
        put(path, b'{"type":"noted","data":{"n":1}}\n')
    _, checkpoint = counting.fold(path)
    match change:
        case "cut":
            put(path, b"".join(content(path).splitlines(keepends=True)[:-1]))
            with Log(path) as log:
                log.append(*(note(n) for n in range(9)))
        case "other":
            path.unlink()
            small_log(path, batches=9)
        case "edited":  # with a right sum, and the chain after it rebuilt
            *lines, _ = content(path).splitlines(keepends=True)
            members = codec.encode_members(note(77))
            line, _ = codec.seal(6, "2025-10-22T10:00:00.000000Z", members, "A" * 16)
            put(path, b"".join([*lines, line]))
        case "swapped":
            lines = content(path).splitlines(keepends=True)
            put(path, b"".join([*lines[:-2], lines[-1], lines[-2]]))
        case "sealed over":
            small_log(path)
        case _:
            counting = Counting(version=2)
    state, now = counting.fold(path, checkpoint)
    assert counting.folded == len(list(read(path, Noted)))
    assert (state, now) == counting.fold(path)
    assert (now.version == 1) == (change != "version")


def test_an_empty_log_has_a_checkpoint_too(path):
    counting = Counting()
    path.touch()
    state, checkpoint = counting.fold(path)
    assert (state, checkpoint.seq, checkpoint.sum) == (Total(), -1, "")
    small_log(path)
    assert counting.fold(path, checkpoint)[0] == counting.fold(path)[0]
    records = list(follow(path, Noted, after=checkpoint, until=lambda: True))
    assert [record.seq for record in records] == list(range(7))


def test_what_comes_after_a_checkpoint_can_be_followed(path):
    small_log(path)
    state, checkpoint = Counting().fold(path)
    with Log(path) as log:
        log.append(note(50))
    for record in follow(path, Noted, after=checkpoint, until=lambda: True):
        state = tally(state, record)
    assert state == Counting().fold(path)[0]


def test_a_checkpoint_survives_in_a_file(path, tmp_path):
    counting = Counting()
    small_log(path)
    _, checkpoint = counting.fold(path)
    file = tmp_path / "total.json"
    assert load_checkpoint(file) is None
    for _ in range(2):
        save_checkpoint(file, checkpoint)
        assert load_checkpoint(file) == checkpoint
        assert counting.fold(path, load_checkpoint(file))[1] == checkpoint
        assert counting.folded == 0
    assert sorted(tmp_path.iterdir()) == [path, path.with_name("events.jsonl.lock"), file]


def test_a_spoiled_checkpoint_is_none(path, tmp_path):
    file = tmp_path / "total.json"
    small_log(path)
    data = Counting().fold(path)[1].encode()
    for at in range(len(data)):
        assert Checkpoint.decode(data[:at]) is None
        for bit in range(8):
            assert (
                Checkpoint.decode(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]) is None
            )
    put(file, data[:-1])
    assert load_checkpoint(file) is None
    body = b'{"seq":1'
    put(file, body + b',"check":"' + codec.checksum(body).encode() + b'"}\n')
    assert load_checkpoint(file) is None


def test_a_checkpoint_that_can_not_be_read_or_written_is_told(path, tmp_path):
    small_log(path)
    _, checkpoint = Counting().fold(path)
    with pytest.raises(EventLogError, match="can't be read"):
        load_checkpoint(tmp_path)
    with pytest.raises(LogWriteFailed, match="can't be written") as caught:
        save_checkpoint(tmp_path / "no" / "folder", checkpoint)
    assert caught.value.path == str(tmp_path / "no" / "folder")


@pytest.mark.parametrize(
    ("initial", "state", "said"),
    [
        (lambda: {1: "a"}, None, "would not be the same"),
        (lambda: float("nan"), None, "NaN"),
        (lambda: {"a": {1}}, None, "would not be the same"),
        (object, None, "can't be encoded"),
        (lambda: {"a": 1}, dict[str, str], "Expected `str`"),
    ],
)
def test_a_state_that_would_not_come_back_is_refused(path, initial, state, said):
    small_log(path)
    projection: Projection[Any] = Projection(initial, lambda state, _: state, state=state)
    with pytest.raises(EventInvalid, match="a checkpoint can't be") as caught:
        fold_file(path, Noted, projection)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("initial", "state"),
    [
        (lambda: {1: {2}}, dict[int, set[int]]),
        (lambda: (1, b"\xff", None), tuple[int, bytes, None]),
        (lambda: "text", None),
        (lambda: [1.5, {"a": None}], None),
        (frozenset, None),
    ],
)
def test_a_state_comes_back_as_its_type(path, initial, state):
    small_log(path)
    projection: Projection[Any] = Projection(initial, lambda state, _: state, state=state)
    found, checkpoint = fold_file(path, Noted, projection)
    again, _ = fold_file(path, Noted, projection, Checkpoint.decode(checkpoint.encode()))
    assert again == found == initial()
    assert type(again) is type(found)


def test_a_checkpoint_of_another_state_is_passed_over(path):
    small_log(path)
    numbers = Projection(lambda: 0, lambda state, _: state + 1)
    words = Projection(str, lambda state, _: state + "x")
    _, checkpoint = fold_file(path, Noted, numbers)
    assert fold_file(path, Noted, words, checkpoint)[0] == "x" * 7


def test_lines_before_a_checkpoint_are_not_looked_at_again(path):
    data = small_log(path)
    put(path, data.replace(b'"n":2}', b'"n":"}'))
    rejected: list[Rejected] = []
    counting = Counting()
    _, checkpoint = fold_file(path, Noted, counting.projection, rejected=rejected)
    assert [one.seq for one in rejected] == [3]
    fold_file(path, Noted, counting.projection, checkpoint)
