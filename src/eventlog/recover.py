"""Bytes -> whole, torn or damaged, and where. Pure: reading is done by the `Source` given.

A log is whole lines. Sealed lines (see `codec`) follow each other from the first `log.opened`;
before it may stand unsealed lines of an older version or of another tool.

The first bad line, seq k at offset o, is judged by these rules (the writer keeps at most one
batch unsynced, which is what makes them sound):

1. It has no newline but verifies, or verifies without its last byte: the event is whole.
2. A later line verifies alone and carries `dur` >= k, or is a later writer's `log.opened`,
   which is written only when all before it is durable: damage in acknowledged data.
3. A whole 512-byte sector from o on is zeros, or the file ends inside the line: a torn tail.
4. Otherwise all bytes are there and wrong: damage. Cutting it off could lose what was promised.
"""

from __future__ import annotations

import enum
import hashlib

import msgspec

from .bulk import follow_all
from .codec import FORMAT, GENESIS, UNREADABLE, Seal, follows, looks_sealed, unseal
from .errors import LineTooLong, LogDamaged, LogTooNew
from .event import Opened
from .lines import Source, blocks, each, split

SECTOR = 512
_OPENED_TYPE = b'"type":"log.opened"'


class Verdict(enum.StrEnum):
    """What a log is."""

    WHOLE = "whole"
    UNTERMINATED = "unterminated"  # the last line is whole but for its newline
    TORN = "torn"
    DAMAGED = "damaged"


class Scan(msgspec.Struct, kw_only=True):
    """What a look over a whole log found.

    Attributes:
        verdict: what it is.
        lines: whole lines, which is the next seq.
        end: offset after the last whole line (its newline included, where there is one).
        head: sum of the last sealed line, GENESIS if there is none.
        epoch: of the last writer, 0 if no line is sealed.
        log_id, format: from the first `log.opened`.
        unsealed: lines before the first sealed one.
        unsealed_bytes: their bytes.
        unsealed_sha256: of these bytes.
        bad_seq, bad_offset, reason: the first bad line, if the log is torn or damaged.
        junk: bytes to drop from a final line that is whole otherwise (rule 1).
    """

    verdict: Verdict = Verdict.WHOLE
    lines: int = 0
    end: int = 0
    head: str = GENESIS
    epoch: int = 0
    log_id: str = ""
    format: int = 0
    unsealed: int = 0
    unsealed_bytes: int = 0
    unsealed_sha256: str = ""
    bad_seq: int | None = None
    bad_offset: int | None = None
    reason: str = ""
    junk: int = 0

    @property
    def sealed(self) -> bool:
        """Whether any line is sealed."""
        return self.epoch > 0


def scan(source: Source) -> Scan:
    """Look at every line and say what the log is.

    Raises:
        LineTooLong: a line is longer than READ_LIMIT.
    """
    found = Scan()
    prior = hashlib.sha256()
    try:
        for offset, block in blocks(source):
            if not _take_all(found, block) and not _take_each(found, source, offset, block, prior):
                break
    except LineTooLong as error:
        # No line of ours, but perhaps the space of a batch that a power cut left unwritten.
        if not found.sealed or not _has_zero_sector(source, found.end, source.size):
            raise
        _judge(found, source, found.end, b"", error.message)
    if not found.sealed:
        found.unsealed, found.unsealed_bytes = found.lines, found.end
    if found.unsealed:
        found.unsealed_sha256 = found.unsealed_sha256 or prior.hexdigest()
    return found


def _take_all(found: Scan, block: bytes) -> bool:
    """Count all lines of a block if they are sealed ones and in order."""
    if not found.sealed or not block.endswith(b"\n") or _OPENED_TYPE in block:
        return False
    lines = block[:-1].split(b"\n")
    head = follow_all(lines, found.lines, found.head)
    if head is None:
        return False
    found.lines += len(lines)
    found.end += len(block)
    found.head = head
    return True


def _take_each(
    found: Scan, source: Source, offset: int, block: bytes, prior: hashlib._Hash
) -> bool:
    """Count the lines of a block up to a bad one, which is judged; return whether there is none."""
    for line in each(block):
        if not found.sealed and _is_unwritten(source, offset, line):
            problem = "the line was never written"
        elif line.endswith(b"\n"):
            problem = _take(found, line[:-1], len(line), prior)
        else:
            problem = _take_last(found, line, prior)
        if problem:
            _judge(found, source, offset, line, problem)
            return False
        offset += len(line)
    return True


def _take(found: Scan, line: bytes, size: int, prior: hashlib._Hash) -> str:
    """Count one line; return what is wrong with it, or nothing."""
    if found.sealed and _OPENED_TYPE not in line:
        total = follows(line, found.lines, found.head)
        if total is not None:
            found.lines += 1
            found.end += size
            found.head = total
            return ""
    said = unseal(line)
    if said is None:
        if found.sealed:
            return "the line's sum is wrong" if looks_sealed(line) else "the line is not sealed"
        if looks_sealed(line) or _was_opened(line):
            return "the line's sum is wrong"
        prior.update(line)
        if size > len(line):
            prior.update(b"\n")
    elif problem := _follow(found, said, prior):
        return problem
    found.lines += 1
    found.end += size
    return ""


