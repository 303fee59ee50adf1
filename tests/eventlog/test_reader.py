"""Readers: never a lock, never half a line, and nothing they don't know is lost."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logkit import Noted, content, note, put, small_log, ticking

from eventlog import (
    Decoder,
    Event,
    EventInvalid,
    EventLogError,
    Follower,
    LineTooLong,
    Log,
    LogDamaged,
    LogNotFound,
    LogOpened,
    MemoryLog,
    Rejected,
    UnknownEvent,
    codec,
    read,
    read_dicts,
    read_events,
    read_lines,
)
from eventlog.decode import MAX_OTHERS
from eventlog.lines import READ_LIMIT
from eventlog.reader import as_dict


class Counted(Event, frozen=True, kw_only=True, tag="counted"):
    step: str
    data: int


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_records_come_with_their_place(path):
    with Log(path, clock=ticking()) as log:
        log.append(note(1), Counted(step="a", data=2))
    records = list(read(path, Noted | Counted | LogOpened))
    assert [record.seq for record in records] == [0, 1, 2]
    assert records[1].event == note(1)
    assert records[2].event == Counted(step="a", data=2)
    assert isinstance(records[0].event, LogOpened)
    assert records[2].ts == "2023-11-14T22:13:22.000002Z"
    assert records[2].sum == log.head
    for record in records:
        assert content(path)[record.offset :].startswith(b'{"seq":%d,' % record.seq)


def test_an_unknown_type_is_kept_with_its_data(path):
    with Log(path) as log:
        log.append({"type": "later", "new": 1, "data": {"deep": [1, None]}}, {"type": "bare"})
    later, bare = list(read(path, Noted))[1:]
    assert later.event == UnknownEvent(type="later", data={"deep": [1, None]})
    assert bare.event == UnknownEvent(type="bare", data=None)
    assert list(read_dicts(path))[1]["new"] == 1


def test_unknown_fields_are_no_obstacle_and_stay_in_the_line(path):
    with Log(path, fields={"job_id": "j"}) as log:
        log.append({"type": "counted", "step": "a", "data": 1, "extra": {"x": 2}})
    assert list(read(path, Counted))[1].event == Counted(step="a", data=1)
    assert list(read_dicts(path))[1]["extra"] == {"x": 2}


def test_a_known_type_with_other_content_is_told_with_its_place(path):
    with Log(path) as log:
        log.append({"type": "counted", "step": "a", "data": "no number"})
    with pytest.raises(EventInvalid) as caught:
        list(read(path, Counted))
    assert (caught.value.seq, caught.value.path) == (1, str(path))
    assert "$.data" in caught.value.message
    rejected: list[Rejected] = []
    assert len(list(read(path, Counted, rejected=rejected))) == 1
    assert [(r.seq, r.offset) for r in rejected] == [(1, caught.value.offset)]


FOREIGN = [
    b'{"type":"a","ts":"2025-10-22T10:00:00Z","data":1}',
    b'{"type":7,"sum":42,"ts":1700000000,"data":2}',
    b'{"type":["a"],"sum":null,"ts":null,"data":3}',
    b'{"seq":"mine","type":"a","data":4}',
    b"",
    b"  \t ",
    b'{"level":"no type"}',
]


def test_another_tool_s_members_may_be_anything(path):
    put(path, b"\n".join(FOREIGN) + b"\n")
    records = list(read(path, Noted))
    assert [record.seq for record in records] == [0, 1, 2, 3, 6]
    assert [record.event.type for record in records] == ["a", "", "", "a", ""]
    assert all(isinstance(record.ts, str) for record in records)
    assert {record.sum for record in records} == {""}
    assert [line["seq"] for line in read_dicts(path)] == [0, 1, 2, 3, 6]


UNREADABLE = [
    b'{"type":"a","x":"\xff"}',
    b'{"type":"\xff"}',
    b'{"type":"a","data":"\xff"}',
    b'{"type":"a","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"type":"a","other":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    b"not json",
    b"[1]",
    b"17",
    b"\0" * 600,
    b'{"type":"a"',
    b'{"type":"a","data":1e999}',
    b'{"type":"a","data":' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("number", range(len(UNREADABLE)))
def test_a_line_that_can_not_be_read_is_one_rejected_line(path, number, sealed):
    bad = UNREADABLE[number]
    # In a sealed log it stands for damage; readers go on after it.
    before = small_log(path) if sealed else FOREIGN[0] + b"\n"
    put(path, before + bad + b"\n" + before)
    rejected: list[Rejected] = []
    count = len(list(read_dicts(path, rejected=rejected)))
    seqs = {line.seq for line in rejected}
    assert count + len(rejected) == 2 * before.count(b"\n") + 1
    typed: list[Rejected] = []
    count = len(list(read(path, Noted, rejected=typed)))
    assert count + len(typed) == 2 * before.count(b"\n") + 1
    # (What nobody asked for, a reader need not look into.)
    assert seqs | {line.seq for line in typed} == {before.count(b"\n")}
    assert {line.offset for line in rejected + typed} == {len(before)}


@pytest.mark.parametrize("depth", [900, 1000, 1100])
def test_deep_json_is_read_or_told(path, depth):
    put(path, b'{"type":"a","data":%b%b}\n' % (b"[" * depth, b"]" * depth))
    for reader in (lambda: list(read(path, Noted)), lambda: list(read_dicts(path))):
        try:
            assert len(reader()) == 1
        except EventInvalid as error:
            assert error.seq == 0  # noqa: PT017 - either is right, no other exception is


def test_only_a_newline_ends_a_line(path):
    text = "a\u2028b\u2029c\x85d\re\x0bf\x0cg\x1ch"
    with Log(path) as log:
        log.append(note(1, text=text))
    put(path, content(path).replace(b"\\r", b"\r"))  # and raw ones of other tools
    assert len(list(read_lines(path))) == 2
    small_log(path.with_name("b"), batches=1, text=text)
    assert list(read(path.with_name("b"), Noted))[1].event.data["text"] == text


def test_reading_stops_at_the_last_complete_line(path):
    whole = small_log(path)
    for size in range(len(whole)):
        put(path, whole[:size])
        assert len(list(read_lines(path))) == whole[:size].count(b"\n")


def test_a_wrong_sum_is_seen_by_those_who_ask(path):
    put(path, small_log(path).replace(b'"n":3', b'"n":4'))
    assert [r.event.data["n"] for r in read(path, Noted) if isinstance(r.event, Noted)] == [
        0,
        1,
        2,
        4,
        4,
        5,
    ]
    with pytest.raises(LogDamaged, match="sum is wrong") as caught:
        list(read(path, Noted, verify=True))
    assert (caught.value.seq, caught.value.path) == (4, str(path))


def test_reading_can_begin_at_any_line(path):
    small_log(path)
    lines = list(read_lines(path))
    for line in lines:
        assert list(read_lines(path, start=line.offset, first_seq=line.seq)) == lines[line.seq :]


def test_a_line_without_end_is_refused_after_the_lines_before_it(path):
    whole = small_log(path)
    with open(path, "ab") as file:
        file.truncate(10 << 30)  # sparse: takes no space
    got = []
    with pytest.raises(LineTooLong) as caught:
        got.extend(read_lines(path))
    assert len(got) == 7
    assert (caught.value.path, caught.value.seq) == (str(path), 7)
    assert caught.value.offset == len(whole)
    assert str(READ_LIMIT) in caught.value.message


def test_what_is_no_log_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, text in (("none", "no log here"), ("pipe", "no regular file"), (".", "a folder")):
        with pytest.raises(LogNotFound, match=text) as caught:
            list(read_lines(tmp_path / name))
        assert caught.value.path == str(tmp_path / name)
        with pytest.raises(LogNotFound):
            Follower(tmp_path / name)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(EventLogError, match="can't be read"):
        list(read_lines(tmp_path / "loop"))


def test_a_link_to_a_log_is_followed(path, tmp_path):
    small_log(path)
    (tmp_path / "link").symlink_to(path)
    assert list(read_lines(tmp_path / "link")) == list(read_lines(path))


# --- whole blocks --------------------------------------------------------------------------------
# What a block's way gives must be what the way through each line gives, wherever it is taken.

Types = Noted | Counted | LogOpened
SOME: list[Any] = [
    note(1),
    note(2, text="é\u2028"),
    Counted(step="a", data=1),
    {"type": "counted", "step": "a", "data": 1, "extra": {"sum": "0123456789abcdef"}},
    {"type": "later", "data": {"deep": [1, None]}},
    {"type": "later"},
    {"type": "other", "data": "x" * 70_000},
]
ODD = [b"", b"  ", b"no json", b'{"type":"noted","data":7}', b'{"type":7}', b"[1]", FOREIGN[0]]
TIME_NS = 1_700_000_000_000_000_000


def by_lines(path: Any, verify: bool) -> tuple[list[Any], list[tuple[int, int]]]:
    decode: Decoder[Any] = Decoder(Types, verify=verify)
    records, bad = [], []
    for line in read_lines(path):
        if line.raw.strip():
            try:
                records.append(decode(line))
            except EventLogError:
                bad.append((line.seq, line.offset))
    return records, bad


@given(
    st.lists(
        st.lists(st.sampled_from(SOME), min_size=1, max_size=3) | st.sampled_from(ODD), max_size=12
    ),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_blocks_give_what_lines_give(tmp_path_factory, parts, verify, flip):
    path = tmp_path_factory.mktemp("blocks") / "events.jsonl"
    sealed = MemoryLog(clock=lambda: TIME_NS)
    for part in parts:
        if isinstance(part, list):
            sealed.append(*part)
        else:
            sealed.lines.append(part + b"\n")
    data = b"".join(sealed.lines)
    if flip % 3:
        at = flip % len(data)
        data = data[:at] + bytes([data[at] ^ 1 << flip % 8]) + data[at + 1 :]
    put(path, data)
    records, bad = by_lines(path, verify)
    rejected: list[Rejected] = []
    assert list(read(path, Types, verify=verify, rejected=rejected)) == records
    assert [(one.seq, one.offset) for one in rejected] == bad
    rejected = []
    events = list(read_events(path, Types, verify=verify, rejected=rejected))
    if verify or not flip % 3:  # (else it may not look at what is bad: a stamp, say)
        assert events == [record.event for record in records]
        assert [(one.seq, one.offset) for one in rejected] == bad
    rejected = []
    dicts = list(read_dicts(path, rejected=rejected))
    gone = {one.seq for one in rejected}
    assert dicts == [
        as_dict(line) for line in read_lines(path) if line.raw.strip() and line.seq not in gone
    ]
    assert all(next(iter(found)) == "seq" for found in dicts)


def test_a_sound_log_is_read_by_the_block_whatever_types_are_known(path, monkeypatch):
    """The slow way is not taken where it need not be; else reading would be slow in silence."""
    with Log(path) as log:
        for n in range(40):
            log.append(note(n), Counted(step="a", data=n), {"type": f"later{n % 7}", "data": n})
    expected = [by_lines(path, verify)[0] for verify in (False, True)]

    def never(*_: Any) -> Any:
        raise AssertionError("a line was read by itself")

    monkeypatch.setattr(Decoder, "__call__", never)
    monkeypatch.setattr("eventlog.reader.as_dict", never)
    for types in (Types, Event, Noted):
        for verify in (False, True):
            assert len(list(read(path, types, verify=verify))) == 121
            assert len(list(read_events(path, types, verify=verify))) == 121
    for verify in (False, True):
        assert list(read(path, Types, verify=verify)) == expected[verify]
    assert [line["seq"] for line in read_dicts(path)] == list(range(121))


def test_more_unknown_types_than_are_learned_are_read_all_the_same(path):
    with Log(path) as log:
        for n in range(MAX_OTHERS + 50):
            log.append({"type": f"t{n}", "data": "x" * 500})
    assert [record.event.type for record in read(path, Noted)][1:] == [
        f"t{n}" for n in range(MAX_OTHERS + 50)
    ]


def test_an_error_comes_after_the_events_before_it_and_names_its_place(path):
    data = small_log(path)
    put(path, data + b"no\n" + data)
    for reader in (read, read_events, lambda path, _: read_dicts(path)):
        got = []
        with pytest.raises(EventInvalid) as caught:
            got.extend(reader(path, Types))
        assert len(got) == 7
        assert (caught.value.seq, caught.value.offset) == (7, len(data))
        assert caught.value.path == str(path)


def test_reading_records_can_begin_at_any_line(path):
    small_log(path)
    records = list(read(path, Types))
    for record in records:
        found = read(path, Types, start=record.offset, first_seq=record.seq)
        assert list(found) == records[record.seq :]


def test_a_value_that_spans_two_lines_is_two_bad_lines(path):
    data = small_log(path)
    broken = data.replace(b'"data":{"n":3}', b'"data":\n{"n":3}')
    put(path, broken)
    rejected: list[Rejected] = []
    seqs = [record.seq for record in read(path, Types, rejected=rejected)]
    assert (seqs, [one.seq for one in rejected]) == ([0, 1, 2, 3, 6, 7], [4, 5])


def test_a_line_without_a_type_is_of_none_of_the_types_given(path):
    line, _ = codec.seal(0, "2026-11-23T10:00:01.204417Z", b'"data":{"n":1}', codec.GENESIS)
    put(path, line)
    [record] = read(path, Noted)
    [event] = read_events(path, Noted)
    assert record.event == event == UnknownEvent(type="", data={"n": 1})
