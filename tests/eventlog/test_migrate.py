"""Migration in place: nothing lost, done once, and whole wherever it stops."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import (
    Lock,
    Log,
    LogDamaged,
    LogLocked,
    LogNotFound,
    LogWriteFailed,
    MigrationRefused,
    read_dicts,
)
from eventlog.find import find_logs
from eventlog.fs import Files
from eventlog.migrate import migrate, migrate_all

DATA = Path(__file__).parent.parent / "data"
OLD = (
    b'{"timestamp":"2025-10-22T10:00:00","type":"a","data":{"n":1.0}}\n'
    b"\n"
    b'{"ts":"2025-10-22T10:00:01Z","type":"b","n":2}\r\n'
    b'{"ts":"2025-10-22T10:00:02Z","type":"c","data":{}}\n'
)
NEW = (
    b'{"ts":"2025-10-22T10:00:00Z","type":"a","data":{"n":1.0}}\n'
    b"\n"
    b'{"ts":"2025-10-22T10:00:01Z","type":"b","data":{"n":2}}\r\n'
    b'{"ts":"2025-10-22T10:00:02Z","type":"c","data":{}}\n'
)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(OLD)
    return path


def kept(path):
    return Path(f"{path}.v1")


def fold(path):
    """Every event that a reader gets, in today's form."""
    rejected = []
    events = [json.dumps(event) for event in read_dicts(path, rejected=rejected)]
    return events, [(line.seq, line.reason) for line in rejected]


# --- what it does -----------------------------------------------------------------------------


def test_a_log_is_brought_up_to_date_and_the_old_one_is_kept(log):
    report = migrate(log)
    assert log.read_bytes() == NEW
    assert kept(log).read_bytes() == OLD
    assert report.state == "migrated"
    assert (report.lines, report.migrated, report.already_new, report.blank) == (4, 2, 1, 1)
    assert (report.left, report.torn_bytes) == (0, 0)
    assert (report.bytes_before, report.bytes_after) == (len(OLD), len(NEW))
    assert report.backup == str(kept(log))


def test_a_second_time_does_nothing(log):
    migrate(log)
    before = os.stat(log).st_ino
    report = migrate(log)
    assert (report.state, report.migrated, report.already_new) == ("unchanged", 0, 3)
    assert os.stat(log).st_ino == before
    assert kept(log).read_bytes() == OLD


def test_a_dry_run_counts_and_touches_nothing(log):
    report = migrate(log, dry_run=True)
    assert (report.state, report.migrated) == ("would migrate", 2)
    assert (report.bytes_before, report.bytes_after) == (len(OLD), len(NEW))
    assert os.listdir(log.parent) == ["events.jsonl"]
    assert log.read_bytes() == OLD


def test_without_backup_none_is_made(log):
    assert migrate(log, backup=False).backup == ""
    assert not kept(log).exists()
    assert log.read_bytes() == NEW


def test_a_zone_counts_for_stamps_without_offset_only(log):
    migrate(log, tz=timezone(timedelta(hours=2)))
    assert [event["ts"] for event in read_dicts(log)] == [
        "2025-10-22T08:00:00Z",
        "2025-10-22T10:00:01Z",
        "2025-10-22T10:00:02Z",
    ]


def test_lines_that_cannot_be_read_stay_and_are_named(log):
    bad = b'not json\n{"timestamp":"x"}\n{"a":NaN}\n'
    log.write_bytes(OLD + bad)
    report = migrate(log)
    assert log.read_bytes() == NEW + bad
    assert report.left == 3
    assert [line.line for line in report.named] == [5, 6, 7]
    assert "NaN" in report.named[2].reason


@pytest.mark.parametrize("tail", [b'{"timest', b"\0" * 600, b"x"])
def test_a_torn_tail_stays_as_it_is(log, tail):
    log.write_bytes(OLD + tail)
    report = migrate(log)
    assert log.read_bytes() == NEW + tail
    assert (report.torn_bytes, report.lines, report.left) == (len(tail), 4, 0)


def test_a_last_line_that_lacks_only_its_newline_is_migrated_and_gets_none(log):
    log.write_bytes(OLD[:-1] + b"\n" + OLD.split(b"\n")[0])
    report = migrate(log)
    assert log.read_bytes() == NEW + NEW.split(b"\n")[0]
    assert (report.lines, report.torn_bytes) == (5, 0)


def test_the_file_keeps_its_permissions(log):
    log.chmod(0o640)
    migrate(log)
    assert log.stat().st_mode & 0o777 == 0o640


def test_an_empty_log_is_left_alone(log):
    log.write_bytes(b"")
    assert migrate(log).state == "unchanged"


def test_many_lines_are_streamed_in_blocks(log):
    log.write_bytes(OLD * 20_000)
    report = migrate(log)
    assert log.read_bytes() == NEW * 20_000
    assert report.migrated == 40_000


# --- what it refuses --------------------------------------------------------------------------


