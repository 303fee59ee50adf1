"""Check a whole log in other words than its own: an independent reader of the format."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from .children import Ack

GENESIS = "A" * 16


def sum_of(body: bytes) -> str:
    """Return the first 96 bits of a body's SHA-256, base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:12]).decode()


def check(lines: Iterable[bytes]) -> str:
    """Return what is wrong with a log's lines (newlines included), if anything.

    Seqs must be contiguous from 0, each sealed line's sum and `prev` right, epochs rising, and
    each line complete. Lines before the first sealed one may be another tool's.
    """
    prev, epoch, sealed = GENESIS, 0, False
    for seq, line in enumerate(lines):
        at = line.rfind(b',"sum":"')
        if at < 0 or not line.startswith(b'{"seq":') or not line.endswith(b'"}\n'):
            if sealed:
                return f"line {seq} is not sealed: {line[:80]!r}"
            continue
        sealed = True
        said = json.loads(line)
        total = sum_of(line[:at])
        if (said["seq"], said["prev"], said["sum"]) != (seq, prev, total):
            return f"line {seq} is not sealed in its place: {line[:80]!r}"
        prev = total
        if said["type"] == "log.opened":
            if said["data"]["epoch"] <= epoch:
                return f"line {seq}: epoch {said['data']['epoch']} after {epoch}"
            epoch = said["data"]["epoch"]
    return ""


def lines_of(content: bytes) -> list[bytes]:
    """Return the lines with their newlines; the last may have none."""
    pieces = content.split(b"\n")
    lines = [piece + b"\n" for piece in pieces[:-1]]
    return [*lines, pieces[-1]] if pieces[-1] else lines


def missing(lines: list[bytes], told: Iterable[Ack], first_seq: int = 0) -> list[Ack]:
    """Return which acknowledged events do not stand where their acknowledgement says."""
    gone = []
    for ack in told:
        at = ack.seq - first_seq
        data: dict[str, Any] = json.loads(lines[at])["data"] if 0 <= at < len(lines) else {}
        if (data.get("who"), data.get("n")) != (ack.who, ack.number):
            gone.append(ack)
    return gone
