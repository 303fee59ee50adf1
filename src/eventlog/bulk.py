"""Many sealed lines at once: the same rules as `codec`'s, for whole blocks of lines. Pure.

A log that is sound is nearly all of what is ever read, so it is looked at in strides that
Python's C parts do: cut, hash, join, compare. Whatever does not fit is left to the functions for
one line, which say what is wrong.
"""

from __future__ import annotations

import hashlib
import struct
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

import msgspec

from .codec import MAX_DEPTH, find_nonfinite

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_SUM = b',"sum":"'
_BEFORE_SUM = slice(None, -len(_SUM + b'0123456789abcdef"}'))
_SUM_KEY = slice(_BEFORE_SUM.stop, _BEFORE_SUM.stop + len(_SUM))
_ENDING = slice(-len(b',"prev":"0123456789abcdef","sum":"0123456789abcdef"}'), None)
_START = b'{"seq":'

_body_of = itemgetter(_BEFORE_SUM)
_sum_key_of = itemgetter(_SUM_KEY)
_sum_member_of = itemgetter(slice(_BEFORE_SUM.stop, None))
_ending_of = itemgetter(_ENDING)
_start_of = itemgetter(slice(len(_START)))
_first_12 = itemgetter(slice(12))

_hash = hashlib.sha256().copy  # a copy of an empty one costs less than a new one
_encode_lines = msgspec.json.Encoder().encode_lines
_NOT_OPENING = bytes(set(range(256)) - set(b"{[\n"))


def encode_all(events: Sequence[Any]) -> list[bytes] | None:
    """Return of each event what `codec.encode_members` does, None where that must look itself."""
    try:
        encoded = _encode_lines(events)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    members = encoded[1:-2].split(b"}\n{")
    opened = encoded.translate(None, _NOT_OPENING).split(b"\n")  # of each line: how often
    if not encoded.startswith(b"{") or not len(members) == len(opened) - 1 == len(events):
        return None  # there are others than objects, or line breaks inside of them
    if max(map(len, opened)) > MAX_DEPTH:
        return None
    if b"null" in encoded:
        for event, text in zip(events, members, strict=True):
            if b"null" in text and find_nonfinite(event):
                return None
    return members


def sealed_lines(block: bytes) -> list[bytes] | None:
    """Return the lines of a block, without newlines, if all look sealed (see `codec`)."""
    lines = block[:-1].split(b"\n")
    if set(map(_sum_key_of, lines)) != {_SUM} or set(map(_start_of, lines)) != {_START}:
        return None
    return lines


def sums_hold(lines: list[bytes]) -> bool:
    """Return whether each line is sealed with the sum that its bytes have."""
    sums = _checksums(map(_body_of, lines))
    due = b'"},"sum":"'.join(sums)
    return b"".join(map(_sum_member_of, lines)) == b',"sum":"%b"}' % due


def is_chained(lines: list[bytes], prev: bytes) -> bool:
    """Return whether no two sealed lines that meet here say that they don't belong together.

    Args:
        lines: without newlines, at least one.
        prev: the sum of the line before, empty if it is not known.
    """
    for line in lines:
        ending = line[_ENDING]
        if not (line.startswith(_START) and ending[25:34] == b'","sum":"'):
            prev = b""
            continue
        if prev and ending[9:25] != prev:
            return False
        prev = ending[34:50]
    return True


def _checksums(bodies: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what `codec.checksum` does of each body."""
    digests: list[bytes] = []
    for body in bodies:
        sha256 = _hash()
        sha256.update(body)
        digests.append(sha256.digest())
    # 12 bytes are 16 characters, so that many are encoded as one.
    joined = b2a_base64(b"".join(map(_first_12, digests)), newline=False)
    return struct.unpack("16s" * len(digests), joined.translate(_URL_SAFE))


def follow_all(lines: list[bytes], seq: int, prev: str) -> str | None:
    """Return the sum of the last line if all are whole and due here, else None.

    As `codec.follows` of each: the sums, the chain and the seqs, from `seq` and `prev` on.
    """
    count = len(lines)
    width = len(str(seq))
    if not count or len(str(seq + count - 1)) != width:
        return None  # where the seq grows by a digit
    starts = itemgetter(slice(len(_START) + width + 1))
    due = ',{"seq":'.join(map(str, range(seq, seq + count)))
    if b"".join(map(starts, lines)) != b'{"seq":%b,' % due.encode():
        return None
    sums = _checksums(map(_body_of, lines))
    endings = [b',"prev":"%b","sum":"%b"}' % two for two in pairwise((prev.encode(), *sums))]
    if list(map(_ending_of, lines)) != endings:
        return None
    return sums[-1].decode("ascii")
