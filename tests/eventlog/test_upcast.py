"""Lines of older versions become today's: what changes, what is kept to the byte, what is left."""

from __future__ import annotations

import json
from datetime import UTC, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import EventInvalid
from eventlog.forms import Form
from eventlog.stamps import utc
from eventlog.upcast import convert, upcast

V1 = b'{"timestamp":"2025-10-22T10:00:00","type":"x","data":{"a":1}}'
V2_1 = b'{"ts":"2025-10-22T10:00:00Z","type":"x","data":{"a":1}}'
S = b'"2025-10-22T10:00:00Z"'

CHANGED = {
    "v1 with data": (V1, V2_1, Form.V1),
    "v1 with payload at the top": (
        b'{"timestamp":"2025-10-22T10:00:00","level":"INFO","type":"x","a":1,"b":[2]}',
        b'{"ts":' + S + b',"level":"INFO","type":"x","data":{"a":1,"b":[2]}}',
        Form.V1,
    ),
    "v1 without payload": (
        b'{"timestamp":"2025-10-22T10:00:00","type":"job.succeeded"}',
        b'{"ts":' + S + b',"type":"job.succeeded"}',
        Form.V1,
    ),
    "v2.0": (
        b'{"ts":' + S + b',"level":"INFO","job_id":"j","type":"x","step":"s","duration_s":3.20}',
        b'{"ts":' + S + b',"level":"INFO","job_id":"j","type":"x","step":"s",'
        b'"data":{"duration_s":3.20}}',
        Form.V2_0,
    ),
    "payload between and before what stays": (
        b'{"a":1,"ts":' + S + b',"b":2,"type":"x","c":3}',
        b'{"ts":' + S + b',"type":"x","data":{"a":1,"b":2,"c":3}}',
        Form.V2_0,
    ),
    "spaces": (
        b' { "timestamp": "2025-10-22T10:00:00", "type" : "x", "a": 1, "b": 2 } ',
        b' { "ts": ' + S + b', "type" : "x", "data": {"a": 1, "b": 2} } ',
        Form.V1,
    ),
    "timestamp not first": (
        b'{"type":"x","timestamp":"2025-10-22T10:00:00","data":{}}',
        b'{"type":"x","ts":' + S + b',"data":{}}',
        Form.V1,
    ),
    "an unknown field beside data": (
        b'{"timestamp":"2025-10-22T10:00:00","x_mine":1.0,"data":{}}',
        b'{"ts":' + S + b',"x_mine":1.0,"data":{}}',
        Form.V1,
    ),
    "number spellings": (
        b'{"ts":' + S + b',"n":[1.0,1e2,1E+2,-0,0.10,123456789012345678901234567890,1e400]}',
        b'{"ts":' + S + b',"data":{"n":[1.0,1e2,1E+2,-0,0.10,123456789012345678901234567890,1e400]'
        b"}}",
        Form.V2_0,
    ),
    "raw and escaped unicode": (
        '{"ts":"2025-10-22T10:00:00Z","a":"é \\u00e9 \\/ \u2028 🌱"}'.encode(),
        '{"ts":"2025-10-22T10:00:00Z","data":{"a":"é \\u00e9 \\/ \u2028 🌱"}}'.encode(),
        Form.V2_0,
    ),
    "a lone surrogate, escaped": (
        b'{"timestamp":"2025-10-22T10:00:00","data":{"a":"\\ud800"}}',
        b'{"ts":' + S + b',"data":{"a":"\\ud800"}}',
        Form.V1,
    ),
    "a nested timestamp": (
        b'{"ts":' + S + b',"a":{"timestamp":"2025-10-22T10:00:00","ts":1}}',
        b'{"ts":' + S + b',"data":{"a":{"timestamp":"2025-10-22T10:00:00","ts":1}}}',
        Form.V2_0,
    ),
    "a quoted timestamp": (
        b'{"timestamp":"2025-10-22T10:00:00","data":"{\\"timestamp\\":\\"x\\"}"}',
        b'{"ts":' + S + b',"data":"{\\"timestamp\\":\\"x\\"}"}',
        Form.V1,
    ),
    "a key that is written with escapes": (
        b'{"time\\u0073tamp":"2025-10-22T10:00:00","data":{}}',
        b'{"ts":' + S + b',"data":{}}',
        Form.V1,
    ),
    "a key twice in the payload": (
        b'{"ts":' + S + b',"a":1,"a":2}',
        b'{"ts":' + S + b',"data":{"a":1,"a":2}}',
        Form.V2_0,
    ),
    "data that is null": (
        b'{"timestamp":"2025-10-22T10:00:00","data":null,"a":1}',
        b'{"ts":' + S + b',"data":null,"a":1}',
        Form.V1,
    ),
    "a stamp with an offset": (
        b'{"timestamp":"2025-10-22T12:00:00.50+02:00","data":{}}',
        b'{"ts":"2025-10-22T10:00:00.50Z","data":{}}',
        Form.V1,
    ),
    "a stamp that ends in Z already": (
        b'{"timestamp":"2025-10-22T10:00:00.123456789Z","data":{}}',
        b'{"ts":"2025-10-22T10:00:00.123456789Z","data":{}}',
        Form.V1,
    ),
    "ts with an offset": (
        b'{"ts":"2025-10-22T00:30:00+01:00","data":{}}',
        b'{"ts":"2025-10-21T23:30:00Z","data":{}}',
        Form.V2_1,
    ),
    "CRLF": (V1 + b"\r", V2_1 + b"\r", Form.V1),
    "a byte order mark": (b"\xef\xbb\xbf" + V1, b"\xef\xbb\xbf" + V2_1, Form.V1),
}

