"""Bytes -> whole, torn or damaged, and where."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logkit import every_flip, small_log

from eventlog import Durability, LineTooLong, Log, Verdict, codec, scan
from eventlog.lines import READ_LIMIT, BytesSource, split
from eventlog.recover import SECTOR, is_too_new

V1 = (
    b'{"timestamp":"2025-10-22T10:00:00","type":"step.started","step":"a"}\n'
    b"\n"
    b'{"timestamp":"2025-10-22T10:00:01","type":"step.done","sum":42,"seq":"x"}\n'
)


def look(data: bytes):
    return scan(BytesSource(data))


def starts(data: bytes) -> list[int]:
    """Offset of each line, and of the end."""
    return [offset for offset, _ in split(BytesSource(data))] + [len(data)]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> bytes:
    """`log.opened`, and three batches of two."""
    return small_log(tmp_path_factory.mktemp("log") / "events.jsonl")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> bytes:
    """Lines of another version, then two writers' legs."""
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    path.write_bytes(V1)
    small_log(path, batches=1)
    return small_log(path, batches=2)


def test_a_sound_log_is_whole_and_says_where_it_ends(data):
    found = look(data)
    assert found.verdict is Verdict.WHOLE
    assert (found.lines, found.end, found.epoch, found.format) == (7, len(data), 1, codec.FORMAT)
    assert found.head.encode() == data[-19:-3]
    assert found.sealed
    assert (found.unsealed, found.bad_seq, found.reason) == (0, None, "")


def test_a_log_continued_over_unsealed_lines_is_whole(mixed):
    found = look(mixed)
    assert found.verdict is Verdict.WHOLE
    assert (found.lines, found.unsealed, found.unsealed_bytes) == (11, 3, len(V1))
    assert found.unsealed_sha256 == hashlib.sha256(V1).hexdigest()
    assert found.epoch == 2


def test_a_log_cut_at_any_byte_is_its_whole_lines_and_a_torn_tail(data, mixed):
    for original in (data, mixed):
        ends = starts(original)
        for size in range(len(original) + 1):
            found = look(original[:size])
            whole = sum(1 for end in ends[1:] if end <= size)
            if size in ends:
                assert found.verdict is Verdict.WHOLE
            elif size + 1 in ends:
                assert (found.verdict, found.junk) == (Verdict.UNTERMINATED, 0)
                whole += 1
            else:
                assert found.verdict is Verdict.TORN, size
                assert (found.bad_seq, found.bad_offset) == (whole, ends[whole])
            assert found.lines == whole
            assert found.end == min(ends[whole], size)


def test_every_flipped_bit_shows_with_the_seq_of_its_line(data):
    ends = starts(data)
    for offset, flipped in every_flip(data):
        found = look(flipped)
        seq = sum(1 for end in ends[1:] if end <= offset)
        if offset == len(data) - 1:  # the last newline: the event is whole without it
            assert (found.verdict, found.junk) == (Verdict.UNTERMINATED, 1)
            assert (found.lines, found.end) == (7, len(data) - 1)
        else:
            assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, seq), offset
            assert found.bad_offset == ends[seq]


def test_every_flipped_bit_below_or_in_sealed_lines_shows_when_unsealed_ones_stand_before(mixed):
    for offset, flipped in every_flip(mixed):
        found = look(flipped)
        if offset == len(mixed) - 1:
            assert found.verdict is Verdict.UNTERMINATED
        else:
            assert found.verdict is Verdict.DAMAGED, offset
            # In what was sealed over, the first writer's log.opened is what shows it.
            assert found.bad_seq is not None
            assert found.bad_seq >= 2


def rows(data: bytes) -> list[bytes]:
    return [line for _, line in split(BytesSource(data))]


def test_a_removed_line_shows_where_it_is_missing(data):
    lines = rows(data)
    for gone in range(len(lines) - 1):
        found = look(b"".join(lines[:gone] + lines[gone + 1 :]))
        assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, gone)


def test_lines_removed_at_the_end_leave_a_sound_shorter_log(data):
    # What only an anchor kept elsewhere can show.
    lines = rows(data)
    for kept in range(1, len(lines)):
        found = look(b"".join(lines[:kept]))
        assert (found.verdict, found.lines) == (Verdict.WHOLE, kept)


