"""The index is a cache: whatever happens to the logs or to it, answers are those of the logs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog import Log
from eventlog.check import repair, salvage
from eventlog.lock import Lock
from eventlog.migrate import migrate
from eventlog.query import Database
from eventlog.stock import Kept

HOT = {"n": "BIGINT", "text": "VARCHAR"}
ROWS = "select file, seq, ts, type, job_id, data, n, text, extra from events order by file, seq"
STATES = "select * from logs order by file"


@pytest.fixture(autouse=True)
def keep_everything(monkeypatch):
    """Small logs are kept too, and stamps of files are trusted at once: tests change them."""
    monkeypatch.setattr("eventlog.stock.SMALL", 0)
    monkeypatch.setattr("eventlog.manifest._SETTLED_NS", -(1 << 62))


class World:
    """A folder of logs with its index."""

    def __init__(self, root):
        self.root = root
        self.index = root / ".index"
        self.kept = Kept(str(self.index), str(root))
        self._tick = 1_000_000_000_000_000_000

    def path(self, name):
        (self.root / name).mkdir(exist_ok=True)
        return self.root / name / "events.jsonl"

    def append(self, name, count, kind="x"):
        with Log(self.path(name), fields={"job_id": name}) as log:
            log.append(*({"type": kind, "data": {"n": n, "text": kind}} for n in range(count)))
        self.touch(name)

    def plain(self, name, *lines, mode="ab"):
        with open(self.path(name), mode) as file:
            file.writelines(lines)
        self.touch(name)

    def touch(self, name):
        """Give the file a stamp that it never had."""
        self._tick += 1_000_000_000
        os.utime(self.path(name), ns=(self._tick, self._tick))

    def ask(self, target=None, sql=ROWS, kept=True):
        """Return rows and states, and how many bytes had to be read."""
        where = self.kept if kept else None
        with Database([target or self.root], kept=where, hot=HOT) as database:
            found = database.query(sql).rows, database.query(STATES).rows, database.rejected
            return found, database.read_bytes

    def agree(self, target=None):
        """Return the bytes that a query had to read, having compared it with one of the logs."""
        found, read = self.ask(target)
        assert found == self.ask(target, kept=False)[0]
        return read

    def size(self, name):
        return self.path(name).stat().st_size

    def segments(self):
        return sorted(path.name for path in self.index.glob("*.parquet"))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def line(n):
    return b'{"ts":"2025-10-22T10:00:00Z","type":"y","data":{"n":%d}}\n' % n


# --- only what is new -------------------------------------------------------------------------


def test_a_second_query_reads_nothing_and_a_third_only_what_is_new(world):
    world.append("a", 50)
    world.append("b", 50)
    assert world.agree() == world.size("a") + world.size("b")
    assert world.agree() == 0
    before = world.size("a")
    world.append("a", 3)
    assert world.agree() == world.size("a") - before
    assert world.agree() == 0


def test_one_log_of_many_is_asked_for_and_read_alone(world):
    world.append("a", 5)
    world.append("b", 7)
    assert world.agree(world.path("b")) == world.size("b")
    assert world.agree() == world.size("a")
    assert world.agree(world.path("a")) == world.agree(world.path("b")) == 0


def test_small_logs_leave_no_index_behind(world, monkeypatch):
    monkeypatch.setattr("eventlog.stock.SMALL", 1 << 20)
    world.append("a", 5)
    world.agree()
    assert not world.index.exists()


def test_growth_below_the_limit_is_read_again_and_not_written(world, monkeypatch):
    world.append("a", 5)
    world.agree()
    monkeypatch.setattr("eventlog.stock.SMALL", world.size("a") - 1)
    kept = world.segments()
    before = world.size("a")
    world.append("a", 1)
    grown = world.size("a") - before
    assert (world.agree(), world.agree()) == (grown, grown)
    assert world.segments() == kept


def test_segments_are_merged_so_that_there_are_never_many(world):
    for number in range(6):
        world.append("a", 10)
        assert world.agree() > 0
        assert len(world.segments()) <= 3, number
    assert world.agree() == 0


def test_a_folder_named_in_another_way_is_the_same_index(world, monkeypatch):
    world.append("a", 5)
    world.agree()
    monkeypatch.chdir(world.root.parent)
    assert world.agree(os.path.join(os.path.relpath(world.root), "a")) == 0


def test_a_log_outside_of_the_index_is_read_each_time(world, tmp_path_factory):
    world.append("a", 5)
    other = World(tmp_path_factory.mktemp("other"))
    other.append("c", 6)
    for _ in range(2):
        with Database([world.root, other.root], kept=world.kept, hot=HOT) as database:
            files = database.query("select file, count(*) from events group by all").rows
            read = database.read_bytes
    assert sorted(files) == sorted([(str(world.path("a")), 6), (str(other.path("c")), 7)])
    assert read == other.size("c")


# --- never wrong ------------------------------------------------------------------------------


def test_torn_tails_are_never_kept(world):
    world.append("a", 5)
    world.plain("a", b'{"seq":6,"ts":"2025')
    world.agree()
    assert world.ask(sql="select torn from logs")[0][0] == [(19,)]
    repair(str(world.path("a")))
    world.touch("a")
    assert world.agree() > 0
    assert world.ask(sql="select count(*) from events where type = 'log.recovered'")[0][0] == [(1,)]


def test_lines_that_were_taken_back_are_forgotten(world):
    world.append("a", 5)
    size = world.size("a")
    world.append("a", 5, "gone")
    world.agree()
    os.truncate(world.path("a"), size)
    world.touch("a")
    world.append("a", 9, "new")
    assert world.size("a") > size
    world.agree()


def test_a_migrated_log_is_read_anew(world):
    old = b'{"timestamp":"2025-10-22T10:00:00","type":"y","n":%d}\n'
    world.plain("a", *(old % n for n in range(50)))
    world.agree()
    migrate(world.path("a"))
    world.touch("a")
    assert world.agree() == world.size("a")
    assert world.ask(sql="select v1, v2_1 from logs")[0][0] == [(0, 50)]


def test_a_salvaged_log_put_in_place_is_read_anew(world):
    world.append("a", 5)
    world.plain("a", b"junk\n", line(1))
    world.agree()
    salvage(str(world.path("a")))
    os.replace(f"{world.path('a')}.salvaged", world.path("a"))
    world.touch("a")
    assert world.agree() == world.size("a")


def test_an_edit_in_place_is_seen(world):
    world.plain("a", *(line(n) for n in range(10, 99)))
    world.agree()
    raw = world.path("a").read_bytes()
    with open(world.path("a"), "r+b") as file:
        file.write(raw.replace(b'"n":12', b'"n":13'))
    world.touch("a")
    assert world.agree() == len(raw)


def test_a_log_that_was_replaced_by_one_that_is_longer_is_read_anew(world):
    world.append("a", 5)
    world.append("b", 50)
    world.agree()
    shutil.move(world.path("b"), world.path("a"))
    world.touch("a")
    world.agree()


def test_bad_lines_are_named_every_time_and_once(world):
    world.append("a", 2)
    world.plain("a", b"junk\n", b'{"x":NaN}\n', b"\n")
    assert world.agree() > 0
    assert world.agree() == 0
    world.plain("a", b"more junk\n")
    found, _ = world.ask()
    assert [one.seq for one in found[2][0]] == [3, 4, 6]
    assert found[2][1] == 3
    world.agree()


def test_the_index_never_holds_more_than_the_logs(world):
    world.append("a", 5, "secret-a")
    world.append("b", 5, "secret-b")
    world.agree()
    shutil.rmtree(world.root / "a")
    world.agree()
    held = b"".join(path.read_bytes() for path in world.index.iterdir())
    assert b"secret-a" not in held
    (segment,) = world.segments()
    import duckdb

    rows = duckdb.sql(f"select distinct text from '{world.index / segment}'").fetchall()
    assert set(rows) == {("secret-b",), (None,)}


def test_an_index_of_other_columns_is_not_used(world):
    world.append("a", 5)
    world.agree()
    with Database([world.root], kept=world.kept, hot={"n": "DOUBLE"}) as database:
        assert database.query("select max(n) from events").rows == [(4.0,)]
        assert database.read_bytes == world.size("a")


def change(world, what, amount):
    """Do one thing that happens to logs, or to an index."""
    name = "ab"[amount % 2]
    path = world.path(name)
    match what:
        case "append":
            try:
                world.append(name, amount)
            except Exception:  # noqa: BLE001 - damaged by an earlier change
                world.plain(name, line(amount))
        case "plain":
            world.plain(name, line(amount), b"\n" * (amount % 3))
        case "tear":
            world.plain(name, line(amount)[: amount % 30])
        case "cut":
            if path.exists():
                os.truncate(path, path.stat().st_size * amount // 40)
                world.touch(name)
        case "replace":
            world.plain("c", *(line(n) for n in range(amount)), mode="wb")
            os.replace(world.path("c"), path)
            world.touch(name)
        case "edit":
            if path.exists() and (raw := path.read_bytes()):
                raw = raw[: amount % len(raw)] + b"#" + raw[amount % len(raw) + 1 :]
                with open(path, "r+b") as file:
                    file.write(raw)
                world.touch(name)
        case "delete":
            path.unlink(missing_ok=True)
        case "spoil":
            for segment in list(world.index.glob("*"))[: 1 + amount % 2]:
                raw = segment.read_bytes()
                at = len(raw) * amount // 40
                segment.write_bytes(raw[:at] + b"garbage" + raw[at + 7 :])
        case "lose":
            for segment in list(world.index.glob("*.parquet"))[:1]:
                segment.unlink()


CHANGES = ["append", "plain", "tear", "cut", "replace", "edit", "delete", "spoil", "lose"]


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(CHANGES), st.integers(1, 39)), min_size=2, max_size=6
    )
)
def test_whatever_happens_the_answer_is_that_of_the_logs(tmp_path_factory, changes):
    world = World(tmp_path_factory.mktemp("world"))
    world.append("a", 9)
    world.append("b", 9)
    world.agree()
    for what, amount in changes:
        change(world, what, amount)
        world.agree()


# --- broken, unwritable, shared ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifest.json", "*.parquet"])
@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "gone", "folder", "zeros"])
def test_a_broken_index_is_made_anew(world, name, damage):
    world.append("a", 30)
    world.agree()
    (path,) = world.index.glob(name)
    raw = path.read_bytes()
    path.unlink()
    match damage:
        case "garbage":
            path.write_bytes(os.urandom(len(raw)))
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(raw[:-1])
        case "zeros":
            path.write_bytes(b"\0" * len(raw))
        case "folder":
            path.mkdir()
    assert world.agree() == world.size("a")
    if damage != "folder":
        assert world.agree() == 0


def test_a_copied_folder_is_read_anew_and_has_its_own_index(world, tmp_path_factory):
    world.append("a", 5)
    world.agree()
    copy = World(tmp_path_factory.mktemp("copies") / "copy")
    shutil.copytree(world.root, copy.root)
    assert copy.agree() == copy.size("a")
    assert copy.agree() == 0


def test_an_index_that_others_could_have_written_is_not_used(world):
    world.append("a", 5)
    world.agree()
    world.index.chmod(0o777)
    with Database([world.root], kept=world.kept, hot=HOT) as database:
        assert database.read_bytes == world.size("a")
        assert database.keep() == "its folder can be written by others"


def test_the_index_is_for_its_owner_alone(world):
    world.append("a", 5)
    world.kept = Kept(str(world.root / ".cache" / "events"), str(world.root))
    world.agree()
    for path in (world.root / ".cache", world.root / ".cache" / "events"):
        assert path.stat().st_mode & 0o777 == 0o700
        assert all(file.stat().st_mode & 0o077 == 0 for file in path.iterdir())


def test_where_no_index_can_be_made_the_logs_are_read(world):
    world.append("a", 5)
    world.index.write_text("a file in its place")
    with Database([world.root], kept=world.kept, hot=HOT) as database:
        assert database.query("select count(*) from events").rows == [(6,)]
        assert database.keep() == "File exists"


def test_a_full_disk_costs_the_index_and_not_the_answer(world, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    world.append("a", 5)
    monkeypatch.setattr("eventlog.index.write_whole", full)
    with Database([world.root], kept=world.kept, hot=HOT) as database:
        assert database.query("select count(*) from events").rows == [(6,)]
        assert database.keep() == "No space left on device"
    assert world.segments() == []


def test_while_another_process_renews_the_index_the_logs_are_read(world):
    world.append("a", 5)
    world.agree()
    world.append("a", 5)
    with Lock(str(world.index / "lock"), started=""):
        assert world.agree() > 0
        assert world.agree() > 0
    assert world.agree() > 0
    assert world.agree() == 0


def test_a_reader_keeps_its_answer_while_the_index_is_renewed(world):
    world.append("a", 5)
    world.agree()
    with Database([world.root], kept=world.kept, hot=HOT) as database:
        before = database.query(ROWS).rows
        world.append("a", 50)
        world.agree()
        world.append("a", 500)
        world.agree()
        assert database.query(ROWS).rows == before


def test_what_a_killed_process_left_is_swept_away(world):
    world.append("a", 5)
    world.index.mkdir()
    (world.index / "0123456789abcdef.parquet").write_bytes(b"half")
    (world.index / "manifest.json.tmp-1-2").write_bytes(b"half")
    world.agree()
    assert "0123456789abcdef.parquet" not in world.segments()
    assert not list(world.index.glob("*.tmp-*"))


KILLED = """
import os, signal, sys
from eventlog import index
from eventlog.query import Database
from eventlog.stock import Kept
import eventlog.stock

eventlog.stock.SMALL = 0
left = int(sys.argv[2])
real = index.write_whole

def write_whole(files, path, data, *rest):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if left == 1:
        with open(path + ".tmp-9-9", "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    left -= 2
    real(files, path, data, *rest)

index.write_whole = write_whole
hot = {"n": "BIGINT", "text": "VARCHAR"}
Database([sys.argv[1]], kept=Kept(sys.argv[1] + "/.index", sys.argv[1]), hot=hot).close()
"""


@pytest.mark.parametrize("at", [1, 2])
def test_a_kill_while_the_index_is_written_leaves_the_old_one_or_the_new_one(world, at):
    world.append("a", 20)
    world.agree()
    world.append("a", 20)
    code = textwrap.dedent(KILLED)
    done = subprocess.run([sys.executable, "-c", code, str(world.root), str(at)], check=False)
    assert done.returncode == -9
    world.agree()
    assert world.agree() == 0
    assert not list(world.index.glob("*.tmp-*"))
