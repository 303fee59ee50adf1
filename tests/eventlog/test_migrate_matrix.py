"""Awkward lines, each through the whole migration: kept to the byte but for the change, or left."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import LogWriteFailed
from eventlog.find import find_logs
from eventlog.migrate import migrate, migrate_all

S = b'"2025-10-22T10:00:00Z"'
N = b'"timestamp":"2025-10-22T10:00:00"'
T = b'"ts":"2025-10-22T10:00:00Z"'
BOM = b"\xef\xbb\xbf"

CHANGED = {
    "plain": (b"{%b}" % N, b"{%b}" % T),
    "1.0 and 1e2": (b'{%b,"data":[1.0,1e2,1E+02]}' % N, b'{%b,"data":[1.0,1e2,1E+02]}' % T),
    "minus zero": (b'{%b,"data":-0.0}' % N, b'{%b,"data":-0.0}' % T),
    "forty digits": (b'{%b,"n":%b}' % (N, b"9" * 40), b'{%b,"data":{"n":%b}}' % (T, b"9" * 40)),
    "1e400": (b'{%b,"n":1e400}' % N, b'{%b,"data":{"n":1e400}}' % T),
    "raw unicode": b'{"ts":%b,"a":"%b"}' % (S, "é🌱\u2028".encode()),
    "escaped unicode": b'{"ts":%b,"a":"\\u00e9\\/\\ud83c\\udf31"}' % S,
    "a lone surrogate": b'{"ts":%b,"a":"\\ud800"}' % S,
    "a NUL, escaped": b'{"ts":%b,"a":"\\u0000"}' % S,
    "DEL": b'{"ts":%b,"a":"\x7f"}' % S,
    "a key twice in data": (b'{%b,"data":{"a":1,"a":2}}' % N, b'{%b,"data":{"a":1,"a":2}}' % T),
    "a key twice in the payload": b'{"ts":%b,"a":1,"a":2}' % S,
    "a nested timestamp": b'{"ts":%b,"a":{"timestamp":"2025-10-22T10:00:00"}}' % S,
    "a quoted timestamp": b'{"ts":%b,"a":"{\\"timestamp\\":\\"x\\"}"}' % S,
    "timestamp as a value": b'{"ts":%b,"a":"timestamp"}' % S,
    "an empty key": b'{"ts":%b,"":1}' % S,
    "a key with a quote": b'{"ts":%b,"a\\":":1}' % S,
    "a key with spaces": b'{"ts":%b," ts ":1}' % S,
    "a key in capitals": b'{"ts":%b,"Timestamp":1,"DATA":2}' % S,
    "data with spaces": (b'{ %b , "data" : { } }' % N, b'{ %b , "data" : { } }' % T),
    "tabs": (b"{\t%b\t}" % N, b"{\t%b\t}" % T),
    "CRLF": (b"{%b}\r" % N, b"{%b}\r" % T),
    "CRLF and a payload": (b'{%b,"a":1}\r' % N, b'{%b,"data":{"a":1}}\r' % T),
    "a byte order mark": (BOM + b"{%b}" % N, BOM + b"{%b}" % T),
    "spaces around": (b"  {%b}  " % N, b"  {%b}  " % T),
    "an offset": (
        b'{"timestamp":"2025-10-22T12:00:00.5+02:00"}',
        b'{"ts":"2025-10-22T10:00:00.5Z"}',
    ),
    "an offset without colon": (b'{"timestamp":"2025-10-22T05:30:00-0430"}', b"{%b}" % T),
    "an offset over midnight": (
        b'{"ts":"2025-10-22T00:30:00+01:00"}',
        b'{"ts":"2025-10-21T23:30:00Z"}',
    ),
    "Z already": (b'{"timestamp":"2025-10-22T10:00:00Z"}', b"{%b}" % T),
    "a small z": (b'{"timestamp":"2025-10-22t10:00:00z"}', b"{%b}" % T),
    "a space for T": (b'{"timestamp":"2025-10-22 10:00:00"}', b"{%b}" % T),
    "a comma for the dot": (
        b'{"timestamp":"2025-10-22T10:00:00,250"}',
        b'{"ts":"2025-10-22T10:00:00.250Z"}',
    ),
    "nine decimals": (
        b'{"timestamp":"2025-10-22T10:00:00.123456789"}',
        b'{"ts":"2025-10-22T10:00:00.123456789Z"}',
    ),
    "a leap day": (b'{"timestamp":"2024-02-29T10:00:00"}', b'{"ts":"2024-02-29T10:00:00Z"}'),
    "data that is null": (b'{%b,"data":null,"a":1}' % N, b'{%b,"data":null,"a":1}' % T),
    "step that is null": (
        b'{%b,"step":null,"a":1}' % N,
        b'{%b,"step":null,"data":{"a":1}}' % T,
    ),
    "seq and sum of another tool": b'{"ts":%b,"seq":3,"sum":"x"}' % S,
    "a long value": b'{"ts":%b,"a":"%b"}' % (S, b"x" * 200_000),
    "a hundred levels": b'{"ts":%b,"a":%b}' % (S, b"[" * 100 + b"]" * 100),
}
"""A line and what it becomes; where one is given, its payload of `ts` and one more moves."""

SAME = {
    "v2.1": b'{%b,"data":{}}' % T,
    "v2.1 with more": b'{"x":1,%b,"data":{},"y":[]}' % T,
    "v2.1 with spaces and CR": b' { "ts" : %b , "data" : { } } \r' % S,
    "without payload": b"{%b}" % T,
    "blank": b"",
    "spaces": b"  \t ",
    "a lone CR": b"\r",
}

LEFT = {
    "both keys": (b"{%b,%b}" % (N, T), "both"),
    "no stamp": (b'{"a":1}', "neither"),
    "an empty object": (b"{}", "neither"),
    "a number for a stamp": (b'{"timestamp":1761127200}', "no time"),
    "no such day": (b'{"timestamp":"2025-02-30T10:00:00"}', "no time"),
    "second 60": (b'{"timestamp":"2025-10-22T10:00:60"}', "no time"),
    "timestamp twice": (b"{%b,%b}" % (N, N), "`timestamp` twice"),
    "type twice": (b'{%b,"type":"a","type":"b"}' % T, "`type` twice"),
    "data twice": (b'{%b,"data":{},"data":{}}' % T, "`data` twice"),
    "data twice, once escaped": (b'{%b,"data":{},"d\\u0061ta":{}}' % T, "`data` twice"),
    "NaN": (b'{%b,"a":NaN}' % N, "NaN"),
    "Infinity": (b'{%b,"data":{"a":-Infinity}}' % N, "Infinity"),
    "a raw control character": (b'{%b,"a":"\x01"}' % N, "no JSON object"),
    "not UTF-8": (b'{%b,"a":"\xff"}' % N, "not UTF-8"),
    "an encoded surrogate": (b'{%b,"a":"\xed\xa0\x80"}' % N, "not UTF-8"),
    "UTF-16": ('{"ts":1}'.encode("utf-16"), "not UTF-8"),
    "single quotes": (b"{'timestamp':'x'}", "no JSON object"),
    "a comma too many": (b"{%b,}" % T, "no JSON object"),
    "two glued": (b"{%b}{%b}" % (T, T), "no JSON object"),
    "cut off": (b'{%b,"a":' % N, "no JSON object"),
    "an array": (b"[{%b}]" % N, "no JSON object"),
    "text": (b"INFO job started", "no JSON object"),
    "NULs": (b"\0" * 700, "no JSON object"),
    "too deep": (b'{"a":' + b"[" * 100_000, "nests too deep"),
}


def becomes(name):
    """Return a line, and what it is to become."""
    given = CHANGED[name]
    if isinstance(given, tuple):
        return given
    payload = given[len(b'{"ts":%b,' % S) : -1]
    return given, b'{"ts":%b,"data":{%b}}' % (S, payload)


def migrated(path, *lines, tail=b""):
    path.write_bytes(b"".join(line + b"\n" for line in lines) + tail)
    report = migrate(path)
    return report, path.read_bytes()


@pytest.mark.parametrize("name", CHANGED)
def test_a_line_is_kept_to_the_byte_but_for_the_change(tmp_path, name):
    old, new = becomes(name)
    report, found = migrated(tmp_path / "events.jsonl", old)
    assert found == new + b"\n"
    assert (report.migrated, report.left) == (1, 0)
    assert migrate(tmp_path / "events.jsonl").state == "unchanged"


@pytest.mark.parametrize("name", SAME)
def test_a_line_that_needs_nothing_is_not_touched(tmp_path, name):
    report, found = migrated(tmp_path / "events.jsonl", SAME[name])
    assert found == SAME[name] + b"\n"
    assert (report.state, report.migrated, report.left) == ("unchanged", 0, 0)


@pytest.mark.parametrize("name", LEFT)
def test_a_line_that_cannot_be_decided_is_left_and_reported(tmp_path, name):
    line, reason = LEFT[name]
    report, found = migrated(tmp_path / "events.jsonl", b"{%b}" % N, line)
    assert found == b"{%b}\n%b\n" % (T, line)
    assert (report.migrated, report.left) == (1, 1)
    assert report.named[0].line == 2
    assert reason in report.named[0].reason


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from([*CHANGED, *SAME, *LEFT]), max_size=12),
    tail=st.sampled_from([b"", b'{"timest', b"\0" * 600, b"{%b}" % N]),
)
def test_lines_of_all_kinds_do_not_disturb_each_other(tmp_path_factory, names, tail):
    old, new = [], []
    for name in names:
        if name in CHANGED:
            before, after = becomes(name)
        else:
            before = after = SAME[name] if name in SAME else LEFT[name][0]
        old.append(before)
        new.append(after)
    path = tmp_path_factory.mktemp("mixed") / "events.jsonl"
    report, found = migrated(path, *old, tail=tail)
    whole = b"{%b}" % T if tail == b"{%b}" % N else tail
    assert found == b"".join(line + b"\n" for line in new) + whole
    assert report.left == sum(name in LEFT for name in names)
    left = [number for number, name in enumerate(names, 1) if name in LEFT]
    assert [line.line for line in report.named] == left
    assert migrate(path).migrated == 0


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_migrated_at_most_once_and_lose_no_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "events.jsonl"
    path.write_bytes(content)
    report = migrate(path)
    once = path.read_bytes()
    assert once.count(b"\n") == content.count(b"\n")
    assert (report.bytes_before, report.bytes_after) == (len(content), len(once))
    again = migrate(path)
    assert (again.migrated, path.read_bytes()) == (0, once)
    assert report.lines == report.migrated + report.already_new + report.left + report.blank


# --- files and folders ------------------------------------------------------------------------

OLD = b'{%b,"a":1}\n' % N
NEW = b'{%b,"data":{"a":1}}\n' % T

needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "job_1" / "events.jsonl"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


def test_a_link_to_a_folder_is_followed_only_where_it_is_named(tmp_path, log):
    (tmp_path / "link").symlink_to(log.parent)
    assert find_logs(tmp_path) == [str(log)]
    assert find_logs(tmp_path / "link") == [str(tmp_path / "link" / "events.jsonl")]
    (report,) = [report for report, _ in migrate_all([tmp_path / "link"])]
    assert (report.state, log.read_bytes()) == ("migrated", NEW)


def test_another_name_of_the_old_log_keeps_the_old_bytes(tmp_path, log):
    snapshot = tmp_path / "snapshot.jsonl"
    os.link(log, snapshot)
    migrate(log)
    assert (log.read_bytes(), snapshot.read_bytes()) == (NEW, OLD)
    assert Path(f"{log}.v1").samefile(snapshot)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400])
def test_permissions_go_over_to_the_new_log_and_the_old_one_keeps_its_own(log, mode):
    log.chmod(mode)
    migrate(log)
    for path in (log, Path(f"{log}.v1")):
        assert stat.S_IMODE(path.stat().st_mode) == mode


@needs_user
def test_a_folder_that_cannot_be_written_is_told_and_the_log_stays(log):
    log.parent.chmod(0o500)
    try:
        with pytest.raises(LogWriteFailed, match="lock file"):
            migrate(log)
    finally:
        log.parent.chmod(0o700)
    assert log.read_bytes() == OLD
    assert os.listdir(log.parent) == ["events.jsonl"]


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path, kind):
    path = tmp_path / "events.jsonl"
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    from eventlog import MigrationRefused

    with pytest.raises(MigrationRefused, match="no plain file"):
        migrate(path)


FULL = """
    import resource, signal, sys
    from eventlog import LogWriteFailed
    from eventlog.migrate import migrate

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        migrate(sys.argv[1])
    except LogWriteFailed as error:
        print(error.message)