def _follow(found: Scan, said: Seal, prior: hashlib._Hash) -> str:
    """Check a sealed line against the chain; return what is wrong with it."""
    if said.seq != found.lines:
        return f"the line says seq {said.seq} where {found.lines} is due"
    if said.prev != found.head:
        return "the line does not follow the one before it"
    opened = _opened(said)
    if not found.sealed:
        if opened is None:
            return "the first sealed line is no log.opened"
        unsealed = prior.hexdigest() if found.lines else None
        if (opened.prior_bytes or 0, opened.prior_sha256) != (found.end, unsealed):
            return "the unsealed lines before are not those that were sealed over"
        found.unsealed, found.unsealed_bytes = found.lines, found.end
        found.unsealed_sha256 = unsealed or ""
        found.log_id, found.format = opened.log_id, opened.format
    if opened is not None:
        if opened.epoch <= found.epoch:
            return f"epoch {opened.epoch} does not rise above {found.epoch}"
        if opened.log_id != found.log_id:
            return "a log.opened of another log"
        found.epoch = opened.epoch
        found.format = max(found.format, opened.format)
    found.head = said.sum
    return ""


class _Head(msgspec.Struct):
    type: str
    data: msgspec.Raw = msgspec.Raw(b"null")


_HEAD = msgspec.json.Decoder(_Head)
_OPENED = msgspec.json.Decoder(Opened)


def _opened(said: Seal) -> Opened | None:
    if _OPENED_TYPE not in said.body:
        return None
    try:
        head = _HEAD.decode(said.body + b"}")
        return _OPENED.decode(head.data) if head.type == "log.opened" else None
    except UNREADABLE:
        return None


def _was_opened(line: bytes) -> bool:
    """Return whether a line that does not verify is a `log.opened`, or what is left of one."""
    if _OPENED_TYPE not in line:
        return False
    try:
        return _HEAD.decode(line).type == "log.opened"
    except UNREADABLE:
        return True


def _take_last(found: Scan, line: bytes, prior: hashlib._Hash) -> str:
    """Judge a last line without newline by rule 1; return what is wrong with it."""
    if not found.sealed and not looks_sealed(line) and not looks_sealed(line[:-1]):
        if not _was_opened(line) and _is_object(line):
            found.verdict = Verdict.UNTERMINATED
            return _take(found, line, len(line), prior)
        return "the last line was cut off"
    for junk in (0, 1):
        whole = line[: len(line) - junk]
        if unseal(whole) is not None:
            problem = _take(found, whole, len(whole), prior)
            if not problem:
                found.verdict, found.junk = Verdict.UNTERMINATED, junk
            return problem
    return "the last line was cut off"


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except UNREADABLE:
        return False


def _is_unwritten(source: Source, offset: int, line: bytes) -> bool:
    """Return whether the first line that a writer sealed, the last of the file, is zeros.

    Elsewhere the sums tell; before the first of them, NULs may be another tool's.
    """
    end = offset + len(line)
    last = end >= source.size
    return last and line[:1] == b"\0" and _has_zero_sector(source, offset, end)


def _judge(found: Scan, source: Source, offset: int, line: bytes, problem: str) -> None:
    """Tell a torn tail from damage by rules 2 to 4."""
    found.reason = problem
    found.bad_seq, found.bad_offset = found.lines, offset
    after = offset + len(line)
    found.verdict = Verdict.DAMAGED
    for _, later in split(source, after, skip_long=True):
        said = unseal(later.removesuffix(b"\n"))
        if said is not None and _durable(said) >= found.lines:
            found.reason += f"; seq {said.seq} says that it was durable"
            return
    if line and not line.endswith(b"\n") and not looks_sealed(line):
        found.verdict = Verdict.TORN  # the file ends inside the line
    # Before the first sealed line nothing is known of anyone's syncs: only that line itself,
    # which a writer puts alone into its batch, may have been left unwritten.
    elif _has_zero_sector(source, offset, source.size if found.sealed else after):
        found.verdict = Verdict.TORN


def _durable(said: Seal) -> int:
    """Return the highest seq that a line shows to have been durable before it, or -1."""
    if _opened(said) is not None:
        return said.seq - 1
    return -1 if said.dur is None else said.dur


def _has_zero_sector(source: Source, start: int, end: int) -> bool:
    """Return whether any sector that meets this range, from `start` on, is all zeros."""
    position = start
    while position < end:
        stop = min((position // SECTOR + 1) * SECTOR, source.size)
        block = source.read_at(position, stop - position)
        if not block.strip(b"\0"):
            return True
        position = stop
    return False


def is_too_new(found: Scan) -> bool:
    """Return whether a later version of the format wrote this log."""
    return found.format > FORMAT


def refuse(found: Scan, path: str) -> None:
    """Refuse to write to a log that a later version wrote, or that is damaged.

    Raises:
        LogTooNew, LogDamaged: with the place.
    """
    refuse_later(found, path)  # first: a later format's lines may look damaged from here
    if found.verdict is Verdict.DAMAGED:
        raise LogDamaged(
            f"the log is damaged: {found.reason}",
            path=path,
            seq=found.bad_seq,
            offset=found.bad_offset,
            hint="`events salvage` copies what is whole to a new file; this one is kept",
        )


def refuse_later(found: Scan, path: str) -> None:
    """Refuse a log that a later version wrote.

    Raises:
        LogTooNew: naming both formats.
    """
    if is_too_new(found):
        raise LogTooNew(
            f"the log has format {found.format}, this version writes {FORMAT}",
            path=path,
            hint="use the version that wrote it, or a later one",
        )