def test_a_doubled_line_shows_at_the_second_one(data):
    lines = rows(data)
    for twice in range(len(lines)):
        found = look(b"".join(lines[: twice + 1] + lines[twice:]))
        assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, twice + 1)


def test_two_swapped_lines_show_at_the_first_one(data):
    lines = rows(data)
    for first in range(len(lines)):
        for second in range(first + 1, len(lines)):
            swapped = lines.copy()
            swapped[first], swapped[second] = lines[second], lines[first]
            found = look(b"".join(swapped))
            assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, first)


def test_a_line_of_another_log_does_not_fit(data, tmp_path):
    other = rows(small_log(tmp_path / "other.jsonl"))
    lines = rows(data)
    for seq in range(1, len(lines)):
        found = look(b"".join([*lines[:seq], other[seq], *lines[seq + 1 :]]))
        assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, seq)


# --- rules 2 to 4: what a power cut can leave, and what it can't ---------------------------------


def zeroed(data: bytes, start: int, end: int) -> bytes:
    return data[:start] + b"\0" * (end - start) + data[end:]


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> bytes:
    """Two batches of three lines, each over three sectors long."""
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    return small_log(path, batches=2, size=3, text="x" * 3 * SECTOR)


def test_unwritten_sectors_of_the_last_batch_are_a_torn_tail(wide):
    ends = starts(wide)
    first = ends[4] // SECTOR + 1  # the first sector wholly in the last batch
    for sector in range(first, len(wide) // SECTOR + 1):
        start = sector * SECTOR
        found = look(zeroed(wide, start, min(start + SECTOR, len(wide))))
        seq = sum(1 for end in ends[1:] if end <= start)
        assert (found.verdict, found.bad_seq) == (Verdict.TORN, seq)


def test_a_sector_cut_by_the_batch_s_first_byte_counts_from_there(wide):
    begin = starts(wide)[4]
    assert begin % SECTOR
    found = look(zeroed(wide, begin, (begin // SECTOR + 1) * SECTOR))
    assert (found.verdict, found.bad_seq) == (Verdict.TORN, 4)


def test_a_sector_that_is_partly_zeros_was_written(wide):
    begin = starts(wide)[4] // SECTOR * SECTOR + SECTOR
    found = look(zeroed(wide, begin, begin + SECTOR - 1))
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, 4)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_last_line_that_is_all_there_and_wrong_is_damage_with_or_without_newline(wide, end):
    found = look(wide[:-40] + b"y" + wide[-39:-1] + end)
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, 6)


def test_unwritten_sectors_of_a_batch_that_was_promised_are_damage(wide):
    start = starts(wide)[1] // SECTOR * SECTOR + SECTOR
    found = look(zeroed(wide, start, start + SECTOR))
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, 1)
    assert "seq 4 says that it was durable" in found.reason


def test_a_later_writer_shows_that_all_before_it_was_durable(tmp_path):
    path = tmp_path / "events.jsonl"
    first = small_log(path, size=3, text="x" * 3 * SECTOR, durability=Durability.OS)
    both = small_log(path, batches=1, durability=Durability.OS)
    assert b'"dur"' not in both
    start = starts(first)[-2] // SECTOR * SECTOR + SECTOR
    assert look(zeroed(first, start, start + SECTOR)).verdict is Verdict.TORN
    found = look(zeroed(both, start, start + SECTOR))
    assert found.verdict is Verdict.DAMAGED
    assert "seq 10 says that it was durable" in found.reason


@pytest.mark.parametrize("length", [SECTOR - 9, SECTOR + 1, SECTOR + 200, 3 * SECTOR])
def test_a_power_cut_before_the_first_line_was_written_leaves_a_torn_tail(tmp_path, length):
    path = tmp_path / "events.jsonl"
    bare = len(small_log(tmp_path / "bare.jsonl", batches=0))
    with Log(path, fields={"pad": "p" * (length - bare - len('"pad":"",'))}):
        pass
    first = path.read_bytes()
    assert len(first) == length
    for sector in range(0, length, SECTOR):
        found = look(zeroed(first, sector, min(sector + SECTOR, length)))
        if sector == length - 1:  # no more than the newline is missing
            assert found.verdict is Verdict.UNTERMINATED
        else:
            assert (found.verdict, found.bad_seq, found.end) == (Verdict.TORN, 0, 0)


def test_a_power_cut_before_the_first_sealed_line_leaves_the_unsealed_ones(mixed):
    opened = rows(mixed)[3]
    assert b'"log.opened"' in opened
    for pad in range(1, SECTOR):  # wherever the sector's border falls in it
        prior = b'{"type":"x","pad":"' + b"p" * pad + b'"}\n'
        border = SECTOR - len(prior) % SECTOR
        if border >= len(opened):
            continue
        found = look(prior + b"\0" * border + opened[border:])
        assert (found.verdict, found.bad_seq, found.end) == (Verdict.TORN, 1, len(prior)), pad
        found = look(prior + opened[:border] + b"\0" * (len(opened) - border))
        assert (found.verdict, found.bad_seq, found.end) == (Verdict.TORN, 1, len(prior)), pad


def test_another_tool_s_lines_with_nuls_are_left_to_it():
    nuls = b"\0" * 2 * SECTOR + b"\n"
    found = look(V1 + nuls + V1)
    assert (found.verdict, found.lines) == (Verdict.WHOLE, 7)
    nested = b'{"type":"copied","data":{"type":"log.opened"}}\n'
    found = look(V1 + nested + V1)
    assert (found.verdict, found.lines) == (Verdict.WHOLE, 7)
    assert look(V1 + nested[:-1]).verdict is Verdict.UNTERMINATED
    stripped = b'{"seq":3,"type":"log.opened","data":{}}\n'
    found = look(V1 + stripped + V1 + nuls)
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, 3)  # refused, not cut
    found = look(V1 + b"\0\n")
    assert (found.verdict, found.lines) == (Verdict.WHOLE, 4)