"""


def test_when_the_new_log_finds_no_room_the_old_one_stays_and_nothing_is_left_over(log):
    log.write_bytes(OLD * 10_000)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(log)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "the log can't be migrated: File too large [EFBIG]\n"
    assert log.read_bytes() == OLD * 10_000
    assert set(os.listdir(log.parent)) == {"events.jsonl", "events.jsonl.lock"}


def test_nothing_is_written_where_nothing_changes(log):
    log.write_bytes(NEW * 1000)
    before = log.stat()
    report = migrate(log)
    assert (report.state, report.already_new) == ("unchanged", 1000)
    assert log.stat() == before
    assert set(os.listdir(log.parent)) == {"events.jsonl", "events.jsonl.lock"}


def test_what_stands_before_the_first_change_is_copied(log):
    log.write_bytes(NEW * 5000 + OLD + NEW)
    assert migrate(log).migrated == 1
    assert log.read_bytes() == NEW * 5002


def test_a_seal_in_the_middle_of_a_large_log_is_found(log):
    from eventlog import Log, LogDamaged

    with Log(log):
        pass
    sealed = log.read_bytes()
    log.write_bytes(NEW * 5000 + sealed + NEW * 5000)
    with pytest.raises(LogDamaged):
        migrate(log)
    with pytest.raises(LogDamaged):
        migrate(log, dry_run=True)
    log.write_bytes(OLD * 5000 + sealed + OLD * 5000)
    before = log.read_bytes()
    with pytest.raises(LogDamaged):
        migrate(log)
    assert log.read_bytes() == before
    assert not Path(f"{log}.migrating").exists()


def test_the_words_of_a_seal_in_a_payload_do_not_stop_a_migration(log):
    words = b'{%b,"type":"note","a":"log.opened"}\n' % N
    log.write_bytes(OLD * 3000 + words + b'{"type":"log.opened2",%b}\n' % N + OLD * 3000)
    assert migrate(log).migrated == 6002


KILLED = """
    import os, signal, sys
    from eventlog.fs import Files
    from eventlog.migrate import migrate

    class Dying(Files):
        left = int(sys.argv[2])

        def __getattribute__(self, name):
            if name in {"open", "write", "sync", "sync_dir", "rename", "link", "unlink"}:
                Dying.left -= 1
                if Dying.left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return super().__getattribute__(name)

    migrate(sys.argv[1], files=Dying())
    print("done")
"""


def test_kill_9_before_any_call_leaves_the_old_log_or_the_new_one(tmp_path):
    seen = set()
    for nth in range(1, 40):
        path = tmp_path / str(nth) / "events.jsonl"
        path.parent.mkdir()
        path.write_bytes(OLD * 10)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(nth)],
            capture_output=True,
            text=True,
            check=False,
        )
        content = path.read_bytes()
        assert content in (OLD * 10, NEW * 10)
        seen.add(content)
        assert migrate(path).left == 0  # the lock died with its holder
        assert path.read_bytes() == NEW * 10
        assert Path(f"{path}.v1").read_bytes() == OLD * 10
        assert not Path(f"{path}.migrating").exists()
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert done.stdout == "done\n"
    assert seen == {OLD * 10, NEW * 10}
