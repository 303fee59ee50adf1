"""SQL over logs: every readable line is there once, every other one is named."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import Log, LogNotFound, QueryError, read_dicts
from eventlog.codec import GENESIS, seal_all
from eventlog.find import LogRef, find_logs
from eventlog.query import Database, find_query, named_queries, query

DATA = Path(__file__).parent.parent / "data"
COUNT = "select count(*) from events"


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


def line(n, kind="x"):
    return b'{"ts":"2025-10-22T10:00:00Z","type":"%b","data":{"n":%d}}\n' % (kind.encode(), n)


# --- what is there ----------------------------------------------------------------------------


def test_the_columns_of_an_event(tmp_path):
    path = tmp_path / "events.jsonl"
    with Log(path, fields={"level": "INFO", "job_id": "job_1"}, clock=lambda: 5_000) as log:
        log.append({"type": "x", "step": "s", "item": "i", "data": {"a": {"b": 1.5}}})
    answer = query([path], "from events where seq = 1")
    assert answer.columns == [
        *["job_id", "seq", "ts", "level", "type", "step", "item", "data", "file", "extra"]
    ]
    stamp = dt.datetime(1970, 1, 1, 0, 0, 0, 5)  # noqa: DTZ001 - as DuckDB hands it out
    data = '{"a":{"b":1.5}}'
    assert answer.rows == [("job_1", 1, stamp, "INFO", "x", "s", "i", data, str(path), None)]
    assert answer.types[2] == "TIMESTAMP"


def test_lines_of_all_versions_are_asked_alike():
    answer = query(
        [DATA],
        "select job_id, try_cast(data->>'duration_s' as double) from events"
        " where type = 'llm.response' and step = 'architect' order by job_id, seq",
    )
    assert answer.rows == [("job_a1", 3.2), ("job_b1", 3.2), ("job_c1", 2.0), ("job_c1", 3.0)]
    stamps = query(
        [DATA / "v1_flat"], "select strftime(ts, '%H:%M:%S.%g') from events order by seq"
    )
    assert [row[0] for row in stamps.rows] == [
        *["10:00:00.000", "10:00:01.000", "10:00:02.500", "10:00:03.000"]
    ]


@pytest.mark.parametrize("path", find_logs(DATA))
def test_sql_and_the_reader_see_the_same_events(path):
    rows = query([path], "select seq, type, data from events order by seq").rows
    expected = [(e["seq"], e["type"], e.get("data")) for e in read_dicts(path)]
    assert [(seq, kind, data and json.loads(data)) for seq, kind, data in rows] == expected


def test_the_state_of_each_log_is_a_table(tmp_path):
    old = write(
        tmp_path / "a" / "events.jsonl",
        b'{"timestamp":"2025-10-22T10:00:00","type":"x"}\n',
        b'{"ts":"2025-10-22T10:00:00Z","job_id":"job_1","n":1}\n',
        b"\n",
        b"junk\n",
        b'{"x":1}\n',
        b'{"torn',
    )
    with Log(tmp_path / "b.jsonl") as log:
        log.append({"type": "x"})
    answer = query(
        [tmp_path, tmp_path / "b.jsonl"], "select * exclude (file) from logs order by file"
    )
    assert answer.rows == [
        ("job_1", 5, 1, 1, 0, 1, 1, 1, 0, old.stat().st_size, 6, False),
        (None, 2, 0, 0, 2, 0, 0, 0, 2, (tmp_path / "b.jsonl").stat().st_size, 0, False),
    ]


def test_a_job_is_named_by_its_caller_where_its_lines_do_not(tmp_path):
    path = write(tmp_path / "events.jsonl", line(1))
    assert query([LogRef(str(path), "job_9")], "select job_id from events").rows == [("job_9",)]
    assert query([path], "select job_id from events").rows == [(None,)]


def test_another_tools_line_is_all_under_data(tmp_path):
    path = write(tmp_path / "events.jsonl", b'{"msg":"hi","level":30,"time":1.5}\n{}\n')
    answer = query([path], "select level, ts, data->>'msg', data->>'time' from events order by seq")
    assert answer.rows == [("30", None, "hi", "1.5"), (None, None, None, None)]


def test_a_folder_without_logs_gives_empty_tables(tmp_path):
    assert query([tmp_path], COUNT).rows == [(0,)]
    assert query([], "from logs").rows == []


def test_a_path_that_is_not_there_is_told(tmp_path):
    with pytest.raises(LogNotFound):
        query([tmp_path / "nothing"], COUNT)


def test_a_path_with_odd_characters_is_only_a_name(tmp_path):
    path = write(tmp_path / "100%d'\"é \\ [x]*" / "events.jsonl", line(1))
    assert query([tmp_path], "select file, (data->>'n') from events").rows == [(str(path), "1")]


def test_a_log_named_twice_counts_once(tmp_path):
    path = write(tmp_path / "events.jsonl", line(1))
    assert query([tmp_path, path], COUNT).rows == [(1,)]


# --- live, torn, awkward ----------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"ts":"2025', b"\0" * 100, b'{"type":"x"}'])
def test_a_torn_tail_is_no_error_and_no_row(tmp_path, torn):
    path = write(tmp_path / "events.jsonl", line(1), line(2), torn)
    answer = query([path], COUNT)
    assert (answer.rows, answer.rejected_count) == ([(2,)], 0)
    assert query([path], "select torn from logs").rows == [(len(torn),)]


def test_a_log_that_is_being_written_can_be_asked(tmp_path):
    with Log(tmp_path / "events.jsonl") as log:
        log.append({"type": "x"}, {"type": "y"})
        assert query([tmp_path], COUNT).rows == [(3,)]


AWKWARD = {
    "NaN": (b'{"ts":"2025-10-22T10:00:00Z","data":{"a":NaN}}', "NaN"),
    "NaN in a sealed line": (
        b'{"seq":1,"data":{"a":NaN},"prev":"AAAAAAAAAAAAAAAA","sum":"AAAAAAAAAAAAAAAA"}',
        "can't be decoded",
    ),
    "a key twice": (b'{"ts":"2025-10-22T10:00:00Z","type":"a","type":"b"}', "`type` twice"),
    "a key twice in data": (b'{"ts":"2025-10-22T10:00:00Z","data":{"a":1,"a":2}}', "`a` twice"),
    "a lone surrogate": (b'{"ts":"2025-10-22T10:00:00Z","a":"\\ud800"}', "can't be decoded"),
    "not UTF-8": (b'{"ts":"2025-10-22T10:00:00Z","a":"\xff"}', "not UTF-8"),
    "not UTF-8 in a sealed line": (
        b'{"seq":1,"data":"\xff","prev":"AAAAAAAAAAAAAAAA","sum":"AAAAAAAAAAAAAAAA"}',
        "not UTF-8",
    ),
    "two lines glued": (line(1)[:-1] + line(2)[:-1], "more follows"),
    "an array": (b"[1]", "no JSON object"),
    "zeros": (b"\0" * 600, "no JSON object"),
    "a comma too many": (b'{"ts":"2025-10-22T10:00:00Z",}', "no JSON object"),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_a_line_that_cannot_be_read_is_named_and_takes_no_other_with_it(tmp_path, name):
    raw, reason = AWKWARD[name]
    path = write(tmp_path / "events.jsonl", line(1), raw + b"\n", line(2))
    answer = query([path], "select seq, data->>'n' from events order by seq")
    assert answer.rows == [(0, "1"), (2, "2")]
    assert answer.rejected_count == 1
    (rejected,) = answer.rejected
    assert (rejected.file, rejected.seq, rejected.offset) == (str(path), 1, len(line(1)))
    assert reason in rejected.reason


HALF = b'"type":"x","data":{"a":"\\ud800"}'


@pytest.mark.parametrize("alone", [0, 1 << 30], ids=["one log a chunk", "many logs a chunk"])
def test_what_only_duckdb_refuses_is_named_too(tmp_path, monkeypatch, alone):
    monkeypatch.setattr("eventlog.tables._ALONE", alone)
    fine = b'"type":"x","data":{"n":1}'
    lines, _ = seal_all(0, "2025-10-22T10:00:00Z", [fine, HALF, fine, HALF], GENESIS)
    path = write(tmp_path / "events.jsonl", *lines)
    answer = query([path], "select seq from events order by seq")
    assert answer.rows == [(0,), (2,)]
    assert [(one.seq, one.offset) for one in answer.rejected] == [
        (1, len(lines[0])),
        (3, len(b"".join(lines[:3]))),
    ]
    counts = query([path], "select lines, v2_1, sealed, rejected from logs").rows
    assert counts == [(4, 2, 2, 2)]


KEPT = {
    "big numbers": (b"123456789012345678901234567890", "123456789012345678901234567890"),
    "a separator that text tools take for a line's end": (
        '"a\u2028b\x85c"'.encode(),
        "a\u2028b\x85c",
    ),
    "keys that differ by case only": (b'{"out":1,"OUT":2}', '{"out":1,"OUT":2}'),
    "an escaped NUL": (b'"a\\u0000b"', "a\0b"),
    "a long text": (b'"' + b"y" * 3_000_000 + b'"', "y" * 3_000_000),
}


@pytest.mark.parametrize("name", KEPT)
def test_values_come_through(tmp_path, name):
    raw, expected = KEPT[name]
    path = write(tmp_path / "events.jsonl", b'{"ts":"2025-10-22T10:00:00Z","v":%b}\n' % raw)
    assert query([path], "select data->>'v' from events").rows == [(expected,)]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (b'"2025-10-22T12:00:00.5+02:00"', "2025-10-22 10:00:00.5"),
        (b'"2025-10-22T10:00:00.123456789Z"', "2025-10-22 10:00:00.123456"),
        (b'"2025-10-22T10:00:00"', "2025-10-22 10:00:00"),
        (b"1729591200.5", None),
        (b'"yesterday"', None),
    ],
)
def test_stamps_are_utc_or_null_but_never_wrong(tmp_path, stamp, expected):
    path = write(tmp_path / "events.jsonl", b'{"ts":%b,"type":"x","data":{}}\n' % stamp)
    assert query([path], "select ts::varchar from events").rows == [(expected,)]


def test_an_offset_that_had_to_stay_in_a_stamp_is_not_dropped(tmp_path):
    raw = b'{"ts":"2025-10-22T12:00:00+02:00","timestamp":"2025-10-22T10:00:00"}\n'
    path = write(tmp_path / "events.jsonl", raw)
    assert query([path], "select ts from events").rows == [(None,)]


@pytest.mark.parametrize(("packed", "spill"), [(0, 0), (1 << 30, 3000), (1 << 30, 1 << 30)])
def test_logs_larger_than_one_block_are_all_there(tmp_path, monkeypatch, packed, spill):
    monkeypatch.setattr("eventlog.tables.CHUNK", 1000)
    monkeypatch.setattr("eventlog.tables._PACKED", packed)
    monkeypatch.setattr("eventlog.tables._SPILL", spill)
    monkeypatch.setattr("eventlog.tables._MANY", 4)
    for name in ("a", "b"):
        write(tmp_path / name / "events.jsonl", *(line(n) for n in range(100)))
    answer = query([tmp_path], "select file, list((data->>'n')::int) from events group by all")
    assert [numbers for _, numbers in sorted(answer.rows)] == [list(range(100))] * 2


@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"")),
            st.dictionaries(st.text(), st.text(), max_size=2).map(lambda v: json.dumps(v).encode()),
            st.just(line(1)[:-1]),
            st.just(b""),
        ),
        max_size=10,
    )
)
def test_every_line_is_a_row_or_rejected_or_blank(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("count") / "events.jsonl"
    path.write_bytes(b"".join(raw + b"\n" for raw in lines))
    answer = query([path], "select (select count(*) from events), lines, rejected, blank from logs")
    ((rows, total, rejected, blank),) = answer.rows
    assert total == len(lines)
    assert rows + rejected + blank == total
    assert rejected == answer.rejected_count == len(answer.rejected)


# --- named queries and views ------------------------------------------------------------------


def test_one_word_is_a_name_and_more_is_sql(tmp_path):
    (tmp_path / "how-many.sql").write_text("-- How many events?\nselect count(*) from events\n")
    folders = [str(tmp_path / "none"), str(tmp_path)]
    assert query([], find_query("how-many", folders)).rows == [(0,)]
    assert find_query(" how-many.sql ", folders) == find_query("how-many", folders)
    assert find_query("from events", folders) == "from events"
    assert named_queries(folders) == {"how-many": "How many events?"}
    with pytest.raises(QueryError, match="no query named how-few") as caught:
        find_query("how-few", folders)
    assert "how-many" in caught.value.hint
    assert find_query("../how-many", folders) == "../how-many"


def test_views_are_made_when_they_are_spoken_of(tmp_path):
    path = write(tmp_path / "events.jsonl", line(1), line(2, "y"))
    views = [("ys", "select * from events where type = 'y';\n")]
    with Database([path], views=views) as database:
        assert database.query("select count(*) from ys").rows == [(1,)]
        assert ("ys", "seq", "BIGINT") in database.schema().rows
    bad = [("bad", "select nothing from nowhere"), ("worse", "from bad")]
    with Database([path], views=bad) as database:
        assert database.query("select count(*) from events").rows == [(2,)]
        with pytest.raises(QueryError, match="the view bad is wrong"):
            database.query("from worse")
    with pytest.raises(QueryError, match="can't be a view's name"):
        Database([path], views=[('x" as select 1; --', "select 1")])