def test_an_unwritten_batch_longer_than_any_line_is_a_torn_tail(data):
    for tail in (b"\0" * (READ_LIMIT + SECTOR), b"\0" * (READ_LIMIT + SECTOR) + b'{"a":1}\n'):
        found = look(data + tail)
        assert (found.verdict, found.bad_seq, found.end) == (Verdict.TORN, 7, len(data))


def test_a_promised_line_under_a_long_run_of_nuls_is_damage(data):
    ends = starts(data)
    found = look(data[: ends[1]] + b"\0" * (READ_LIMIT + SECTOR) + b"\n" + data[ends[3] :])
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, 1)
    assert "says that it was durable" in found.reason


# --- unsealed logs -------------------------------------------------------------------------------


def test_lines_of_another_tool_are_whole_and_unsealed():
    found = look(V1)
    assert found.verdict is Verdict.WHOLE
    assert not found.sealed
    assert (found.lines, found.unsealed) == (3, 3)
    assert (found.unsealed_bytes, found.end) == (len(V1), len(V1))
    assert found.unsealed_sha256 == hashlib.sha256(V1).hexdigest()


def test_an_unsealed_last_line_without_newline_is_whole_if_it_is_an_object():
    for size in range(len(V1) - 20, len(V1) - 1):
        assert look(V1[:size]).verdict is Verdict.TORN
    assert look(V1[:-1]).verdict is Verdict.UNTERMINATED
    assert look(V1 + b'{"type":"\xff"}').verdict is Verdict.TORN


def test_unsealed_lines_after_sealed_ones_are_damage(data):
    found = look(data + V1)
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, 7)
    assert found.reason == "the line is not sealed"


def test_a_log_that_begins_in_its_middle_is_damaged(data):
    found = look(data[starts(data)[2] :])
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, 0)


def forged(*members: bytes) -> bytes:
    """Lines with right sums, whatever they say."""
    out, head = b"", codec.GENESIS
    for seq, member in enumerate(members):
        line, head = codec.seal(seq, "2026-11-23T10:00:01.204417Z", member, head)
        out += line
    return out


def opened(epoch: int, log_id: str = "a", fmt: int = 1) -> bytes:
    return (
        b'"type":"log.opened","data":{"format":%d,"log_id":"%b","epoch":%d,"pid":1,"host":"h"}'
        % (fmt, log_id.encode(), epoch)
    )


