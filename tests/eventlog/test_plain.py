"""Plain lines, taken many at once, become what the rule for any line makes of each."""

from __future__ import annotations

import json
from datetime import UTC, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import plain as module
from eventlog import tails
from eventlog.plain import plain, plain_block
from eventlog.upcast import Converted, convert, convert_any

DATA = Path(__file__).parent.parent / "data"
ZONES = [
    UTC,
    timezone(timedelta(hours=2)),
    timezone(timedelta(seconds=30)),
    ZoneInfo("Europe/Berlin"),
]
STAMP = '"2025-10-22T10:00:00'


def agrees(lines, tz=UTC):
    """Check each line alone and all together; return how many are plain."""
    together = plain(lines, tz)
    for line, new in zip(lines, together, strict=True):
        due = convert_any(line, tz)
        if new is not None:
            assert (new, "") == (due.line, due.left), line
            assert new is line or new != line
        assert convert(line, tz) == due, line
    block = plain_block(b"".join(line + b"\n" for line in lines), tz)
    if block is not None:
        due = [convert_any(line, tz).line for line in lines]
        changed = sum(new != line for new, line in zip(due, lines, strict=True))
        assert block == (b"".join(line + b"\n" for line in due), len(lines), changed)
        assert None not in together
    return sum(new is not None for new in together)


# --- lines as programs write them, and slightly otherwise -------------------------------------

NAMES = st.sampled_from(
    [
        "level",
        "job_id",
        "type",
        "step",
        "data",
        "ts",
        "timestamp",
        "a",
        "duration_s",
        "é",
        "_",
        "x:y",
    ]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "x", "architect", 'q"uote', "back\\slash", "é🌱", '"data":{', "log.opened"]
    ),
    st.sampled_from([{}, {"a": 1}, [1, [2]], {"ts": 1}, {"data": {}}, {"timestamp": "x"}, [{}]]),
)
STAMPS = st.sampled_from(
    [
        "2025-10-22T10:00:00",
        "2025-10-22T10:59:59.123456",
        "2025-10-22T10:00:00Z",
        "2025-10-22T10:00:00.1Z",
        "2025-10-22T11:00:00.1234567890",
        "2025-02-30T10:00:00",
        "2025-10-22T10:60:00",
        "2025-10-22T10:00:60",
        "2025-10-26T02:30:00",
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59",
        "2025-10-22T12:00:00+02:00",
        "2025-10-22T12:00:00.25+02:00",
        "2025-10-22T12:00:00.25+05:30",
        "2025-10-22T12:00:00-00:00",
        "2025-10-22T12:00:00+24:00",
        "0001-01-01T00:00:00+02:00",
        "2025-10-22 10:00:00",
        "never",
        "",
    ]
)


@st.composite
def written(draw):
    """Return a line much like those of old programs."""
    members = [(draw(st.sampled_from(["timestamp", "ts"])), draw(STAMPS))]
    if draw(st.booleans()):
        members += [("level", "INFO"), ("job_id", "job_1"), ("type", draw(st.sampled_from("abc")))]
    if draw(st.booleans()):
        members += [("step", draw(st.sampled_from(["architect", None, 3])))]
    if draw(st.booleans()):
        members += [("data", draw(st.sampled_from([{}, {"a": 1.0}, {"type": "x"}, None, []])))]
    members += draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]))
    parts = [
        json.dumps(name, ensure_ascii=False) + colon + json.dumps(value, ensure_ascii=False)
        for name, value in members
    ]
    text = "{" + comma.join(parts) + "}" + draw(st.sampled_from(["", "", "", "\r", " ", "}", ","]))
    return text.encode()


@st.composite
def spoiled(draw):
    """Return such a line with some bytes replaced, taken out or put in."""
    line = bytearray(draw(written()))
    at = draw(st.integers(0, len(line)))
    junk = draw(
        st.one_of(
            st.binary(max_size=3),
            st.sampled_from([b'"', b"\\", b"{", b"}", b",", b":", b" ", b"NaN", b"\\u0041", b"0"]),
        )
    )
    line[at : at + draw(st.integers(0, 3))] = junk
    return bytes(line).replace(b"\n", b" ")


@settings(max_examples=400, deadline=None)
@given(lines=st.lists(written() | spoiled(), min_size=1, max_size=8), tz=st.sampled_from(ZONES))
def test_many_at_once_become_what_each_becomes_alone(lines, tz):
    agrees(lines, tz)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=5))
def test_any_bytes_become_what_the_rule_for_any_line_makes_of_them(lines):
    agrees(lines)


GLUED = [
    b'{"ts":"2025-10-22T10:00:00Z","data":{}}{"x":1}',
    b'{"ts":"2025-10-22T10:00:00Z","data":[1,',
    b'{"ts":"2025-10-22T10:00:00Z","data":2}]}',
]


def test_a_block_of_one_look_is_taken_as_a_whole():
    v1 = [b'{"timestamp":"2025-10-22T10:00:%02d","type":"x","data":{}}' % n for n in range(60)]
    v2_0 = [b'{"ts": "2025-10-22T10:00:%02dZ", "type": "x", "n": 1}' % n for n in range(60)]
    for lines, bare in ((v1, v1[:1]), (v2_0, [b'{"ts": "2025-10-22T10:00:00Z", "type": "x"}'])):
        assert agrees(lines + bare) == 61
        assert plain_block(b"\n".join(lines + bare) + b"\n") is not None
        assert plain_block(b"\n".join([*lines, *bare, b""]) + b"\n") is None


