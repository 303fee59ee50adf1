"""What no log should hold ends in a clear error, soon and in little memory.

Each case runs in a process of its own, whose memory is counted by the system.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from logkit import put, small_log

from eventlog import EventInvalid, Log
from eventlog.codec import MAX_DEPTH
from eventlog.lines import READ_LIMIT

GIB = 1 << 30
LIMIT_MB = 64

CHILD = """
import json, sys
from typer.testing import CliRunner
from eventlog import *
from eventlog.cli import build

path, ways = sys.argv[1], sys.argv[2:]
count = Projection(lambda: 0, lambda state, record: state + 1)

class Noted(Event, frozen=True, kw_only=True, tag="noted"):
    data: dict

def exhaust(items):
    for _ in items:
        pass

API = {
    "read_lines": lambda: exhaust(read_lines(path)),
    "read": lambda: exhaust(read(path, Noted)),
    "read, checked": lambda: exhaust(read(path, Noted, verify=True)),
    "read_events": lambda: exhaust(read_events(path, Noted)),
    "read_dicts": lambda: exhaust(read_dicts(path)),
    "follow": lambda: exhaust(follow(path, Noted, until=lambda: True)),
    "follow lines": lambda: exhaust(Follower(path).poll()),
    "fold_file": lambda: fold_file(path, Noted, count),
    "open": lambda: Log(path).close(),
}
told = {}
for way in ways:
    if way in API:
        try:
            API[way]()
            told[way] = "ok"
        except EventLogError as error:
            told[way] = [type(error).__name__, error.path, error.seq, error.offset, error.message]
    else:
        done = CliRunner().invoke(build(), [*way.split(), path])
        told[way] = [done.exit_code, done.stdout, done.stderr]
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
with open("/proc/self/status") as status:
    (told["kb"],) = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps(told))
"""

READING = ["read_lines", "read", "read, checked", "read_events", "read_dicts", "follow"]
READING += ["follow lines", "fold_file"]
SHOWING = ["cat", "cat --raw", "tail", "stats", "export", "export --format csv"]
CARING = ["verify", "repair", "salvage", "migrate"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts by /proc")


def child(path: Any, ways: list[str]) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), *ways],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout)
    return told


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def make_sparse(path: Any) -> None:
    with open(path, "ab") as file:
        file.truncate(file.tell() + 10 * GIB)  # takes no space
    assert os.stat(path).st_blocks < 100


def test_ten_gigabytes_without_a_line_break_are_one_error(path):
    make_sparse(path)
    ways = [*READING, "open", *SHOWING, *CARING]
    told = child(path, ways)
    for way in ways:
        if way in READING or way == "open":
            kind, where, _, offset, message = told[way]
            assert (kind, where, offset) == ("LineTooLong", str(path), 0)
            assert str(READ_LIMIT) in message
        else:
            code, shown, said = told[way]
            assert (code, str(READ_LIMIT) in said, "offset 0" in said) == (4, True, True), way
            assert len(shown) < 1000
    assert told["kb"] < LIMIT_MB << 10
    assert path.stat().st_size == 10 * GIB


def test_ten_gigabytes_after_sound_lines_are_an_error_in_their_place(path):
    sound = small_log(path)
    make_sparse(path)
    told = child(path, READING + SHOWING)
    for way in READING:
        assert told[way][:4] == ["LineTooLong", str(path), 7, len(sound)]
    for way in SHOWING:
        code, _, said = told[way]
        assert (code, f"seq 7, offset {len(sound)}" in said) == (4, True)
    assert told["cat"][1].count('"type":"noted"') == 6
    assert told["kb"] < LIMIT_MB << 10


def test_a_query_passes_over_what_is_no_line_and_says_so(path, tmp_path):
    small_log(path)
    query = "query --json select(1)"
    usual = child(path, [query])
    make_sparse(path)
    told = child(path, [query])
    code, shown, said = told[query]
    assert code == 0
    assert json.loads(shown)["rejected"][0]["seq"] == 7
    assert f"longer than {READ_LIMIT} bytes" in said
    assert told["kb"] - usual["kb"] < LIMIT_MB << 10  # (most of it is the database's)


@pytest.mark.parametrize("depth", [100_000, 1_000_000])
def test_deep_json_is_one_line_that_can_not_be_read(path, depth):
    deep = b'{"type":"noted","data":{"a":' + b"[" * depth + b"]" * depth + b"}}\n"
    put(path, b'{"type":"noted","data":{}}\n' + deep + b'{"type":"noted","data":{}}\n')
    ways = [way for way in READING if way not in {"read_lines", "follow lines"}] + SHOWING
    told = child(path, [*ways, "query --json select(1)", "verify", "repair", "open"])
    for way in ways:
        if way in READING:
            kind, where, seq, offset, _ = told[way]
            assert (kind, where, seq, offset) == ("EventInvalid", str(path), 1, 27)
        else:
            assert told[way][0] == 0
    for way in SHOWING:
        if way not in {"cat --raw", "stats"}:  # one shows bytes, the other counts it
            assert "it nests too deep" in told[way][2]
    assert json.loads(told["query --json select(1)"][1])["rejected"][0]["seq"] == 1
    # Whatever an unsealed line holds, the log goes on after it.
    assert told["verify"][0] == told["repair"][0] == 0
    assert told["open"] == "ok"
    assert told["kb"] < (LIMIT_MB + 64) << 10  # with the database


def test_deep_values_are_not_written(path):
    value: Any = 1
    with Log(path) as log:
        for depth in range(1, 1_001):
            value = [value]
            if depth in {MAX_DEPTH, 1_000}:
                with pytest.raises(EventInvalid, match="nests"):
                    log.append({"type": "noted", "data": value})
        assert log.next_seq == 1
