"""Whole blocks of lines by the rules for one: the two ways must never disagree."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import Event, EventInvalid, LineTooLong, Log, bulk, codec, lines
from eventlog.lines import CHUNK, READ_LIMIT, BytesSource, blocks, each, split
from eventlog.sealer import Sealer

SUM = b',"sum":"0123456789abcdef"}'
FAKES = [b"", b"{}", b'{"seq":' + SUM, b'{"seq":1' + SUM, SUM, b'{"seq":1,"x":' + SUM[:-1]]


def chain(first: int, count: int, text: str = "ä") -> list[bytes]:
    members = [b'"type":"a","data":"%b"' % (text * n).encode() for n in range(count)]
    sealed, _ = codec.seal_all(first, "2025-10-22T10:00:00.000000Z", members, codec.GENESIS)
    return [line[:-1] for line in sealed]


def one_by_one(given: list[bytes], seq: int, prev: str) -> str | None:
    for line in given:
        total = codec.follows(line, seq, prev)
        if total is None:
            return None
        seq, prev = seq + 1, total
    return prev


@pytest.mark.parametrize("first", [0, 5, 10, 123456])
def test_a_sound_chain_is_taken_whole(first):
    given = chain(first, 4)
    head = bulk.follow_all(given, first, codec.GENESIS)
    assert head == one_by_one(given, first, codec.GENESIS) == codec.said_sum(given[-1])
    assert bulk.sums_hold(given)
    assert bulk.sealed_lines(b"\n".join(given) + b"\n") == given


def test_where_the_seq_grows_a_digit_the_lines_are_left_to_the_rules_for_one():
    assert bulk.follow_all(chain(8, 2), 8, codec.GENESIS) is not None
    assert bulk.follow_all(chain(8, 3), 8, codec.GENESIS) is None
    assert bulk.follow_all([], 8, codec.GENESIS) is None


def test_no_flipped_bit_and_no_other_order_is_taken():
    given = chain(5, 3)
    text = b"\n".join(given)
    for at in range(len(text) * 8):
        changed = bytearray(text)
        changed[at // 8] ^= 1 << at % 8
        wrong = bytes(changed).split(b"\n")
        assert bulk.follow_all(wrong, 5, codec.GENESIS) is None
        if len(wrong) == 3 and bulk.sealed_lines(bytes(changed) + b"\n"):
            assert not bulk.sums_hold(wrong)
    a, b, c = given
    for wrong in ([b, a, c], [a, a, b], [a, c], [b, c]):
        assert bulk.follow_all(wrong, 5, codec.GENESIS) is None
    assert bulk.follow_all(given, 6, codec.GENESIS) is None
    assert bulk.follow_all(given, 5, "B" * 16) is None


@given(st.lists(st.sampled_from(chain(5, 3) + FAKES) | st.binary(max_size=60), max_size=4))
def test_both_ways_agree_on_any_lines(given):
    given = [line.replace(b"\n", b" ") for line in given]
    assert bulk.follow_all(given, 5, codec.GENESIS) == (
        one_by_one(given, 5, codec.GENESIS) if given else None
    )
    found = bulk.sealed_lines(b"\n".join(given) + b"\n")
    if given:
        assert (found is not None) == all(map(codec.looks_sealed, given))
    if found:
        # A line needs more than its sum: who asks for that alone, gets that alone.
        assert bulk.sums_hold(found) or any(codec.unseal(line) is None for line in found)


# --- writing ---------------------------------------------------------------------------------


class Said(Event, frozen=True, kw_only=True, tag="said"):
    data: Any = None


class Told(Event, frozen=True, kw_only=True, tag="told", omit_defaults=True):
    data: float = 0.0
    to: str = ""


class Listed(Event, frozen=True, kw_only=True, tag="listed", array_like=True):
    data: int = 0


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


VALUES = st.sampled_from(
    [
        *(None, "null", "", "ä\n{[", "}\n{", 1.5, float("nan"), [None, float("-inf")], {"a": None}),
        *(b"ab", {1}, object(), "\ud800", 10**400, [[[]]] * 40),
        *(nested(62), nested(63), nested(64), nested(90)),
        *map(msgspec.Raw, (b"{}", b"1\n", b'1}\n{"a":2', b'"}\n{"', b"[\n]")),
    ]
)
EVENTS = (
    st.builds(Said, data=VALUES)
    | st.builds(Told, data=st.floats(), to=st.text(max_size=3))
    | st.just(Listed())
    | st.builds(lambda value: {"type": "said", "data": value}, VALUES)
    | st.sampled_from([[], [1], "text", None, 5])
)


def told(call: Any, *arguments: Any) -> Any:
    """Return what a call returns, or says when it refuses."""
    try:
        return call(*arguments)
    except EventInvalid as error:
        return str(error)


@given(st.lists(EVENTS, min_size=1, max_size=5))
def test_events_are_encoded_together_as_each_alone_or_left_to_that(events):
    together = bulk.encode_all(events)
    alone = told(lambda: [codec.encode_members(event) for event in events])
    assert together is None or together == alone
    if isinstance(alone, list) and all(len(one) < codec.MAX_DEPTH for one in alone):
        assert together is not None


def level(event: Any) -> dict[str, Any]:
    return {"level": "high" if getattr(event, "to", "") else "low"}


def number(event: Any) -> dict[str, Any]:
    return {"n": 1 if getattr(event, "to", "") else True}


def sometimes(event: Any) -> dict[str, Any]:
    return {"to": "x"} if isinstance(event, Said) else {}


@pytest.mark.parametrize("fields", [None, {"job": "a"}, level, number, sometimes])
@given(events=st.lists(EVENTS, min_size=1, max_size=5), dur=st.none() | st.just(6))
def test_a_batch_is_sealed_as_its_events_one_by_one(fields, events, dur):
    time_ns = 1_700_000_000_123_456_789

    def one_by_one() -> tuple[list[bytes], str]:
        seal, head, found = Sealer(fields), codec.GENESIS, []
        for seq, event in enumerate(events, 7):
            sealed, head = seal([event], seq, head, time_ns, None if found else dur)
            found += sealed
        return found, head

    seal = Sealer(fields)
    due = told(one_by_one)
    for _ in range(2):  # it has met the types the second time
        assert told(seal, events, 7, codec.GENESIS, time_ns, dur) == due


def test_members_that_are_equal_but_not_the_same_text_are_each_written():
    seal = Sealer(number)
    for _ in range(2):
        found, _ = seal([Told(), Told(to="a"), Told()], 0, codec.GENESIS, 0)
        assert [b'"n":true' in line for line in found] == [True, False, True]


# --- blocks ---------------------------------------------------------------------------------


class Dribble(BytesSource):
    """Gives three bytes at most."""

    def read_at(self, offset: int, size: int) -> bytes:
        return super().read_at(offset, min(size, 3))


@given(st.lists(st.binary(max_size=9)).map(b"\n".join))
def test_blocks_hold_the_lines_that_split_finds(data):
    for source in (BytesSource(data), Dribble(data)):
        found = list(blocks(source))
        assert b"".join(block for _, block in found) == data
        assert all(data[at : at + len(block)] == block for at, block in found)
        assert [line for _, block in found for line in each(block)] == [
            line for _, line in split(source)
        ]
        assert all(block.endswith(b"\n") for _, block in found[:-1])


@pytest.mark.parametrize("sizes", [[CHUNK - 1, 5], [CHUNK, 5], [3, CHUNK * 3 + 1, 0, CHUNK - 2]])
@pytest.mark.parametrize("end", [b"\n", b"", b"cut"])
def test_lines_longer_than_a_block_are_whole(sizes, end):
    data = b"\n".join(b"x" * size for size in sizes) + end
    found = list(blocks(BytesSource(data)))
    assert b"".join(block for _, block in found) == data
    assert [block.endswith(b"\n") for _, block in found] == [
        block is not found[-1][1] or end == b"\n" for _, block in found
    ]
    start = sizes[0] + 1
    assert list(blocks(BytesSource(data), start)) == [
        (at + start, block) for at, block in blocks(BytesSource(data[start:]))
    ]


def test_a_line_of_the_limit_is_read_and_one_byte_more_is_not(monkeypatch):
    monkeypatch.setattr(lines, "READ_LIMIT", 2 * CHUNK)
    whole = b"a\n" + b"x" * (2 * CHUNK)
    assert [len(block) for _, block in blocks(BytesSource(whole + b"\n"))] == [2, 2 * CHUNK + 1]
    assert [len(block) for _, block in blocks(BytesSource(whole))] == [2, 2 * CHUNK]
    for longer in (whole + b"x", whole + b"x\n"):
        with pytest.raises(LineTooLong) as caught:
            list(blocks(BytesSource(longer)))
        assert caught.value.offset == 2
    assert READ_LIMIT == 16 << 20


def test_a_file_that_shrinks_while_it_is_read_ends_there():
    class Shrunk(BytesSource):
        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self.size += 1000

    assert list(blocks(Shrunk(b"a\nb"))) == [(0, b"a\n"), (2, b"b")]


def test_a_scan_of_many_blocks_is_the_scan_of_each_line(tmp_path, monkeypatch):
    from eventlog import recover

    path = tmp_path / "events.jsonl"
    with Log(path) as log:
        for n in range(60):
            log.append(*({"type": "a", "data": "x" * (n * 9 % 700)} for _ in range(20)))
    data = path.read_bytes()
    fast = recover.scan(BytesSource(data))
    monkeypatch.setattr(recover, "_take_all", lambda found, block: False)
    assert recover.scan(BytesSource(data)) == fast
    assert (fast.lines, fast.end) == (1201, len(data))
