"""Look after logs: verify, repair a torn end, salvage what a damage left, count."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from .codec import Stamper, looks_sealed
from .errors import EventLogError, LogWriteFailed
from .find import lock_beside
from .fs import FILES, HINTS, Files, write_all
from .heal import heal
from .lines import CHUNK
from .lock import Lock
from .log import Log
from .reader import read_lines
from .recover import Scan, Verdict, is_too_new, refuse, refuse_later, scan
from .sealer import Fields
from .source import FileSource, LogFile
from .upcast import Form, convert

_SUM = slice(-18, -2)  # of a sealed line: "…"}
_ANCHOR = re.compile(r"(?:([0-9]{1,18}):)?([A-Za-z0-9_-]{16})", re.ASCII)


class Verified(msgspec.Struct, kw_only=True):
    """What a look at every line of a log found.

    Attributes:
        file: the log's path.
        verdict: `whole`, `unterminated`, `torn` or `damaged`; `unknown` where a later version
            of the format wrote lines that this one can't check.
        lines: whole lines.
        unsealed: of these, those before the first sealed one; nothing protects them unless a
            sealed line follows.
        format: version of the line format, 0 if no line is sealed.
        epoch: how many writers there were.
        head: the sum of the last line; an anchor to keep elsewhere.
        bytes: of the file.
        end: where the whole lines end.
        bad_seq, bad_offset, reason: the first bad line.
        anchor: where the given sum was found: `head`, `seq 17` or `missing`; empty without one.
        missing: why it is not there.
    """

    file: str
    verdict: str
    lines: int
    unsealed: int
    format: int
    epoch: int
    head: str
    bytes: int
    end: int
    bad_seq: int | None = None
    bad_offset: int | None = None
    reason: str = ""
    anchor: str = ""
    missing: str = ""

    @property
    def ok(self) -> bool:
        """Whether all that was ever promised is there; a torn end was never promised."""
        return self.verdict not in {Verdict.DAMAGED, "unknown"} and self.anchor != "missing"


class Anchor(NamedTuple):
    """What a log's last line was at some time: its sum, and its seq where that is known."""

    sum: str
    seq: int | None = None

    @classmethod
    def of(cls, text: str) -> Anchor:
        """Return the anchor that `SUM` or `SEQ:SUM` names.

        Raises:
            ValueError: it is neither.
        """
        match = _ANCHOR.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no anchor: SUM or SEQ:SUM, SUM of 16 characters")
        return cls(match[2], None if match[1] is None else int(match[1]))


def verify(path: str | os.PathLike[str], *, head: str | None = None) -> Verified:
    """Check the sums and the chain of a whole log.

    Args:
        path: the log.
        head: an anchor, `SUM` or `SEQ:SUM`: the sum, and the seq, that its last line had at some
            time. It must still be in the chain, else the log was cut back or written anew.

    Raises:
        ValueError: `head` is no anchor.
        LogNotFound, LineTooLong: it can't be read as a log.
    """
    path = os.fspath(path)
    wanted = None if head is None else Anchor.of(head)
    found, size = _scan(path)
    anchor = missing = ""
    if wanted is not None:
        anchor, missing = _find(path, wanted, found)
    return Verified(
        file=path,
        verdict="unknown" if _is_beyond_us(found) else found.verdict.value,
        lines=found.lines,
        unsealed=found.unsealed,
        format=found.format,
        epoch=found.epoch,
        head=found.head if found.sealed else "",
        bytes=size,
        end=found.end,
        bad_seq=found.bad_seq,
        bad_offset=found.bad_offset,
        reason=found.reason,
        anchor=anchor,
        missing=missing,
    )


def _is_beyond_us(found: Scan) -> bool:
    """Return whether a bad line may be one that only a later version understands."""
    return found.verdict is Verdict.DAMAGED and is_too_new(found)


def _scan(path: str) -> tuple[Scan, int]:
    with LogFile(path) as file:
        try:
            return scan(file), file.size
        except EventLogError as error:
            error.path = path
            raise


def _find(path: str, wanted: Anchor, found: Scan) -> tuple[str, str]:
    """Return where the anchor is, and why it is nowhere."""
    if found.sealed and wanted.sum == found.head and wanted.seq in {None, found.lines - 1}:
        return "head", ""
    sum_ = wanted.sum.encode()
    for line in read_lines(path):
        if line.offset >= found.end:
            break
        if line.sealed and line.raw[_SUM] == sum_ and wanted.seq in {None, line.seq}:
            return f"seq {line.seq}", ""
    if wanted.seq is None:
        return "missing", f"it was cut back or written anew: the sum {wanted.sum} is not in it"
    if wanted.seq >= found.lines:
        return "missing", f"it was cut back: seq {wanted.seq} is not in its {found.lines} lines"
    return "missing", f"it was written anew: seq {wanted.seq} has not the sum {wanted.sum}"


