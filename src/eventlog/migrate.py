"""Bring logs of an older version up to date: streamed, in place, all or nothing.

The new file is written beside the old one and synced, the old one gets a second name
(`<log>.v1`), and a rename puts the new one in its place. Whatever fails, and wherever a crash
comes, the log is the old one or the new one, whole.

A log with sealed lines is never rewritten: its sums, and the hash of what was sealed over,
would no longer hold.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, tzinfo

import msgspec

from .codec import Stamper
from .errors import (
    EventLogError,
    LogDamaged,
    LogNotFound,
    LogWriteFailed,
    MigrationRefused,
)
from .find import find_logs, is_set_aside, lock_beside
from .fs import FILES, Files, write_all
from .inplace import discard, put_in_place
from .lines import BytesSource, Source, split
from .lock import Lock
from .recover import Scan, Verdict, scan
from .source import FileSource
from .upcast import Form, convert

MAX_NAMED = 1000
"""How many of the lines that were left are named; all are counted."""

_BLOCK = 1 << 18


class Left(msgspec.Struct, frozen=True):
    """A line that stays as it is, and why; lines count from 1, as editors do."""

    line: int
    reason: str


class FileReport(msgspec.Struct, kw_only=True):
    """What migrating one log did, or would do.

    Attributes:
        path: the log.
        state: `migrated`, `would migrate`, `unchanged`, `sealed` or `failed`.
        lines: complete lines, blank ones too.
        migrated, already_new, left, blank: of these lines; they add up to `lines`.
        named: the first MAX_NAMED of those left.
        torn_bytes: after the last line; kept as they are.
        bytes_before, bytes_after: of the file.
        backup: where the old file is kept, if it was replaced.
        error: why it failed.
    """

    path: str
    state: str = "unchanged"
    lines: int = 0
    migrated: int = 0
    already_new: int = 0
    left: int = 0
    blank: int = 0
    named: list[Left] = []
    torn_bytes: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    backup: str = ""
    error: str = ""


def migrate(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    tz: tzinfo = UTC,
    backup: bool = True,
    lock_path: str | None = None,
    files: Files = FILES,
) -> FileReport:
    """Bring one log up to date in place, under its writer's lock.

    Args:
        path: the log.
        dry_run: only count; nothing is locked or written.
        tz: what a stamp without offset is taken for.
        backup: keep the old file as `<path>.v1`, which is never overwritten.
        lock_path: by default what `find.lock_beside` says.
        files: the system's calls.

    Raises:
        LogNotFound: there is no file.
        LogLocked: another process writes this log.
        LogDamaged: its sealed part does not verify.
        MigrationRefused: later lines seal lines that would change; another file stands at
            `<path>.v1`; the file changed meanwhile; it is no plain file.
        LogWriteFailed: the system refused; the old log is in place.
        LineTooLong: a line is longer than recover.READ_LIMIT.
    """
    name = os.fspath(path)
    began = time.monotonic()
    _check(name)
    report = FileReport(path=name)
    if dry_run:
        _look(report, tz, files)
    else:
        lock = lock_path or lock_beside(name)
        with Lock(lock, started=Stamper()(time.time_ns()), files=files):
            _replace(report, tz, files, backup=backup)
    report.seconds = time.monotonic() - began
    return report


def migrate_all(
    targets: Iterable[str | os.PathLike[str]],
    *,
    dry_run: bool = False,
    tz: tzinfo = UTC,
    lock_of: Callable[[str], str] = lock_beside,
) -> Iterator[tuple[FileReport, EventLogError | None]]:
    """Migrate every log at the given files and folders; one that fails doesn't stop the rest.

    Args:
        targets: logs, or folders in which each `events.jsonl` is one.
        dry_run: only count.
        tz: what a stamp without offset is taken for.
        lock_of: names the lock of a log.

    Raises:
        LogNotFound: there is nothing at a target; raised before any log is touched.
    """
    paths = dict.fromkeys(path for target in targets for path in find_logs(target))
    for path in paths:
        try:
            yield migrate(path, dry_run=dry_run, tz=tz, lock_path=lock_of(path)), None
        except EventLogError as error:
            error.path = error.path or path
            yield FileReport(path=path, state="failed", error=str(error)), error


def _check(path: str) -> None:
    if is_set_aside(path):
        raise MigrationRefused("this file was set aside, it is no log any more", path=path)
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        raise LogNotFound("there is no log here", path=path) from error
    if not stat.S_ISREG(mode):
        raise MigrationRefused(
            "this is no plain file", path=path, hint="name the file itself, not a link to it"
        )


# --- lines ------------------------------------------------------------------------------------


def _lines(source: Source, report: FileReport, tz: tzinfo) -> Iterator[bytes]:
    """Yield the file's new bytes, line by line, and count."""
    for _, line in split(source):
        body, newline = (line[:-1], b"\n") if line.endswith(b"\n") else (line, b"")
        if not newline and not _is_whole(body):
            report.torn_bytes = len(line)
            report.bytes_after += len(line)
            yield line
            return
        report.lines += 1
        new = _one(body, report, tz) + newline
        report.bytes_after += len(new)
        yield new