UNCHANGED = {
    "v2.1": V2_1,
    "v2.1 with fields of its own": b'{"x":1,"ts":' + S + b',"data":{},"y":[]}',
    "v2.1 with spaces": b' { "ts" : ' + S + b' , "data" : { } } \r',
    "v2.1 without data": b'{"ts":' + S + b',"type":"job.succeeded"}',
}

LEFT = {
    "both keys": (b'{"timestamp":"2025-10-22T10:00:00","ts":' + S + b"}", "both", True),
    "no stamp": (b'{"type":"x","a":1}', "neither", True),
    "an empty object": (b"{}", "neither", True),
    "a stamp that is a number": (b'{"timestamp":1761127200.5}', "no time", True),
    "a stamp that is null": (b'{"ts":null}', "no time", True),
    "a day that does not exist": (b'{"timestamp":"2025-02-30T10:00:00"}', "no time", True),
    "an hour that does not exist": (b'{"timestamp":"2025-02-20T24:00:00"}', "no time", True),
    "a date alone": (b'{"timestamp":"2025-02-20"}', "no time", True),
    "an offset out of all calendars": (b'{"ts":"0001-01-01T00:00:00+10:00"}', "no time", True),
    "NaN": (b'{"timestamp":"2025-10-22T10:00:00","data":{"a":NaN}}', "NaN", False),
    "an infinity": (b'{"ts":' + S + b',"a":[-Infinity]}', "Infinity", False),
    "timestamp twice": (b'{"timestamp":"a","timestamp":"b"}', "`timestamp` twice", False),
    "type twice": (b'{"ts":' + S + b',"type":"a","type":"b"}', "`type` twice", False),
    "data twice": (b'{"ts":' + S + b',"data":{},"data":{}}', "`data` twice", False),
    "an array": (b"[1]", "no JSON object", False),
    "a string": (b'"x"', "no JSON object", False),
    "text": (b"INFO started", "no JSON object", False),
    "a cut-off line": (V1[:-5], "no JSON object", False),
    "two objects glued": (V1 + V1, "no JSON object", False),
    "a comma too many": (b'{"ts":' + S + b",}", "no JSON object", False),
    "a comma too few": (b'{"ts":' + S + b' "a":1}', "no JSON object", False),
    "a raw control character": (b'{"ts":' + S + b',"a":"\x01"}', "no JSON object", False),
    "a number that is none": (b'{"ts":' + S + b',"a":01}', "no JSON object", False),
    "zeros": (b"\0" * 40, "no JSON object", False),
    "bytes that are not UTF-8": (b'{"ts":' + S + b',"a":"\xff"}', "not UTF-8", False),
    "a hundred thousand brackets": (b'{"a":' + b"[" * 100_000, "nests too deep", False),
}


