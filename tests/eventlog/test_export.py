"""Events for other programs: nothing lost, nothing respelled, nothing of the log's own."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from eventlog import Log, read_dicts
from eventlog.cli import Mount, build
from eventlog.find import LogRef

DATA = Path(__file__).parent.parent / "data"
ODD = (
    b'{"ts":"2025-10-22T10:00:00Z","type":"a","n":1.50,"big":123456789012345678901234567890,'
    b'"data":{"e":"\\u00e9","f":1E+2}}\n'
)


def run(*args, mount=None):
    return CliRunner().invoke(build(mount), ["export", *(str(arg) for arg in args)])


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "events.jsonl"
    with Log(path, fields={"job_id": "j"}, clock=lambda: 0) as log:
        log.append({"type": "a", "data": {"n": 1}}, {"type": "b", "text": 'x,"\n', "data": None})
    return path


def test_plain_lines_are_what_an_unsealed_log_would_hold(sealed, tmp_path):
    done = run(sealed)
    assert done.stdout == (
        '{"ts":"1970-01-01T00:00:00.000000Z","job_id":"j","type":"a","data":{"n":1}}\n'
        '{"ts":"1970-01-01T00:00:00.000000Z","job_id":"j","type":"b","text":"x,\\"\\n","data":null}\n'
    )
    assert done.stderr == ""
    again = tmp_path / "again.jsonl"
    again.write_text(done.stdout)
    assert run(again).stdout == done.stdout


@pytest.mark.parametrize("form", ["jsonl", "cloudevents", "csv"])
def test_values_keep_their_spelling(tmp_path, form):
    path = tmp_path / "events.jsonl"
    path.write_bytes(ODD)
    shown = run(path, "--format", form).stdout.replace('""', '"')
    for text in ("1.50", "123456789012345678901234567890", '{"e":"\\u00e9","f":1E+2}'):
        assert text in shown
    if form == "jsonl":
        assert shown.encode() == ODD


def test_the_log_s_own_events_are_exported_where_they_are_asked_for(sealed):
    types = [json.loads(line)["type"] for line in run(sealed, "--type", "*").stdout.splitlines()]
    assert types == ["log.opened", "a", "b"]
    assert run(sealed, "--type", "[ab]").stdout == run(sealed).stdout
    assert run(sealed, "--type", "none").stdout == ""


def test_csv_has_a_column_for_each_member(sealed):
    rows = list(csv.DictReader(io.StringIO(run(sealed, "--format", "csv").stdout)))
    ts = "1970-01-01T00:00:00.000000Z"
    assert rows == [
        {"seq": "1", "ts": ts, "type": "a", "job_id": "j", "text": "", "data": '{"n":1}'},
        {"seq": "2", "ts": ts, "type": "b", "job_id": "j", "text": 'x,"\n', "data": ""},
    ]


def test_csv_of_several_logs_names_them(sealed, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_bytes(ODD)
    rows = list(csv.DictReader(io.StringIO(run(sealed, other, "--format", "csv").stdout)))
    assert [(row["log"], row["seq"], row["n"]) for row in rows] == [
        (str(sealed), "1", ""),
        (str(sealed), "2", ""),
        (str(other), "0", "1.50"),
    ]


def test_cloudevents_have_the_attributes_that_the_standard_asks_for(sealed):
    first, second = map(json.loads, run(sealed, "--format", "cloudevents").stdout.splitlines())
    log_id = next(iter(read_dicts(sealed)))["data"]["log_id"]
    assert first == {
        "specversion": "1.0",
        "id": "1",
        "source": f"urn:eventlog:{log_id}",
        "type": "a",
        "sequence": "0" * 19 + "1",
        "time": "1970-01-01T00:00:00.000000Z",
        "jobid": "j",
        "datacontenttype": "application/json",
        "data": {"n": 1},
    }
    assert (second["id"], second["text"], second["data"]) == ("2", 'x,"\n', None)
    assert (
        json.loads(
            run(sealed, "--format", "cloudevents", "--source", "/shop").stdout.splitlines()[0]
        )["source"]
        == "/shop"
    )


def test_extensions_take_no_name_and_no_value_that_is_not_theirs(tmp_path):
    path = tmp_path / "my log.jsonl"
    path.write_bytes(
        b'{"type":"a","id":7,"Source":"s","x_id":true,"list":[1],"n":4294967296,"half":0.5,"-":1,'
        b'"gone":null,"ts":"10:00"}\n'
    )
    event = json.loads(run(path, "--format", "cloudevents").stdout)
    assert event == {
        "specversion": "1.0",
        "id": "0",
        "source": str(path).replace(" ", "%20"),
        "type": "a",
        "sequence": "0" * 20,
        "xid": 7,
        "xsource": "s",
        "xxid": True,
        "list": "[1]",
        "n": "4294967296",
        "half": "0.5",
        "member": 1,
    }


def test_lines_that_can_not_be_exported_are_named(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'no\n\n{"type":"a","x":"\xff"}\n{"level":"x"}\n')
    for form, count in (("jsonl", 2), ("csv", 2), ("cloudevents", 3)):
        done = run(path, "--format", form)
        assert done.exit_code == 0
        assert f"{count} lines could not be read" in done.stderr
        assert f"{path}:1 (offset 0)" in done.stderr
    assert run(path).stdout == '{"level":"x"}\n'


def test_a_file_is_written_as_a_whole(sealed, tmp_path):
    out = tmp_path / "out.jsonl"
    assert run(sealed, "-o", out).stdout == ""
    assert out.read_text() == run(sealed).stdout
    out.write_text("before")
    sealed.write_bytes(b"x" * ((16 << 20) + 1) + b"\n")
    done = run(sealed, "-o", out)
    assert (done.exit_code, out.read_text()) == (4, "before")
    assert not list(tmp_path.glob("*.tmp*"))
    assert run(sealed, "-o", tmp_path / "no" / "out").exit_code == 4


def test_a_program_s_own_targets_can_be_exported(sealed):
    mount = Mount(resolve=lambda target: [LogRef(str(sealed))], default="x")
    assert run(mount=mount).stdout == run(sealed).stdout


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name not in {"seq", "ts", "dur", "prev", "sum"}),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2),
            max_leaves=3,
        ),
        max_size=4,
    )
)
def test_nothing_of_an_event_is_lost(tmp_path_factory, members):
    path = tmp_path_factory.mktemp("export") / "events.jsonl"
    event = members | {"type": "noted"}
    with Log(path) as log:
        log.append(event)
    plain = json.loads(run(path).stdout)
    assert {name: value for name, value in plain.items() if name != "ts"} == event
    text = run(path, "--format", "csv").stdout_bytes.decode()  # (`stdout` makes \r\n a \n)
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    for name, value in event.items():
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).removeprefix("null")
        assert row[name] == (value if isinstance(value, str) else text)
    made = json.loads(run(path, "--format", "cloudevents").stdout)
    assert made["type"] == "noted"
    assert ("data" in made) == ("data" in event)
    assert all(name.isascii() and name.isalnum() for name in made)