def test_a_sealed_log_has_nothing_to_do(tmp_path):
    path = tmp_path / "events.jsonl"
    with Log(path) as log:
        log.append({"type": "a", "timestamp": "2025-10-22T10:00:00"})
    before = path.read_bytes()
    report = migrate(path)
    assert (report.state, report.lines, report.already_new) == ("sealed", 2, 2)
    assert path.read_bytes() == before


def test_old_lines_that_a_later_leg_sealed_are_refused(log):
    with Log(log):
        pass
    before = log.read_bytes()
    for dry_run in (True, False):
        with pytest.raises(MigrationRefused, match="sealed"):
            migrate(log, dry_run=dry_run)
    assert log.read_bytes() == before


def test_new_lines_that_a_later_leg_sealed_need_nothing(log):
    log.write_bytes(NEW)
    with Log(log):
        pass
    assert migrate(log).state == "sealed"


def test_a_damaged_log_is_refused(log):
    with Log(log):
        pass
    log.write_bytes(log.read_bytes().replace(b'"n":1.0', b'"n":1.1'))
    with pytest.raises(LogDamaged):
        migrate(log)


def test_a_log_that_is_being_written_is_refused(log):
    with Lock(f"{log}.lock", started="now"), pytest.raises(LogLocked):
        migrate(log)
    assert log.read_bytes() == OLD


def test_the_lock_of_a_job_folder_is_honoured(log):
    lock = log.parent / ".lock"
    with Lock(str(lock), started="now"), pytest.raises(LogLocked):
        migrate(log)


def test_a_kept_log_is_never_overwritten(log):
    kept(log).write_bytes(b"precious\n")
    with pytest.raises(MigrationRefused, match="can't be kept"):
        migrate(log)
    assert kept(log).read_bytes() == b"precious\n"
    assert log.read_bytes() == OLD
    assert not Path(f"{log}.migrating").exists()


def test_a_kept_log_of_the_same_bytes_is_fine(log):
    kept(log).write_bytes(OLD)
    assert migrate(log).state == "migrated"
    assert kept(log).read_bytes() == OLD


@pytest.mark.parametrize("name", ["events.jsonl.v1", "events.jsonl.torn-1"])
def test_what_was_set_aside_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(OLD)
    with pytest.raises(MigrationRefused, match="set aside"):
        migrate(tmp_path / name)


def test_a_link_is_refused(log):
    link = log.parent / "link.jsonl"
    link.symlink_to(log)
    with pytest.raises(MigrationRefused, match="plain file"):
        migrate(link)


def test_a_missing_log_is_told_and_makes_no_lock(tmp_path):
    with pytest.raises(LogNotFound):
        migrate(tmp_path / "events.jsonl")
    assert os.listdir(tmp_path) == []


def test_a_log_that_grew_meanwhile_is_refused(log):
    class Appending(Files):
        def link(self, old, new):
            raise AssertionError("too late")

        def identity_of(self, path):
            with open(log, "ab") as file:
                file.write(b'{"timestamp":"2025-10-22T10:00:09","type":"late"}\n')
            return super().identity_of(path)

    with pytest.raises(MigrationRefused, match="changed while"):
        migrate(log, files=Appending())
    assert log.read_bytes().startswith(OLD)
    assert b"late" in log.read_bytes()


# --- failures and crashes ---------------------------------------------------------------------


class Crash(BaseException):
    pass


class Failing(Files):
    """Fail the call of this number: once, or this and all after it, as a crash does."""

    calls = ("open", "write", "sync", "sync_dir", "rename", "link", "unlink", "identity_of")

    def __init__(self, at, error, *, lasting):
        self.count = 0
        self.error = error
        for name in self.calls:
            setattr(self, name, self.wrap(getattr(super(), name), at, lasting))

    def wrap(self, real, at, lasting):
        def call(*args, **more):
            self.count += 1
            if self.count == at or (lasting and self.count > at):
                raise self.error
            return real(*args, **more)

        return call


def calls_of_a_whole_run(tmp_path):
    path = tmp_path / "count" / "events.jsonl"
    path.parent.mkdir()
    path.write_bytes(OLD)
    files = Failing(0, None, lasting=False)
    migrate(path, files=files)
    return files.count


def test_whatever_call_fails_the_log_is_whole(tmp_path):
    total = calls_of_a_whole_run(tmp_path)
    assert total > 10
    for at in range(1, total + 1):
        path = tmp_path / str(at) / "events.jsonl"
        path.parent.mkdir()
        path.write_bytes(OLD)
        error = OSError(28, "No space left on device")
        try:
            migrate(path, files=Failing(at, error, lasting=False))
        except LogWriteFailed as failed:
            assert failed.path.startswith(str(path))  # noqa: PT017 - some failures are harmless
        assert path.read_bytes() in (OLD, NEW)
        if path.read_bytes() == OLD:
            assert not kept(path).exists() or kept(path).samefile(path)
        else:
            assert kept(path).read_bytes() == OLD
        assert migrate(path).left == 0
        assert path.read_bytes() == NEW
        assert kept(path).read_bytes() == OLD
        assert not Path(f"{path}.migrating").exists()


