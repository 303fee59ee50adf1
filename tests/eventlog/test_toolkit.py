"""The toolkit as its users meet it: what they import, and what a log's whole life looks like."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from logkit import Noted, content, note
from typer.testing import CliRunner

import eventlog
from eventlog import (
    AsyncLog,
    Event,
    EventInvalid,
    EventLogError,
    Log,
    LogOpened,
    LogTooNew,
    MemoryLog,
    Projection,
    UnknownEvent,
    Upcasters,
    Verdict,
    fold_file,
    follow,
    load_checkpoint,
    read,
    read_dicts,
    read_events,
    read_lines,
    save_checkpoint,
    scan,
)
from eventlog.check import salvage, verify
from eventlog.cli import build
from eventlog.source import LogFile

NEXT_FORMAT = Path(__file__).parent.parent / "data" / "versions" / "format_2.jsonl"


def run(*args: Any) -> Any:
    return CliRunner().invoke(build(), [str(arg) for arg in args])


def test_every_public_name_is_there_and_no_other():
    for name in eventlog.__all__:
        assert getattr(eventlog, name) is not None
    assert sorted(eventlog.__all__) == sorted(set(eventlog.__all__))
    shown = {name for name in vars(eventlog) if not name.startswith("_")}
    modules = {name for name in shown if hasattr(getattr(eventlog, name), "__spec__")}
    assert shown - modules - set(eventlog.__all__) <= {"TYPE_CHECKING", "Any"}
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        eventlog.Nothing  # noqa: B018 - looking is the point


def test_all_errors_are_of_one_tree():
    for name in eventlog.__all__:
        thing = getattr(eventlog, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert issubclass(thing, EventLogError)
            assert str(thing("what", path="p", seq=1, offset=2, hint="do")) == (
                "what (p, seq 1, offset 2); do"
            )


# --- one life ------------------------------------------------------------------------------------


class Moved(Event, frozen=True, kw_only=True, tag="moved"):
    v: int = 2
    data: dict[str, int]


def walk(state: dict[str, int], record: Any) -> dict[str, int]:
    if isinstance(record.event, Moved):
        for name, steps in record.event.data.items():
            state[name] = state.get(name, 0) + steps
    return state


WALK = Projection(dict, walk, state=dict[str, int])


def today() -> Upcasters:
    upcasters = Upcasters()

    @upcasters.step("moved", 1)
    def named(event: dict[str, Any]) -> dict[str, Any]:
        return event | {"data": {"x": event["data"]}}

    return upcasters


def test_a_log_s_whole_life(tmp_path):
    path, kept = tmp_path / "walk.jsonl", tmp_path / "walk.state"
    with Log(path) as log:
        log.append({"type": "moved", "data": 5})  # by the program's first version
    state, checkpoint = fold_file(path, Moved, WALK, upcasters=today())
    save_checkpoint(kept, checkpoint)
    assert state == {"x": 5}

    async def main() -> dict[str, int]:
        async with AsyncLog(Log(path)) as log, anyio.create_task_group() as tasks:
            for n in range(10):
                tasks.start_soon(log.append, Moved(data={"x": n, "y": 1}))
            found = dict(state)
            async for record in follow(path, Moved, after=checkpoint, upcasters=today()):
                found = walk(found, record)
                if record.seq == 12:
                    return found
        raise AssertionError("following ended by itself")

    assert anyio.run(main) == {"x": 50, "y": 10}
    head = verify(str(path)).head
    with open(path, "ab") as file:
        file.write(b'{"seq":13,"ts":"2025')  # a crash
    with Log(path) as log:
        assert log.recovered is not None
        log.append(Moved(data={"y": 1}))
    state, checkpoint = fold_file(path, Moved, WALK, load_checkpoint(kept), upcasters=today())
    assert state == {"x": 50, "y": 11}
    assert verify(str(path), head=head).anchor == "seq 12"
    with LogFile(path) as file:
        assert scan(file).verdict is Verdict.WHOLE

    lines = content(path).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6] + lines[7:]))  # a line is lost
    assert verify(str(path)).bad_seq == 6
    done = salvage(str(path))
    assert (done.lines, verify(done.to).verdict) == (6, "whole")
    assert fold_file(done.to, Moved, WALK, checkpoint, upcasters=today())[0]["x"] < 50


def test_memory_and_file_fold_to_the_same(tmp_path):
    events = [Moved(data={"x": n}) for n in range(5)]
    memory = MemoryLog()
    with Log(tmp_path / "log") as log:
        for one in (memory, log):
            one.append(*events)
    assert WALK.fold(memory.read(Moved)) == fold_file(tmp_path / "log", Moved, WALK)[0]


# --- a log of the next format --------------------------------------------------------------------


@pytest.fixture
def later(tmp_path):
    path = tmp_path / "events.jsonl"
    shutil.copyfile(NEXT_FORMAT, path)
    return path


def test_a_later_format_is_read_where_it_can_be(later):
    known = [note(1), note(2), note(3)]
    events = list(read_events(later, Noted | LogOpened))
    assert [event for event in events if isinstance(event, Noted)] == known
    assert UnknownEvent(type="log.rotated", data={"to": "events-2.jsonl"}) in events
    opened = events[0]
    assert isinstance(opened, LogOpened)
    assert opened.data.format == 2
    for verify_sums in (False, True):
        records = list(read(later, Noted, verify=verify_sums))
        assert [record.seq for record in records] == [0, 1, 2, 3, 4]
    assert list(follow(later, Noted, until=lambda: True)) == records
    assert [line["seq"] for line in read_dicts(later)] == [0, 1, 2, 3, 4]
    assert len(list(read_lines(later))) == 5
    total = Projection(lambda: 0, lambda n, record: n + isinstance(record.event, Noted))
    assert fold_file(later, Noted, total)[0] == 3


def test_a_later_format_can_be_looked_into(later):
    assert run("cat", later).stdout.encode() == content(later)
    for command in ("tail", "stats", "export"):
        done = run(command, later)
        assert (done.exit_code, done.stderr) == (0, "")
    rows = json.loads(run("query", "select count(*) as n from events", later, "--json").stdout)
    assert rows["rows"] == [{"n": 5}]


def test_a_later_format_is_neither_written_nor_called_damaged(later):
    before = content(later)
    with pytest.raises(LogTooNew, match="has format 2"):
        Log(later)
    for command in ("repair", "salvage"):
        done = run(command, later)
        assert done.exit_code == 4
        assert "the log has format 2, this version writes 1" in done.stderr
    done = run("verify", later)
    assert done.exit_code == 4
    assert "has format 2: only a later version can check it" in done.stderr
    assert "damaged" not in done.stdout + done.stderr
    assert run("migrate", later).exit_code in {0, 4}
    assert content(later) == before
    assert sorted(os.listdir(later.parent)) in (
        ["events.jsonl"],
        ["events.jsonl", "events.jsonl.lock"],
    )


def test_a_later_format_whose_lines_we_know_verifies(later):
    later.write_bytes(b"".join(content(later).splitlines(keepends=True)[:4]))
    done = run("verify", later, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["logs"][0]["format"] == 2
    with pytest.raises(LogTooNew):
        Log(later)


# --- alone ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.environ.get("EVENTLOG_ALONE"), reason="only with EVENTLOG_ALONE")
def test_the_orchestrator_is_not_there():
    with pytest.raises(ModuleNotFoundError):
        importlib.util.find_spec("orchestrator")


def test_the_command_line_is_a_program(tmp_path):
    with Log(tmp_path / "events.jsonl") as log:
        log.append(note(1))
    run = subprocess.run(
        [sys.executable, "-m", "eventlog", "export", "events.jsonl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert msgspec.json.decode(run.stdout)["data"] == {"n": 1}
    assert (run.returncode, run.stderr) == (0, "")
    help_ = subprocess.run(
        [sys.executable, "-m", "eventlog", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("cat", "tail", "verify", "repair", "salvage", "stats", "query", "migrate"):
        assert command in help_.stdout
    assert "export" in help_.stdout


def test_what_can_not_be_written_is_told_before_anything_is(tmp_path):
    with Log(tmp_path / "log") as log, pytest.raises(EventInvalid):
        log.append(note(1), {"type": "bad", "data": {1, 2, object()}})
    assert len(list(read_lines(tmp_path / "log"))) == 1
