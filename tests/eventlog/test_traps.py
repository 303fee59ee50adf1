"""What DuckDB does with logs when it is left alone, and what must not happen here.

Each trap was seen with `read_ndjson`; each is asked twice, from the log and from the index.
"""

from __future__ import annotations

import datetime as dt

import pytest

from eventlog.query import Database
from eventlog.stock import Kept

HOT = {"n": "BIGINT", "s": "DOUBLE", "t": "VARCHAR"}
STAMP = b'"ts":"2025-10-22T10:00:00Z","type":"x"'


@pytest.fixture(autouse=True)
def keep_everything(monkeypatch):
    monkeypatch.setattr("eventlog.stock.SMALL", 0)
    monkeypatch.setattr("eventlog.manifest._SETTLED_NS", -(1 << 62))


@pytest.fixture
def ask(tmp_path):
    """Write a log and ask it twice; both answers must be the same."""

    def asked(raw, sql):
        path = tmp_path / "events.jsonl"
        path.write_bytes(raw)
        answers = []
        for _ in range(2):
            kept = Kept(str(tmp_path / ".index"), str(tmp_path))
            with Database([path], kept=kept, hot=HOT) as database:
                answer = database.query(sql)
                answers.append((answer.rows, answer.types, database.rejected))
        assert database.read_bytes == 0
        assert answers[0] == answers[1]
        return answers[0][0], answers[0][2][1]

    return asked


def line(data):
    return b'{%b,"data":%b}\n' % (STAMP, data)


COUNT = "select count(*) from events"


@pytest.mark.parametrize(
    "bad",
    [
        b'{"ts":"2025-10-22T10\n',
        line(b"{}")[:-1] + line(b"{}"),  # glued: a torn line, and the next append
        b"\0" * 100 + b"\n",
        line(b'{"n":"\xff"}'),
        line(b'{"n":NaN}'),
        line(b'{"n":-Infinity}'),
        line(b'{"n":[1,]}'),
        line(b'{"n":1,"n":2}'),
        b'{%b,"type":"y","data":{}}\n' % STAMP,
        b"[1]\n",
        b'"text"\n',
        b'{%b,"data":{}} // a comment\n' % STAMP,
        b"{'ts':'2025-10-22T10:00:00Z'}\n",
    ],
)
def test_a_bad_line_is_no_row_of_nulls_but_named(ask, bad):
    assert ask(line(b"{}") + bad + line(b"{}"), COUNT) == ([(2,)], 1)


def test_a_torn_line_fails_nothing(ask):
    assert ask(line(b"{}") + line(b"{}")[:-5], COUNT) == ([(1,)], 0)


def test_an_offset_is_not_dropped_and_a_stamp_needs_no_other_package(ask):
    raw = b'{"ts":"2025-10-22T12:00:00.5+02:00","type":"x"}\n'
    moment = dt.datetime(2025, 10, 22, 10, 0, 0, 500_000)  # noqa: DTZ001 - as DuckDB has it
    assert ask(raw, "select ts from events") == ([(moment,)], 0)


def test_a_stamp_without_zone_is_a_time_and_no_text(ask):
    raw = b'{"timestamp":"2025-10-22T10:00:00","type":"x"}\n'
    assert ask(raw, "select typeof(ts), hour(ts) from events") == ([("TIMESTAMP", 10)], 0)


def test_what_comes_after_a_sample_counts_too(ask):
    raw = line(b'{"s":1}') * 20_500 + line(b'{"s":1.75}') + line(b'{"s":"text","late":true}')
    sql = "select sum(s), count(s), count(data->>'late'), max(data->>'s') from events"
    assert ask(raw, sql) == ([(20_501.75, 20_501, 1, "text")], 0)


@pytest.mark.parametrize(
    ("value", "text", "n"),
    [
        (b"12345678901234567890123", "12345678901234567890123", None),
        (b"9007199254740993", "9007199254740993", 9007199254740993),
        (b"1e400", "1e400", None),
        (b'"7"', "7", 7),
        (b"true", "true", None),
        (b"{}", "{}", None),
        (b"null", None, None),
    ],
)
def test_numbers_are_kept_or_null_but_never_others(ask, value, text, n):
    rows, _ = ask(line(b'{"n":%b}' % value), "select data->>'n', n from events")
    assert rows == [(text, n)]


def test_many_keys_make_no_other_type_of_data(ask):
    wide = b",".join(b'"c%d":%d' % (n, n) for n in range(5000))
    raw = line(b"{%b}" % wide) + line(b'{"c1":"text"}') + line(b'{"out":1,"OUT":2}') + line(b"[]")
    sql = "select typeof(data), data->>'c1', data->>'c4999', data->>'OUT' from events order by seq"
    assert ask(raw, sql)[0] == [
        ("JSON", "1", "4999", None),
        ("JSON", "text", None, None),
        ("JSON", None, None, "2"),
        ("JSON", None, None, None),
    ]


def test_a_line_may_be_as_long_as_lines_may_be(ask):
    raw = line(b"{}") + line(b'{"t":"%b"}' % (b"y" * 15_000_000)) + line(b"{}")
    assert ask(raw, "select max(length(t)), count(*) from events") == ([(15_000_000, 3)], 0)


def test_a_line_that_is_longer_is_named_and_the_log_is_read_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr("eventlog.lines.READ_LIMIT", 1 << 20)
    raw = line(b"{}") + line(b'{"t":"%b"}' % (b"y" * 3_000_000)) + line(b"{}")
    (tmp_path / "events.jsonl").write_bytes(raw)
    for _ in range(2):
        with Database([tmp_path], kept=Kept(str(tmp_path / ".index"), str(tmp_path))) as database:
            assert database.query(COUNT).rows == [(1,)]
            ((one,), count) = database.rejected
            assert (one.seq, one.offset, count) == (1, len(line(b"{}")), 1)


def test_an_empty_log_has_no_rows(tmp_path):
    (tmp_path / "events.jsonl").touch()
    with Database([tmp_path]) as database:
        assert database.query(COUNT).rows == [(0,)]


def test_arrows_need_no_brackets(ask):
    raw = line(b'{"t":"x","n":1}') + line(b'{"t":"y","n":1}')
    sql = "select n from events where data->>'t'='x' and data->>'n'='1'"
    assert ask(raw, sql)[0] == [(1,)]


def test_a_thousand_logs_need_no_memory_of_their_own(tmp_path):
    for number in range(1000):
        (tmp_path / f"{number:04d}").mkdir()
        (tmp_path / f"{number:04d}" / "events.jsonl").write_bytes(line(b'{"n":%d}' % number))
    with Database([tmp_path], hot=HOT) as database:
        assert database.query("select count(*), sum(n) from events").rows == [(1000, 499_500)]


def test_settings_tell_no_path_of_the_logs(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(b"{}"))
    kept = Kept(str(tmp_path / ".index"), str(tmp_path))
    for _ in range(2):
        with Database([tmp_path], kept=kept) as database:
            told = repr(database.query("from duckdb_settings()").rows)
            told += repr(database.query("from duckdb_databases()").rows)
            assert str(tmp_path) not in told
