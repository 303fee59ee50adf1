"""The SQL of people runs in a process that ends, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from eventlog import LogNotFound, QueryError
from eventlog.cell import Request
from eventlog.jail import Limits
from eventlog.warden import cell

LOG = str(Path(__file__).parent.parent / "data" / "v2_1" / "events.jsonl")


def ask(sql, form="csv", log=LOG, **limits):
    with cell() as asked:
        told = asked.ask(request(sql, form, log, **limits))
        assert asked.keep() == ""
        return b"".join(told.parts)


def request(sql, form="csv", log=LOG, params=None, **limits):
    return Request(
        logs=[(log, None)],
        sql=sql,
        params=params,
        views=[],
        limits=Limits(**limits),
        kept=None,
        hot={},
        own=False,
        form=form,
        width=None,
    )


def test_an_answer_comes_as_it_was_asked_for():
    assert ask("select count(*) as n from events") == b"n\n18\n"
    assert ask("from range(3)", "parquet").startswith(b"PAR1")


def test_errors_come_back_as_they_were():
    with pytest.raises(QueryError) as caught:
        ask("select type,\n  tpye from events")
    assert "LINE 2:   tpye from events" in caught.value.message
    assert "^" in caught.value.message
    with pytest.raises(QueryError, match="LINE 1"):
        ask("select tpye from events", "parquet")
    with pytest.raises(LogNotFound):
        ask("select 1", log="/nowhere/events.jsonl")


BOMBS = {
    "select length(repeat('x', 3000000000))": "more than 128 MB|longer than 0.5 s",
    "select length(lpad('', 2000000000, 'x'))": "more than 128 MB|longer than 0.5 s",
    "select string_agg(repeat('y', 1000) || range, '') from range(1000000)": "more than 128 MB",
    "with recursive t as (select 1 as x union all select x + 1 from t) select max(x) from t": (
        "longer than 0.5 s"
    ),
}


@pytest.mark.parametrize("sql", BOMBS)
def test_what_duckdb_can_not_be_stopped_in_ends_with_its_process(sql):
    with cell() as asked:
        process = asked._process
        with pytest.raises(QueryError, match=BOMBS[sql]):
            asked.ask(request(sql, time_s=0.5, memory_mb=128))
    assert process.poll() is not None


def test_the_rows_of_a_file_are_limited_too():
    assert ask("from range(5)", "parquet", rows=5)
    with pytest.raises(QueryError, match="more than 5 rows"):
        ask("from range(6)", "parquet", rows=5)


def test_the_process_has_no_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "canary-1")
    with cell() as asked:
        environment = Path(f"/proc/{asked._process.pid}/environ")
        if not environment.exists():
            pytest.skip("needs /proc")
        # Before it is asked it waits, so it is there.
        assert b"canary-1" not in environment.read_bytes()
        asked.ask(request("select 1"))


def test_a_process_that_was_killed_is_an_error_and_no_traceback():
    with cell() as asked:
        asked._process.send_signal(signal.SIGKILL)
        with pytest.raises(QueryError, match="was ended by SIGKILL"):
            asked.ask(request("select 1"))


ASKER = """
import sys
from eventlog.warden import cell
sys.path.insert(0, sys.argv[1])
from test_warden import request
with cell() as asked:
    print(asked._process.pid, flush=True)
    asked.ask(request("select sum(sqrt(range)) from range(100000000000000)"))
"""


def test_the_process_ends_when_the_one_that_asked_does():
    asker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ASKER), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(asker.stdout.readline())
    asker.kill()
    asker.communicate()
    deadline = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    try:
        os.kill(pid, 0)
        # Adopted and not yet waited for by the one that adopted it, it is a zombie.
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