def test_wherever_a_crash_comes_the_log_is_whole_and_a_second_run_finishes(tmp_path):
    total = calls_of_a_whole_run(tmp_path)
    for at in range(1, total + 1):
        path = tmp_path / str(at) / "events.jsonl"
        path.parent.mkdir()
        path.write_bytes(OLD)
        with pytest.raises(Crash):
            migrate(path, files=Failing(at, Crash(), lasting=True))
        assert path.read_bytes() in (OLD, NEW)
        migrate(path)
        assert path.read_bytes() == NEW
        assert kept(path).read_bytes() == OLD


def test_the_new_log_is_on_the_disk_before_it_takes_the_old_ones_place(log):
    calls = []

    class Recording(Files):
        def sync(self, fd):
            calls.append("sync")
            super().sync(fd)

        def sync_dir(self, path):
            calls.append("sync_dir")
            super().sync_dir(path)

        def link(self, old, new):
            calls.append("link")
            super().link(old, new)

        def rename(self, old, new):
            calls.append("rename")
            super().rename(old, new)

    migrate(log, files=Recording())
    assert calls == ["sync", "link", "sync_dir", "rename", "sync_dir"]


def test_without_hard_links_the_old_log_is_copied(log):
    class NoLinks(Files):
        def link(self, old, new):
            if os.path.lexists(new):
                raise FileExistsError(17, "File exists")
            raise PermissionError(1, "Operation not permitted")

    migrate(log, files=NoLinks())
    assert log.read_bytes() == NEW
    assert kept(log).read_bytes() == OLD
    assert sorted(os.listdir(log.parent)) == [
        "events.jsonl",
        "events.jsonl.lock",
        "events.jsonl.v1",
    ]


# --- many logs --------------------------------------------------------------------------------


def test_folders_are_searched_and_what_was_set_aside_is_not(tmp_path):
    for name in ("job_1", "job_2", "deep/er"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "events.jsonl").write_bytes(OLD)
    (tmp_path / "job_1" / "outputs").mkdir()
    (tmp_path / "job_1" / "outputs" / "events.jsonl").write_bytes(OLD)
    (tmp_path / "job_2" / "events.jsonl.torn-1").write_bytes(OLD)
    (tmp_path / "catalog.jsonl").write_bytes(OLD)
    (tmp_path / "linked").symlink_to(tmp_path / "job_1")
    done = [report.path for report, error in migrate_all([tmp_path]) if not error]
    assert done == [str(tmp_path / name / "events.jsonl") for name in ("deep/er", "job_1", "job_2")]
    assert (tmp_path / "job_1" / "outputs" / "events.jsonl").read_bytes() == OLD
    assert (tmp_path / "catalog.jsonl").read_bytes() == OLD
    again = [report.state for report, _ in migrate_all([tmp_path])]
    assert again == ["unchanged"] * 3


def test_one_log_that_fails_does_not_stop_the_rest(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.jsonl").write_bytes(OLD)
    with Lock(str(tmp_path / "a" / "events.jsonl.lock"), started="now"):
        (first, error), (second, none) = migrate_all([tmp_path])
    assert first.state == "failed"
    assert isinstance(error, LogLocked)
    assert (second.state, none) == ("migrated", None)


# --- proof by projection ----------------------------------------------------------------------


@pytest.mark.parametrize("source", find_logs(DATA))
def test_the_fold_over_each_old_log_is_the_same_before_and_after(source, tmp_path):
    path = tmp_path / "events.jsonl"
    shutil.copyfile(source, path)
    before = fold(path)
    report = migrate(path)
    assert fold(path) == before
    assert report.left == len(before[1])
    assert report.lines == report.migrated + report.already_new + report.blank + report.left


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b"garbage", b'{"a":1}', b'{"ts":"2025-10-22T10:00:00Z","data":{}}']),
        st.builds(
            lambda key, stamp, rest: json.dumps({key: stamp, **rest}).encode(),
            st.sampled_from(["ts", "timestamp"]),
            st.sampled_from(["2025-10-22T10:00:00", "2025-10-22T10:00:00.25+05:30", "never"]),
            st.dictionaries(
                st.sampled_from(["type", "step", "data", "a", "b"]),
                st.one_of(st.none(), st.integers(), st.text(), st.floats(allow_nan=False)),
                max_size=4,
            ),
        ),
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(lines=LINES, torn=st.sampled_from([b"", b'{"ts":']))
def test_the_fold_over_any_log_is_the_same_before_and_after(tmp_path_factory, lines, torn):
    path = tmp_path_factory.mktemp("fold") / "events.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + torn)
    before = fold(path)
    migrate(path)
    assert fold(path) == before
    settled = path.read_bytes()
    migrate(path)
    assert path.read_bytes() == settled
