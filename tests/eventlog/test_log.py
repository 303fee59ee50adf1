"""The file: open, append, sync, and what a writer refuses."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import threading
from typing import Any

import msgspec
import pytest
from logkit import (
    BASE_NS,
    Crash,
    FaultyFiles,
    Noted,
    SwiftFiles,
    content,
    note,
    numbers,
    open_descriptors,
    put,
    small_log,
    ticking,
    types,
)

from eventlog import (
    Durability,
    Event,
    EventInvalid,
    LineTooLong,
    Log,
    LogDamaged,
    LogFenced,
    LogLocked,
    LogNotFound,
    LogPoisoned,
    LogTooNew,
    LogWriteFailed,
    Verdict,
    codec,
    read,
    read_dicts,
    read_lines,
    scan,
)
from eventlog.source import LogFile

V1 = b'{"timestamp":"2025-10-22T10:00:00","type":"old"}\n{"type":"older","sum":1}\n'
DISK = [Durability.GROUP, Durability.SYNC]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def verdict(path) -> Verdict:
    with LogFile(path) as file:
        return scan(file).verdict


def lines(path) -> list[dict[str, Any]]:
    return [json.loads(line.raw) for line in read_lines(path)]


# --- open and append -----------------------------------------------------------------------------


def test_a_new_log_begins_with_who_opened_it(path):
    with Log(path, clock=ticking()) as log:
        assert (log.next_seq, log.epoch, log.offset) == (1, 1, path.stat().st_size)
    [opened] = lines(path)
    assert opened["type"] == "log.opened"
    assert opened["data"].pop("log_id")
    assert opened["data"].pop("host")
    assert opened["data"] == {"format": 1, "epoch": 1, "pid": os.getpid()}
    assert opened["prev"] == codec.GENESIS
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(f"{path}.lock").st_mode & 0o777 == 0o600


def test_each_writer_adds_an_epoch_to_one_chain(path):
    for epoch in (1, 2, 3):
        with Log(path) as log:
            assert log.epoch == epoch
            log.append(note(epoch))
            head = log.head
    found = lines(path)
    assert [line["data"].get("epoch") for line in found] == [1, None, 2, None, 3, None]
    assert len({line["data"]["log_id"] for line in found[::2]}) == 1
    assert [line["seq"] for line in found] == list(range(6))
    assert [line["prev"] for line in found[1:]] == [line["sum"] for line in found[:-1]]
    assert found[-1]["sum"] == head


@pytest.mark.parametrize("durability", DISK)
def test_the_first_line_of_each_batch_names_what_was_durable(path, durability):
    small_log(path, batches=2, size=2, durability=durability)
    small_log(path, batches=1, size=2, durability=durability)
    assert [line.get("dur") for line in lines(path)] == [None, 0, None, 2, None, 4, 5, None]


def test_at_level_os_no_line_promises_anything(path):
    small_log(path, durability=Durability.OS)
    small_log(path, durability=Durability.OS)
    assert not any("dur" in line for line in lines(path))


@pytest.mark.parametrize("durability", list(Durability))
def test_a_new_file_and_its_name_are_durable_before_the_log_is_handed_out(path, durability):
    files = FaultyFiles()
    with Log(path, files=files, durability=durability):
        assert files.calls[:2] == ["open", "write"]
        assert files.calls[-2:] == ["sync", "sync_dir"]


@pytest.mark.parametrize("durability", list(Durability))
def test_what_an_earlier_writer_left_is_durable_before_it_is_trusted(path, durability):
    small_log(path)
    files = FaultyFiles()
    with Log(path, files=files, durability=durability):
        assert files.calls == ["open", "open", "sync", "write", "sync_data", "sync_dir"]


@pytest.mark.parametrize("durability", DISK)
def test_a_batch_is_one_write_and_one_sync_before_it_is_acknowledged(path, durability):
    files = FaultyFiles()
    with Log(path, files=files, durability=durability) as log:
        files.calls.clear()
        assert log.append(note(0), note(1), note(2)) == range(1, 4)
        assert files.calls == ["write", "sync_data"]
        log.sync()
        assert log.append() == range(4, 4)
    assert files.calls == ["write", "sync_data"]


def test_at_level_os_only_sync_and_close_wait_for_the_disk(path):
    files = FaultyFiles()
    log = Log(path, files=files, durability=Durability.OS)
    files.calls.clear()
    log.append(note(0))
    log.append(note(1))
    assert files.calls == ["write", "write"]
    log.sync()
    log.sync()
    assert files.calls == ["write", "write", "sync_data"]
    log.append(note(2))
    log.close()
    assert files.calls[3:] == ["write", "sync_data"]


def test_all_that_a_bad_event_does_is_to_be_refused(path):
    with Log(path) as log:
        before = content(path)
        for bad in (
            note(0, x=float("nan")),
            note(0, x="\ud800"),
            note(0, x=object()),
            note(0, x="x" * codec.MAX_LINE_BYTES),
            {"type": "x", "data": msgspec.Raw(b"[\n]")},
            {"data": 1},
            {"type": ""},
            {"type": 3},
            [1],
        ):
            with pytest.raises((EventInvalid, LineTooLong)):
                log.append(note(1), bad)
        assert content(path) == before
        assert log.append(note(2)) == range(1, 2)
    assert numbers(path) == [2]


class Stamped(Event, frozen=True, kw_only=True, tag="stamped"):
    ts: str


class Plain(msgspec.Struct):
    data: int


@pytest.mark.parametrize("member", ["seq", "ts", "dur", "prev", "sum"])
def test_the_line_s_own_members_are_nobody_else_s(path, member):
    with Log(path) as log, pytest.raises(EventInvalid, match=f"can't have a member {member}"):
        log.append({"type": "x", member: 1})
    assert types(path) == ["log.opened"]

    def fields(event):
        return {member: 1} if isinstance(event, Noted) else {}

    with Log(path, fields=fields) as log:
        with pytest.raises(EventInvalid, match=f"can't have a member {member}"):
            log.append(note(0))
        log.append({"type": "x"})


def test_fields_are_refused_before_anything_is_made(tmp_path, path):
    for name in ("type", "data", "seq"):
        with pytest.raises(EventInvalid, match=f"can't have a member {name}"):
            Log(path, fields={name: 1})
    with pytest.raises(EventInvalid):
        Log(path, fields={"job": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_struct_s_members_are_looked_at_as_well(path):
    with Log(path, fields={"job": "a"}) as log:
        with pytest.raises(EventInvalid, match="member ts: it is the line's own member"):
            log.append(Stamped(ts="now"))
        with pytest.raises(EventInvalid, match="has no type"):
            log.append(Plain(1))
        with pytest.raises(EventInvalid, match="member job: it is in every line"):
            log.append({"type": "x", "job": "b"})
    assert types(path) == ["log.opened"]


@pytest.mark.parametrize("kind", ["log.opened", "log.recovered"])
def test_only_the_log_writes_its_own_events(path, kind):
    small_log(path)
    with Log(path) as log:
        [first, *_] = [record.event for record in read(path, Event)]
        assert first.type == "log.opened"
        with pytest.raises(EventInvalid, match=f"only the log itself writes {kind}"):
            log.append({"type": kind, "data": first.data})


def test_fields_stand_before_the_event_s_own_members(path):
    with Log(path, fields={"job_id": "j", "level": "INFO"}) as log:
        log.append(note(1), {"type": "x", "data": 2})
    assert [list(line)[:5] for line in lines(path)[1:]] == [
        ["seq", "ts", "job_id", "level", "type"],
        ["seq", "ts", "job_id", "level", "type"],
    ]


def test_fields_can_follow_from_the_event(path):
    def fields(event):
        return {"level": "WARN" if getattr(event, "data", None) == {"n": 2} else "INFO"}

    with Log(path, fields=fields) as log:
        log.append(note(1), note(2))
    assert [line["level"] for line in lines(path)] == ["INFO", "INFO", "WARN"]


def test_a_batch_has_one_time_the_clock_s_or_the_given_one(path):
    with Log(path, clock=lambda: BASE_NS) as log:
        log.append(note(0), note(1))
        log.append(note(2), time_ns=BASE_NS + 1_500_000_000)
    assert [line["ts"][17:] for line in lines(path)] == ["20.000000Z"] * 3 + ["21.500000Z"]


def test_events_of_many_threads_are_one_chain(path):
    got: list[int] = []

    def work(log, first):
        for n in range(first, first + 25):
            got.extend(log.append(note(n), note(n)))

    with Log(path, durability=Durability.OS) as log:
        threads = [threading.Thread(target=work, args=(log, i * 25)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert verdict(path) is Verdict.WHOLE
    assert sorted(got) == list(range(1, 301))
    assert sorted(numbers(path)) == sorted(list(range(150)) * 2)


def test_a_relative_path_holds_when_the_process_changes_its_folder(path, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with Log("events.jsonl") as log:
        monkeypatch.chdir(tmp_path / "other")
        log.append(note(1))
    assert numbers(path) == [1]
    assert os.listdir(tmp_path / "other") == []


# --- who may write -------------------------------------------------------------------------------


def test_a_second_log_on_the_same_file_is_refused_in_one_process_too(path):
    with Log(path), pytest.raises(LogLocked, match="this process itself") as caught:
        Log(path)
    assert f"pid {os.getpid()}" in str(caught.value)
    Log(path).close()


def append_by_hand(path):
    with open(path, "ab") as file:
        file.write(b"x")


def replace(path):
    put(f"{path}.new", content(path))
    os.replace(f"{path}.new", path)


def cut(path):
    os.truncate(path, os.stat(path).st_size - 1)


@pytest.mark.parametrize("meddle", [append_by_hand, replace, cut, os.unlink])
@pytest.mark.parametrize("durability", list(Durability))
def test_a_writer_that_finds_another_s_traces_writes_no_more(path, meddle, durability):
    with Log(path, durability=durability) as log:
        log.append(note(1))
        meddle(path)
        before = content(path) if path.exists() else b""
        with pytest.raises(LogFenced, match="not as this writer left it"):
            log.append(note(2))
        with pytest.raises(LogPoisoned, match="another program changed the file"):
            log.append(note(3))
        with pytest.raises(LogPoisoned):
            log.sync()
    assert (content(path) if path.exists() else b"") == before


def test_a_writer_whose_lock_file_was_removed_is_fenced_by_the_next_one(path):
    with Log(path) as first:
        os.unlink(f"{path}.lock")
        with Log(path) as second:
            second.append(note(2))
            with pytest.raises(LogFenced):
                first.append(note(1))
            second.append(note(3))
    assert numbers(path) == [2, 3]
    assert verdict(path) is Verdict.WHOLE


def test_a_closed_log_takes_nothing(path):
    log = Log(path)
    log.close()
    log.close()
    for call in (lambda: log.append(note(1)), log.sync):
        with pytest.raises(LogPoisoned, match="the log is closed"):
            call()


# --- what can't be opened ------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(LogNotFound, match="folder is not there"):
        Log(tmp_path / "no" / "events.jsonl")


def test_a_folder_a_link_and_a_pipe_are_no_logs_to_write(tmp_path, path):
    small_log(path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "x" / "y")
    os.mkfifo(tmp_path / "pipe")
    names = set(os.listdir(tmp_path))
    for name, error, text in (
        ("folder", LogNotFound, "a folder, not a log"),
        ("link", LogWriteFailed, f"symbolic link.*open the file it points to: {path}"),
        ("nowhere", LogWriteFailed, "symbolic link"),
        ("pipe", LogWriteFailed, "no regular file"),
    ):
        with pytest.raises(error, match=text):
            Log(tmp_path / name)
    assert set(os.listdir(tmp_path)) == names


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, "permissions"),
        (errno.EROFS, "read-only"),
        (errno.EMFILE, "too many files"),
        (errno.EIO, "check the disk"),
    ],
)
def test_a_file_that_can_not_be_opened_says_why_and_what_to_do(path, number, hint):
    with pytest.raises(LogWriteFailed) as caught:
        Log(path, files=FaultyFiles("open", 1, number))
    assert f"open failed: {os.strerror(number)} [{errno.errorcode[number]}]" in str(caught.value)
    assert str(path) in str(caught.value)
    assert hint in caught.value.hint


def test_a_folder_that_can_not_be_written_is_told_before_anything_is_made(tmp_path, path):
    class ReadOnly(FaultyFiles):
        def open(self, path, flags, mode=0o600):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(LogWriteFailed, match="can't open the lock file: Read-only"):
        Log(path, files=ReadOnly())
    assert os.listdir(tmp_path) == []


def test_no_failed_open_leaks_a_descriptor_or_the_lock(path, tmp_path):
    damaged = bytearray(small_log(path))
    damaged[300] ^= 1
    put(tmp_path / "damaged.jsonl", bytes(damaged))
    before = open_descriptors()
    for name, nth in itertools.product(("open", "sync", "write", "sync_data", "sync_dir"), (1, 2)):
        try:
            Log(path, files=FaultyFiles(name, nth)).close()
        except LogWriteFailed:
            pass
    with pytest.raises(LogDamaged):
        Log(tmp_path / "damaged.jsonl")
    with Log(path), pytest.raises(LogLocked):
        Log(path)
    with pytest.raises(LogNotFound):
        list(read_lines(tmp_path))
    assert open_descriptors() == before
    Log(path).close()


def test_a_damaged_log_is_refused_with_its_place_and_left_as_it_is(path, tmp_path):
    whole = small_log(path)
    damaged = whole.replace(b'"n":2', b'"n":7')
    put(path, damaged)
    names = set(os.listdir(tmp_path))
    with pytest.raises(LogDamaged) as caught:
        Log(path)
    assert (caught.value.seq, caught.value.path) == (3, str(path))
    assert caught.value.offset == whole.index(b'{"seq":3,')
    assert "salvage" in caught.value.hint
    assert content(path) == damaged
    assert set(os.listdir(tmp_path)) == names


def test_a_file_of_one_endless_line_is_refused_with_its_name(path):
    with open(path, "wb") as file:
        file.truncate(10 << 30)  # sparse: takes no space
    with pytest.raises(LineTooLong) as caught:
        Log(path)
    assert caught.value.path == str(path)
    assert os.stat(path).st_size == 10 << 30


@pytest.mark.parametrize("torn", [b"", b'{"seq":', b"<a line of format 2>\n"])
def test_a_log_of_a_later_format_is_read_but_not_written(path, torn):
    members = (
        b'"type":"log.opened","data":{"format":2,"log_id":"a","epoch":1,"pid":1,"host":"h","new":1}'
    )
    first, head = codec.seal(0, codec.Stamper()(BASE_NS), members, codec.GENESIS)
    second, _ = codec.seal(1, codec.Stamper()(BASE_NS), codec.encode_members(note(5)), head)
    put(path, first + second + torn)
    with pytest.raises(LogTooNew, match="has format 2, this version writes 1"):
        Log(path)
    assert content(path) == first + second + torn
    assert not list(path.parent.glob("*.torn-*"))
    rejected: list[Any] = []
    events = [record.event for record in read(path, Noted, rejected=rejected)]
    assert note(5) in events
    assert len(rejected) == torn.count(b"\n")


# --- recovery ------------------------------------------------------------------------------------


def test_a_log_cut_at_any_byte_opens_with_its_whole_lines_and_keeps_the_rest_aside(tmp_path):
    original = small_log(tmp_path / "original.jsonl", batches=1)
    path = tmp_path / "events.jsonl"
    ends = [line.end for line in read_lines(tmp_path / "original.jsonl")]
    for size in range(len(original)):
        put(path, original[:size])
        with Log(path, files=SwiftFiles()) as log:
            recovered = log.recovered
            log.append(note(99))
        whole = sum(1 for end in ends if end <= size + 1)
        assert numbers(path) == [*range(max(0, whole - 1)), 99]
        assert verdict(path) is Verdict.WHOLE
        aside = list(tmp_path.glob("events.jsonl.torn-*"))
        begin = ends[whole - 1] if whole else 0
        if size > begin:
            assert recovered is not None
            assert (recovered.offset, recovered.bytes) == (begin, size - begin)
            assert [content(name) for name in aside] == [original[begin:size]]
            assert recovered.sha256 == hashlib.sha256(original[begin:size]).hexdigest()
            assert recovered.moved_to == aside[0].name == "events.jsonl.torn-1"
            assert types(path)[whole : whole + 2] == ["log.opened", "log.recovered"]
            aside[0].unlink()
        else:
            assert recovered is None
            assert aside == []
            assert "log.recovered" not in types(path)


def test_recovery_of_a_recovery_changes_nothing(path):
    put(path, small_log(path)[:-30])
    with Log(path) as log:
        assert log.recovered is not None
    healed = content(path)
    with Log(path) as log:
        assert log.recovered is None
    assert content(path).startswith(healed)
    assert types(path)[-2:] == ["log.recovered", "log.opened"]
    assert len(list(path.parent.glob("*.torn-*"))) == 1


def test_each_torn_tail_gets_a_file_of_its_own(path):
    for count in (1, 2, 3):
        put(path, small_log(path)[: -20 - count])
        with Log(path) as log:
            assert log.recovered is not None
            assert log.recovered.moved_to == f"events.jsonl.torn-{count}"
    assert len(list(path.parent.glob("*.torn-*"))) == 3


@pytest.mark.parametrize("call", ["open", "write", "sync", "sync_dir", "truncate"])
def test_a_crash_at_any_call_of_a_recovery_is_recovered_from(path, call):
    whole = small_log(path)
    for nth in itertools.count(1):
        put(path, whole[:-30])
        files = FaultyFiles(call, nth, Crash)
        try:
            Log(path, files=files).close()
        except Crash:
            pass
        with Log(path) as log:
            log.append(note(77))
        assert numbers(path) == [0, 1, 2, 3, 4, 77]
        assert verdict(path) is Verdict.WHOLE
        aside = sorted(path.parent.glob("*.torn-*"))
        # The tail is kept once, and once only.
        assert [content(name) for name in aside] == [tail(whole)]
        aside[0].unlink()
        if not files.failed:
            break
    assert nth > 1


def tail(whole: bytes) -> bytes:
    """The last line of a log that lost its last 30 bytes."""
    return whole[whole.rindex(b"\n", 0, -1) + 1 : -30]


@pytest.mark.parametrize("junk", [b"", b"x", b"\0"])
def test_a_last_line_that_misses_only_its_newline_is_kept(path, junk):
    whole = small_log(path)
    put(path, whole[:-1] + junk)
    with Log(path) as log:
        assert log.recovered is None
    assert content(path).startswith(whole)
    assert verdict(path) is Verdict.WHOLE
    assert not list(path.parent.glob("*.torn-*"))


def test_a_tail_of_nuls_longer_than_any_line_is_moved_aside(path):
    whole = small_log(path)
    put(path, whole + bytes(17 << 20))
    with Log(path) as log:
        assert log.recovered is not None
        assert (log.recovered.offset, log.recovered.bytes) == (len(whole), 17 << 20)
    assert content(path).startswith(whole)
    assert os.stat(f"{path}.torn-1").st_size == 17 << 20


def test_an_empty_file_that_a_crash_left_becomes_a_log(path):
    put(path, b"")
    with Log(path) as log:
        assert (log.epoch, log.recovered) == (1, None)
    assert types(path) == ["log.opened"]


# --- logs of other tools -------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_log_of_another_tool_is_continued_by_saying_what_was_there(path, end):
    put(path, V1[:-1] + end)
    with Log(path) as log:
        assert (log.epoch, log.next_seq, log.recovered) == (1, 3, None)
        log.append(note(1))
    assert content(path).startswith(V1)
    opened = lines(path)[2]
    assert (opened["seq"], opened["prev"]) == (2, codec.GENESIS)
    assert opened["data"]["prior_bytes"] == len(V1)
    assert opened["data"]["prior_lines"] == 2
    assert opened["data"]["prior_sha256"] == hashlib.sha256(V1).hexdigest()
    with Log(path) as log:
        assert log.epoch == 2
    assert "prior_bytes" not in lines(path)[-1]["data"]
    put(path, content(path).replace(b"older", b"elder"))
    with pytest.raises(LogDamaged, match="not those that were sealed over"):
        Log(path)


def test_of_another_tool_s_log_no_more_than_the_cut_last_line_is_moved(path):
    put(path, V1 + b"not json at all\n\n" + b'{"type":"cut')
    with Log(path) as log:
        assert log.recovered is not None
        assert log.recovered.bytes == 12
    assert content(path).startswith(V1 + b"not json at all\n\n{")
    assert content(f"{path}.torn-1") == b'{"type":"cut'
    assert verdict(path) is Verdict.WHOLE
    assert types_of_objects(path) == ["old", "older", "log.opened", "log.recovered"]


def types_of_objects(path) -> list[str]:
    return [line["type"] for line in read_dicts(path, rejected=[])]