@pytest.mark.parametrize("name", CHANGED)
def test_all_bytes_stay_but_those_that_must_change(name):
    line, expected, form = CHANGED[name]
    assert convert(line) == (form, expected, "")


@pytest.mark.parametrize("name", CHANGED)
def test_a_second_time_changes_nothing(name):
    new = CHANGED[name][1]
    assert convert(new) == (Form.V2_1, new, "")


@pytest.mark.parametrize("name", UNCHANGED)
def test_todays_lines_stay_as_they_are(name):
    assert convert(UNCHANGED[name]) == (Form.V2_1, UNCHANGED[name], "")


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_decided_is_left_with_a_reason(name):
    line, reason, readable = LEFT[name]
    form, same, left = convert(line)
    assert same == line
    assert reason in left
    assert form is (Form.OTHER if readable else Form.UNREADABLE)


@pytest.mark.parametrize("name", LEFT)
def test_a_reader_gets_every_object_and_is_told_of_the_rest(name):
    line, reason, readable = LEFT[name]
    if readable:
        assert upcast(line) == line
    else:
        with pytest.raises(EventInvalid, match=reason) as caught:
            upcast(line, seq=7, offset=99)
        assert (caught.value.seq, caught.value.offset) == (7, 99)


def test_a_reader_gets_no_byte_order_mark():
    assert upcast(b"\xef\xbb\xbf" + V2_1) == V2_1


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2025-10-22T10:00:00", UTC, "2025-10-22T10:00:00Z"),
        ("2025-10-22 10:00:00,125", UTC, "2025-10-22T10:00:00.125Z"),
        ("2025-10-22t10:00:00z", UTC, "2025-10-22T10:00:00Z"),
        ("2025-10-22T10:00:00", ZoneInfo("Europe/Berlin"), "2025-10-22T08:00:00Z"),
        ("2025-12-22T10:00:00", ZoneInfo("Europe/Berlin"), "2025-12-22T09:00:00Z"),
        ("2025-10-26T02:30:00", ZoneInfo("Europe/Berlin"), "2025-10-26T00:30:00Z"),
        ("2025-10-22T10:00:00Z", ZoneInfo("Europe/Berlin"), "2025-10-22T10:00:00Z"),
        ("2025-10-22T10:00:00-0530", timezone(timedelta(hours=3)), "2025-10-22T15:30:00Z"),
        ("2025-01-01T00:00:00.9+00:00:30", UTC, "2024-12-31T23:59:30.9Z"),
        ("0999-01-01T00:00:00", UTC, "0999-01-01T00:00:00Z"),
        ("2025-10-22T10:00:60Z", UTC, None),
        ("٢٠٢٥-10-22T10:00:00", UTC, None),
    ],
)
def test_stamps_become_utc_with_the_fraction_they_have(text, zone, expected):
    assert utc(text, zone) == expected


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TOP = st.dictionaries(
    st.sampled_from(["level", "job_id", "type", "step", "seq", "a", "é", "tsx", "Data"])
    | st.text(),
    VALUES,
    max_size=6,
)


@given(
    top=TOP,
    key=st.sampled_from(["ts", "timestamp"]),
    at=st.integers(0, 6),
    layout=st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
    ascii_only=st.booleans(),
)
def test_any_line_keeps_its_values_and_settles_at_once(top, key, at, layout, ascii_only):
    top = {name: value for name, value in top.items() if name not in ("ts", "timestamp")}
    members = list(top.items())
    members.insert(at, (key, "2025-10-22T10:00:00.5"))
    line = json.dumps(dict(members), separators=layout, ensure_ascii=ascii_only).encode(
        "utf-8", "replace"
    )
    form, new, left = convert(line)
    assert not left
    expected = {name: value for name, value in json.loads(line).items() if name != key}
    if "data" not in expected:
        stay = {"level", "job_id", "type", "step"}
        moved = {name: value for name, value in expected.items() if name not in stay}
        expected = {name: value for name, value in expected.items() if name in stay}
        if moved:
            expected["data"] = moved
    expected["ts"] = "2025-10-22T10:00:00.5Z"
    assert json.loads(new) == expected
    assert convert(new) == (Form.V2_1, new, "")
    assert form is not Form.OTHER
