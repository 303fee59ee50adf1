"""The line: how an event becomes bytes, and how bytes prove that they are whole."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logkit import Noted, every_flip, note

from eventlog import EventInvalid, LineTooLong, codec, scan
from eventlog.lines import BytesSource, split

TS = "2026-11-23T10:00:01.204417Z"
PREV = "q83vEjRWeJCrze8S"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_a_line_is_what_the_format_says_byte_by_byte():
    members = b'"type":"noted","data":{"n":1}'
    line, total = codec.seal(17, TS, members, PREV, 16)
    body = (
        b'{"seq":17,"ts":"2026-11-23T10:00:01.204417Z","type":"noted","data":{"n":1},"dur":16,'
        b'"prev":"q83vEjRWeJCrze8S"'
    )
    expected = base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:12])
    assert line == body + b',"sum":"' + expected + b'"}\n'
    assert total == expected.decode()
    assert list(json.loads(line)) == ["seq", "ts", "type", "data", "dur", "prev", "sum"]


def test_a_line_without_members_is_json_too():
    line, _ = codec.seal(0, TS, b"", codec.GENESIS)
    assert list(json.loads(line)) == ["seq", "ts", "prev", "sum"]
    assert codec.unseal(line[:-1]) is not None


@given(
    value=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values),
    seq=st.integers(0, 10**17),
    dur=st.none() | st.integers(0, 10**17),
)
def test_what_is_encoded_and_sealed_comes_back(value, seq, dur):
    line, total = codec.seal(seq, TS, codec.encode_members({"data": value}), PREV, dur)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    said = codec.unseal(line[:-1])
    assert said is not None
    assert (said.seq, said.prev, said.sum, said.dur) == (seq, PREV, total, dur)
    assert total == base64.urlsafe_b64encode(hashlib.sha256(said.body).digest()[:12]).decode()
    assert codec.follows(line[:-1], seq, PREV) == total == codec.said_sum(line[:-1])
    assert json.loads(line)["data"] == value


@given(st.binary(max_size=400))
def test_no_bytes_make_unsealing_raise(data):
    assert codec.unseal(data) is None
    assert codec.follows(data, 0, codec.GENESIS) is None


def test_every_flipped_bit_of_a_line_shows():
    line, _ = codec.seal(3, TS, codec.encode_members(note(1)), PREV, 2)
    for offset, flipped in every_flip(line[:-1]):
        assert codec.unseal(flipped) is None, offset
        assert codec.follows(flipped, 3, PREV) is None, offset


@pytest.mark.parametrize("ending", [b'"', b"x", b"}"])
@pytest.mark.parametrize("prev", [b"A" * 16, b"\xff" * 16, "é".encode() * 8])
def test_what_unseals_is_due_in_its_own_place(prev, ending):
    body = b'{"seq":3,"type":"x","prev":"' + prev + ending
    line = body + b',"sum":"' + codec.checksum(body).encode() + b'"}'
    said = codec.unseal(line)
    assert (said is not None) is (prev.isascii() and ending == b'"')
    assert said is None or codec.follows(line, said.seq, said.prev) == said.sum


@pytest.mark.parametrize(("seq", "prev"), [(4, PREV), (2, PREV), (30, PREV), (3, codec.GENESIS)])
def test_a_whole_line_is_not_due_in_another_place(seq, prev):
    line, total = codec.seal(3, TS, b'"type":"x"', PREV)
    assert codec.follows(line[:-1], 3, PREV) == total
    assert codec.follows(line[:-1], seq, prev) is None


@pytest.mark.parametrize(
    "members",
    [b'"type":"x"', b'"type":"x","data":{"dur":9}', b'"type":"x","data":{"a":{"dur":9}}'],
)
def test_dur_is_read_from_its_own_place_only(members):
    said = codec.unseal(codec.seal(10, TS, members, PREV)[0][:-1])
    assert said is not None
    assert said.dur is None
    said = codec.unseal(codec.seal(10, TS, members, PREV, 7)[0][:-1])
    assert said is not None
    assert said.dur == 7


@given(st.integers(0, 4_102_444_800 * 10**9))
def test_a_stamp_is_the_time_in_utc_cut_to_microseconds(time_ns):
    expected = datetime.fromtimestamp(time_ns // 10**9, UTC).replace(
        microsecond=time_ns % 10**9 // 1000
    )
    text = codec.Stamper()(time_ns)
    assert text == expected.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_a_stamper_notices_that_the_second_changed_in_either_direction():
    stamp = codec.Stamper()
    assert [stamp(n)[17:] for n in (999_999_999, 1_000_000_000, 999_999_000)] == [
        "00.999999Z",
        "01.000000Z",
        "00.999999Z",
    ]


@dataclasses.dataclass
class Point:
    x: float
    y: Any = None


class Renamed(msgspec.Struct):
    inner: Any = msgspec.field(name="$inner")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"data": float("nan")}, "$.data"),
        ({"data": {"a": [1, {"b": float("inf")}]}}, "$.data.a[1].b"),
        ({"data": (0.0, -float("inf"))}, "$.data[1]"),
        ({"data": {float("nan")}}, "$.data[0]"),
        ({"data": Point(1.0, [float("nan")])}, "$.data.y[0]"),
        ({"data": Renamed(float("nan"))}, "$.data.$inner"),
        (note(1, deep={"x": float("nan")}), "$.data.deep.x"),
    ],
)
def test_a_number_that_json_lacks_is_refused_with_its_path(value, path):
    with pytest.raises(EventInvalid) as caught:
        codec.encode_members(value)
    assert f"{path} is NaN or infinite" in caught.value.message


def test_none_and_the_text_null_are_no_nan():
    assert codec.encode_members({"a": None, "b": "null", "c": [None]}) == (
        b'"a":null,"b":"null","c":[null]'
    )


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"data": {"a": ["ok", "\ud800"]}}, "$.data.a[1]"),
        ({"data": {"k\udfff": 1}}, "$.data"),
        ({"data": {"a": object()}}, "$.data.a"),
        ({"data": [1, {None: 1}]}, "$.data[1]"),
        (note(1, more=[10**5000]), "$.data.more[0]"),
        (note(1, more=[1j]), "$.data.more[0]"),
    ],
)
def test_what_can_not_be_json_is_refused_with_its_path(value, path):
    with pytest.raises(EventInvalid) as caught:
        codec.encode_members(value)
    assert f": {path}: " in caught.value.message


def test_integers_beyond_64_bits_are_kept_exactly():
    big = [2**64, -(2**63) - 1, 10**200]
    members = codec.encode_members({"data": big})
    assert msgspec.json.decode(b"{" + members + b"}")["data"] == big


def test_a_set_becomes_an_array():
    assert codec.encode_members({"data": {7}}) == b'"data":[7]'


@pytest.mark.parametrize("value", [[1], "text", 3, None, (1, 2)])
def test_only_an_object_is_an_event(value):
    with pytest.raises(EventInvalid, match="must be a JSON object"):
        codec.encode_members(value)


def nested(depth: int) -> Any:
    value: Any = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_the_deepest_value_is_as_deep_as_the_limit_says():
    codec.encode_members({"data": nested(codec.MAX_DEPTH - 1)})
    with pytest.raises(EventInvalid, match="nests deeper than 64"):
        codec.encode_members({"data": nested(codec.MAX_DEPTH)})
    codec.encode_members({"data": [[{}] for _ in range(500)]})  # wide is not deep


def test_a_value_that_holds_itself_is_refused():
    loop: dict[str, Any] = {}
    loop["data"] = loop
    with pytest.raises(EventInvalid, match="too deep"):
        codec.encode_members(loop)


def test_ready_made_json_with_a_line_break_is_refused():
    with pytest.raises(EventInvalid, match="line break"):
        codec.encode_members({"data": msgspec.Raw(b'{\n"a":1}')})
    assert codec.encode_members({"data": msgspec.Raw(b'{"a":1}')}) == b'"data":{"a":1}'


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\r", "\n", "\x1c"])
def test_no_character_in_a_text_ends_a_line(char):
    text = f"a{char}b"
    first, total = codec.seal(0, TS, codec.encode_members({"data": text}), codec.GENESIS)
    second, _ = codec.seal(1, TS, codec.encode_members({"data": text}), total)
    lines = [line for _, line in split(BytesSource(first + second))]
    assert [json.loads(line)["data"] for line in lines] == [text, text]
    assert all(codec.unseal(line[:-1]) for line in lines)


def test_a_line_over_the_limit_names_both_numbers():
    codec.check_length(b"x" * 10, 10)
    with pytest.raises(LineTooLong, match="a line of 11 bytes is over the limit of 10"):
        codec.check_length(b"x" * 11, 10)


def test_a_type_is_decoded_from_the_whole_line():
    line, _ = codec.seal(5, TS, codec.encode_members(note(4)), PREV, 3)
    assert msgspec.json.decode(line, type=Noted) == note(4)
    assert scan(BytesSource(line)).reason  # and the line alone is no log


def test_a_time_that_was_refused_spoils_no_later_one():
    stamp = codec.Stamper()
    for wrong in (1_700_000_000_000_000_000.5, 1.5, float("nan"), "1", 10**30):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            stamp(wrong)
        assert stamp(1_700_000_000_000_001_999) == "2023-11-14T22:13:20.000001Z"
        assert stamp(1_999) == "1970-01-01T00:00:00.000001Z"
        assert stamp(-1) == "1969-12-31T23:59:59.999999Z"