def test_a_value_that_goes_on_over_lines_does_not_make_up_for_two_in_one():
    assert agrees(GLUED) == 0
    assert agrees([*GLUED, b'{"ts":"2025-10-22T10:00:00Z","data":{}}']) == 1


@pytest.mark.parametrize(
    ("line", "is_plain"),
    [
        (b'{"timestamp":"2025-10-22T10:00:00","type":"x","data":{}}', True),
        (b'{"timestamp": "2025-10-22T10:00:00", "type": "x", "step": null, "data": {}}', True),
        (b'{"ts":"2025-10-22T10:00:00Z","type":"x","n":1}', True),
        (b'{"ts": "2025-10-22T10:00:00Z", "type": "x", "step": null, "n": 1, "m": 2}', True),
        (b'{"ts":"2025-10-22T10:00:00Z","type":"x"}', True),
        (b'{"ts":"2025-10-22T10:00:00Z","n":1,"type":"x","data":{},"more":[]}', True),
        (b'{"ts":"2025-10-22T10:00:00Z","type":"x","data":{},"type":"y"}', False),
        (b'{"ts":"2025-10-22T10:00:00Z","type":"x","data":{},"ty\\u0070e":"y"}', False),
        (b'{"ts":"2025-10-22T10:00:00Z","type":"x","type":"y","data":{}}', False),
        (b'{"ts":"2025-10-22T10:00:00Z","type":"log.opened","data":{}}', False),
        (b'{"ts":"2025-10-22T10:00:00Z","a":"\\ud800"}', False),
        (b'{"ts":"2025-10-22T10:00:00Z","a\\":":1}', False),
        (b'{"ts":"2025-10-22T10:00:00Z","a":1 }', False),
        (b'{"ts":"2025-10-22T10:00:00Z","a" :1}', False),
        (b'{"ts":"2025-10-22T10:00:00Z","a":"\xff"}', False),
        (b'{"ts":"2025-10-22T10:00:00Z","data":', False),
        (b'{"ts":"2025-10-22T10:00:00Z"', False),
        (b'{"ts":"2025-10-22T10:00:00Z",}', False),
        (b"", False),
    ],
)
def test_what_is_plain_and_what_is_not(line, is_plain):
    assert agrees([line]) == is_plain


def test_a_bad_date_does_not_pass_with_the_good_ones_of_its_hour():
    lines = [b'{"ts":"2025-02-30T10:0%d:00Z","data":{}}' % minute for minute in range(5)]
    assert agrees(lines) == 0
    lines = [b'{"ts":"2025-02-20T10:%d0:00Z","data":{}}' % tens for tens in range(8)]
    assert agrees(lines) == 6


def test_a_zone_that_shifts_by_seconds_is_left_to_the_rule():
    assert agrees([b'{"timestamp":"2025-10-22T10:00:00","data":{}}'], ZONES[2]) == 0
    assert agrees([b'{"timestamp":"1890-10-22T10:00:00","data":{}}'], ZONES[3]) == 0


def test_more_looks_than_are_told_apart_are_left_to_the_rule():
    lines = [
        b'{"%b":%b"2025-10-22T10:00:00%b%b","data":{}}' % (name, space, b"." + b"5" * digits, zone)
        for name in (b"ts", b"timestamp")
        for space in (b"", b" ")
        for zone in (b"", b"Z")
        for digits in range(1, 9)
    ]
    assert agrees(lines) == module.MAX_LOOKS


def test_what_was_seen_is_forgotten_when_there_is_too_much_of_it(monkeypatch):
    monkeypatch.setattr(module, "CACHED", 3)
    monkeypatch.setattr(tails, "CACHED", 3)
    lines = [
        b'{"ts":"2025-10-%dT%d:00:00Z","step":"s%d","data":{}}' % (day, hour, hour)
        for day in (11, 12)
        for hour in range(10, 20)
    ]
    assert agrees(lines) == 20
    assert len(tails._heads) <= 3
    assert len(module._minutes) <= 3


@pytest.mark.parametrize("path", sorted(DATA.glob("*/events.jsonl")), ids=lambda p: p.parent.name)
def test_the_lines_of_old_logs_are_plain(path):
    lines = [line for line in path.read_bytes().split(b"\n")[:-1] if line]
    assert agrees(lines) == len(lines)


def test_offsets_of_one_look_may_differ():
    lines = [
        b'{"ts":"2025-10-26T02:%02d:00+0%d:00","data":{}}' % (minute, offset)
        for minute in (0, 59)
        for offset in (1, 2, 9)
    ]
    assert agrees(lines) == 6
    block = plain_block(b"".join(line + b"\n" for line in lines))
    assert block is not None
    assert b'{"ts":"2025-10-25T17:59:00Z","data":{}}\n' in block[0]


def test_the_result_says_what_the_line_was():
    assert convert(b'{"ts":"2025-10-22T10:00:00Z","data":{}}') == Converted(
        "v2.1", b'{"ts":"2025-10-22T10:00:00Z","data":{}}', ""
    )