def _one(body: bytes, report: FileReport, tz: tzinfo) -> bytes:
    if not body.strip(b" \t\r"):
        report.blank += 1
        return body
    form, new, reason = convert(body, tz)
    if form is Form.UNREADABLE or reason:
        report.left += 1
        if len(report.named) < MAX_NAMED:
            report.named.append(Left(report.lines, reason))
    elif new == body:
        report.already_new += 1
    else:
        report.migrated += 1
    return new


def _is_whole(line: bytes) -> bool:
    """Return whether a last line without newline lacks nothing but that."""
    return scan(BytesSource(line)).verdict is Verdict.UNTERMINATED


# --- the file ---------------------------------------------------------------------------------


def _open(path: str, files: Files) -> int:
    try:
        return files.open(path, os.O_RDONLY)
    except OSError as error:
        raise LogWriteFailed(f"the log can't be opened: {error.strerror}", path=path) from error


def _look(report: FileReport, tz: tzinfo, files: Files) -> None:
    fd = _open(report.path, files)
    try:
        source = FileSource(fd, files)
        if _is_settled(source, report, tz):
            return
        for _ in _lines(source, report, tz):
            pass
        report.state = "would migrate" if report.migrated else "unchanged"
    finally:
        files.close(fd)


def _is_settled(source: FileSource, report: FileReport, tz: tzinfo) -> bool:
    """Return whether nothing may be done because the log is sealed; refuse if that is a pity."""
    found = scan(source)
    report.bytes_before = source.size
    if found.verdict is Verdict.DAMAGED:
        raise LogDamaged(
            f"the log is damaged: {found.reason}",
            path=report.path,
            seq=found.bad_seq,
            offset=found.bad_offset,
            hint="`events salvage` copies what is whole to a new file; this one is kept",
        )
    if not found.sealed:
        return False
    _refuse_sealed_over(source, found, report.path, tz)
    report.state = "sealed"
    report.lines = report.already_new = found.lines
    report.bytes_after = source.size
    return True


def _refuse_sealed_over(source: FileSource, found: Scan, path: str, tz: tzinfo) -> None:
    for number, (offset, line) in enumerate(split(source)):
        if number >= found.unsealed:
            return
        body = line[:-1]
        if body.strip(b" \t\r") and convert(body, tz).line != body:
            raise MigrationRefused(
                f"the first {found.unsealed} lines are of an older version, but a later leg has"
                " sealed them as they are",
                path=path,
                seq=number,
                offset=offset,
                hint="nothing needs to be done: every command reads them in today's form",
            )


def _replace(report: FileReport, tz: tzinfo, files: Files, *, backup: bool) -> None:
    path, temporary = report.path, f"{report.path}.migrating"
    fd = _open(path, files)
    try:
        if _is_settled(FileSource(fd, files), report, tz):
            return
        discard(temporary, files)  # of an earlier try that was killed; we hold the lock
        try:
            _write(fd, temporary, report, tz, files)
            if report.migrated:
                identity = (*files.identity(fd)[:2], report.bytes_before)
                report.backup = put_in_place(temporary, path, identity, files, keep=backup)
                report.state = "migrated"
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "EIO")
            raise LogWriteFailed(
                f"the log can't be migrated: {error.strerror or error} [{name}]",
                path=path,
                hint="what stands there is whole; look at the disk, then run it again",
            ) from error
        finally:
            discard(temporary, files)
    finally:
        files.close(fd)


def _write(fd: int, temporary: str, report: FileReport, tz: tzinfo, files: Files) -> None:
    was = os.fstat(fd)
    out = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.fchmod(out, stat.S_IMODE(was.st_mode))
        if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
            try:
                os.fchown(out, was.st_uid, was.st_gid)
            except PermissionError:
                pass  # only root can give a file away
        held: list[bytes] = []
        size = 0
        for line in _lines(FileSource(fd, files), report, tz):
            held.append(line)
            size += len(line)
            if size >= _BLOCK:
                write_all(files, out, b"".join(held))
                held, size = [], 0
        write_all(files, out, b"".join(held))
        files.sync(out)
    finally:
        files.close(out)