@pytest.mark.parametrize(
    ("members", "seq", "reason"),
    [
        ([b'"type":"noted"'], 0, "the first sealed line is no log.opened"),
        ([b'"type":"log.opened","data":{}'], 0, "the first sealed line is no log.opened"),
        ([b'"type":"log.opened","x":"\xff"'], 0, "the first sealed line is no log.opened"),
        ([opened(0)], 0, "epoch 0 does not rise above 0"),
        ([opened(1), opened(1)], 1, "epoch 1 does not rise above 1"),
        ([opened(1), opened(2, "b")], 1, "a log.opened of another log"),
        ([opened(1), b'"type":"x","data":{"type":"log.opened","data":1}', opened(1)], 2, "epoch 1"),
    ],
)
def test_whole_lines_that_make_no_log_are_told_apart(members, seq, reason):
    found = look(forged(*members))
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, seq)
    assert found.reason.startswith(reason)


def test_a_line_with_another_seq_is_not_due_even_if_it_follows():
    first, head = codec.seal(0, "2026-11-23T10:00:01.204417Z", opened(1), codec.GENESIS)
    second, _ = codec.seal(2, "2026-11-23T10:00:01.204417Z", b'"type":"x"', head)
    found = look(first + second)
    assert (found.verdict, found.bad_seq) == (Verdict.DAMAGED, 1)
    assert found.reason == "the line says seq 2 where 1 is due"


def test_a_later_format_is_seen_even_if_the_rest_can_not_be_understood():
    assert is_too_new(look(forged(opened(1, fmt=2))))
    assert is_too_new(look(forged(opened(1, fmt=2)) + b"<something new>\n"))
    assert is_too_new(look(forged(opened(1), opened(2, fmt=2))))
    assert not is_too_new(look(forged(opened(1))))


# --- bounds --------------------------------------------------------------------------------------


class Zeros:
    """10 GiB of NULs that stand nowhere."""

    size = 10 << 30

    def read_at(self, offset: int, size: int) -> bytes:
        return bytes(size)


def test_a_file_that_is_one_endless_line_is_refused_in_little_memory():
    tracemalloc.start()
    with pytest.raises(LineTooLong, match=f"longer than {READ_LIMIT} bytes"):
        scan(Zeros())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_long_line_of_something_else_is_refused_even_in_a_sealed_log(data):
    with pytest.raises(LineTooLong) as caught:
        look(data + b"x" * (READ_LIMIT + SECTOR))
    assert caught.value.offset == len(data)


def test_a_line_is_found_whatever_piece_of_the_file_is_read_at_once():
    class Dribble(BytesSource):
        def read_at(self, offset: int, size: int) -> bytes:
            return super().read_at(offset, min(size, 3))

    text = b"abcdef\n\nx\n1234567\nend"
    assert list(split(Dribble(text))) == list(split(BytesSource(text)))
    kept = [line for _, line in split(Dribble(text), limit=4, skip_long=True)]
    assert kept[:2] == [b"\n", b"x\n"]
    with pytest.raises(LineTooLong):
        list(split(Dribble(text), limit=4))


@given(
    st.binary(max_size=2000)
    | st.lists(st.sampled_from([V1, b"\0" * 600, b"{", b"\n"])).map(b"".join)
)
def test_no_bytes_make_a_scan_raise(data):
    found = look(data)
    assert 0 <= found.end <= len(data)
    assert not found.sealed


@given(chosen=st.data())
def test_a_changed_sealed_log_is_never_called_whole(data, chosen):
    start = chosen.draw(st.integers(0, len(data)))
    end = chosen.draw(st.integers(start, min(len(data), start + 400)))
    put = chosen.draw(st.binary(max_size=40) | st.just(data[start:end] * 2))
    changed = data[:start] + put + data[end:]
    found = look(changed)
    if found.verdict is Verdict.WHOLE and found.sealed:
        assert data.startswith(changed)  # only lines cut off at the end can't be seen
    assert changed[: found.end] == data[: found.end] or not found.sealed


@given(chosen=st.data())
def test_a_writer_s_leg_is_cut_at_most_where_it_was_torn(wide, chosen):
    # Any loss of sectors of the last batch: what was promised before stays, the rest is torn.
    begin = starts(wide)[4]
    sectors = range(begin // SECTOR, len(wide) // SECTOR + 1)
    lost = chosen.draw(st.sets(st.sampled_from(sectors), min_size=1))
    size = chosen.draw(st.integers(begin, len(wide)))
    state = wide
    for sector in lost:
        state = zeroed(state, max(begin, sector * SECTOR), min((sector + 1) * SECTOR, len(wide)))
    found = look(state[:size])
    assert found.verdict is not Verdict.DAMAGED
    assert found.lines >= 4
    assert state[: found.end] == wide[: found.end]