def repair(
    path: str | os.PathLike[str],
    *,
    fields: Fields | None = None,
    lock_path: str | None = None,
    files: Files = FILES,
) -> str:
    """Settle the end of a log, as the next writer would; return what was done, in words.

    A torn tail is moved to `<path>.torn-<n>`. A log without sealed lines stays without.

    Raises:
        LogLocked: a process writes it; then there is nothing to repair.
        LogDamaged: a line before the tail does not verify.
        LogNotFound, LogTooNew, LogWriteFailed: as `Log`.
    """
    path = os.fspath(path)
    found, size = _scan(path)
    refuse(found, path)
    if found.verdict is Verdict.WHOLE:
        return "nothing to repair"
    lock = lock_path or lock_beside(path)
    if found.sealed:
        with Log(path, fields=fields, lock_path=lock, files=files):
            pass
    else:
        _heal(path, lock, files)
    if found.verdict is Verdict.UNTERMINATED:
        return "the last line got its newline"
    return f"{size - found.end} bytes of a torn line were moved aside"


def _heal(path: str, lock: str, files: Files) -> None:
    with Lock(lock, started=Stamper()(time.time_ns()), files=files):
        try:
            fd = files.open(path, os.O_RDWR | os.O_APPEND)
            try:
                found = scan(FileSource(fd, files))
                refuse(found, path)
                heal(files, fd, path, found)
            finally:
                files.close(fd)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "EIO")
            raise LogWriteFailed(
                f"the log can't be repaired: {error.strerror or error} [{name}]",
                path=path,
                hint=HINTS.get(error.errno or 0, "check the disk, then repair it again"),
            ) from error


class Salvaged(msgspec.Struct, kw_only=True):
    """What was copied to a new file, and what was left."""

    file: str
    to: str
    lines: int
    bytes: int
    bytes_left: int
    reason: str


def salvage(
    path: str | os.PathLike[str], to: str | os.PathLike[str] = "", *, files: Files = FILES
) -> Salvaged:
    """Copy all lines before the first bad one to a new file; the log itself is not touched.

    Args:
        path: the log.
        to: the new file, by default `<path>.salvaged`; never overwritten.
        files: the system's calls.

    Raises:
        LogTooNew: a later version of the format wrote it.
        LogWriteFailed: the new file is there already, or can't be written.
    """
    path = os.fspath(path)
    found, size = _scan(path)
    refuse_later(found, path)
    to = os.fspath(to) or f"{path}.salvaged"
    # A copy that was cut short must not pass for a log.
    part = f"{to}.tmp-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        _copy(path, found, part, files)
        if os.path.lexists(to):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        files.rename(part, to)
        files.sync_dir(os.path.dirname(to))
    except OSError as error:
        raise LogWriteFailed(
            f"the new file can't be written: {error.strerror or error}",
            path=to,
            hint=HINTS.get(error.errno or 0, "name another file"),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            files.unlink(part)
    return Salvaged(
        file=path,
        to=to,
        lines=found.lines,
        bytes=found.end,
        bytes_left=size - found.end,
        reason=found.reason,
    )


def _copy(path: str, found: Scan, part: str, files: Files) -> None:
    """Write a log's whole lines to a new file, synced."""
    fd = files.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with LogFile(path) as file:
            for start in range(0, found.end, CHUNK):
                write_all(files, fd, file.read_at(start, min(CHUNK, found.end - start)))
        if found.verdict is Verdict.UNTERMINATED:
            write_all(files, fd, b"\n")
        files.sync(fd)
    finally:
        files.close(fd)


class Counted(msgspec.Struct, kw_only=True):
    """A log in numbers.

    Attributes:
        file: its path.
        lines: complete lines.
        bytes: of these lines.
        versions: lines by `upcast.Form`; sealed lines are v2.1, blank ones not counted.
        sealed: lines with a sum.
        types: lines by type.
        first_ts, last_ts: of the first and the last line that has a stamp.
    """

    file: str
    lines: int = 0
    bytes: int = 0
    versions: dict[str, int] = {}
    sealed: int = 0
    types: dict[str, int] = {}
    first_ts: str = ""
    last_ts: str = ""


class _Head(msgspec.Struct):
    type: Any = None
    ts: Any = None


_HEAD = msgspec.json.Decoder(_Head)


def count(path: str) -> Counted:
    """Count a log's lines by version and type; lines that can't be read are `unreadable`."""
    counted = Counted(file=path)
    for line in read_lines(path):
        counted.lines += 1
        counted.bytes = line.end
        if not line.raw.strip(b" \t\r"):
            continue
        form, raw = Form.V2_1, line.raw
        if looks_sealed(raw):
            counted.sealed += 1
        else:
            converted = convert(raw)
            form, raw = converted.form, converted.line.removeprefix(b"\xef\xbb\xbf")
        head = _Head()
        try:
            head = _HEAD.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            form = Form.UNREADABLE
        counted.versions[form] = counted.versions.get(form, 0) + 1
        if isinstance(head.type, str):
            counted.types[head.type] = counted.types.get(head.type, 0) + 1
        if isinstance(head.ts, str):
            counted.first_ts = counted.first_ts or head.ts
            counted.last_ts = head.ts
    return counted


def count_all(paths: Iterable[str]) -> tuple[list[Counted], dict[str, int]]:
    """Return the numbers of each log, and the lines of each type in all of them, most first."""
    logs = [count(path) for path in paths]
    types: dict[str, int] = {}
    for log in logs:
        for kind, number in log.types.items():
            types[kind] = types.get(kind, 0) + number
    return logs, dict(sorted(types.items(), key=lambda item: (-item[1], item[0])))
