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
from contextlib import ExitStack, contextmanager
from datetime import UTC, tzinfo
from typing import NamedTuple

from .codec import Stamper
from .convert import (
    MAX_NAMED,
    Counts,
    Left,
    Piece,
    SealFoundError,
    converted,
    may_be_sealed,
)
from .errors import (
    EventLogError,
    LogDamaged,
    LogNotFound,
    LogWriteFailed,
    MigrationRefused,
)
from .find import find_logs, is_set_aside, lock_beside
from .fs import FILES, HINTS, Files, write_all
from .inplace import copy, discard, put_in_place
from .lines import split
from .lock import Lock
from .recover import Scan, Verdict, scan
from .source import FileSource
from .upcast import convert

__all__ = ["MAX_NAMED", "FileReport", "Left", "Where", "migrate", "migrate_all"]

Tell = Callable[[int, int], None]
"""Is told, now and then, how many bytes of the log have been read, and how many it has."""


class Where(NamedTuple):
    """How far the migration of many logs is: which log of how many, and bytes of this one."""

    path: str
    number: int
    logs: int
    read: int
    size: int


_EDGE = 1 << 16
"""Bytes at either end of a log in which a seal is looked for first."""


class FileReport(Counts, kw_only=True):
    """What migrating one log did, or would do; and `Counts`.

    Attributes:
        path: the log.
        state: `migrated`, `would migrate`, `unchanged`, `sealed` or `failed`.
        seconds: that it took.
        backup: where the old file is kept, if it was replaced.
        error: why it failed.
    """

    path: str
    state: str = "unchanged"
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
    tell: Tell | None = None,
    files: Files = FILES,
) -> FileReport:
    """Bring one log up to date in place, under its writer's lock.

    Args:
        path: the log.
        dry_run: only count; nothing is locked or written.
        tz: what a stamp without offset is taken for.
        backup: keep the old file as `<path>.v1`, which is never overwritten.
        lock_path: by default what `find.lock_beside` says.
        tell: is told how far it is.
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
    work = _Work(report, tz, tell or _quiet, files)
    try:
        if dry_run:
            work.look()
        else:
            lock = lock_path or lock_beside(name)
            with Lock(lock, started=Stamper()(time.time_ns()), files=files):
                work.replace(keep=backup)
    except OSError as error:
        raise work.failed("the log can't be migrated", error) from error
    report.seconds = round(time.monotonic() - began, 6)
    return report


def migrate_all(
    targets: Iterable[str | os.PathLike[str]],
    *,
    dry_run: bool = False,
    tz: tzinfo = UTC,
    lock_of: Callable[[str], str] = lock_beside,
    tell: Callable[[Where], None] | None = None,
) -> Iterator[tuple[FileReport, EventLogError | None]]:
    """Migrate every log at the given files and folders; one that fails doesn't stop the rest.

    Args:
        targets: logs, or folders in which each `events.jsonl` is one.
        dry_run: only count.
        tz: what a stamp without offset is taken for.
        lock_of: names the lock of a log.
        tell: is told, now and then, how far it is.

    Raises:
        LogNotFound: there is nothing at a target; raised before any log is touched.
    """
    paths = dict.fromkeys(path for target in targets for path in find_logs(target))
    for number, path in enumerate(paths, 1):

        def told(read: int, size: int, path: str = path, number: int = number) -> None:
            if tell is not None:
                tell(Where(path, number, len(paths), read, size))

        try:
            lock = lock_of(path)
            yield migrate(path, dry_run=dry_run, tz=tz, lock_path=lock, tell=told), None
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


def _quiet(_read: int, _size: int) -> None:
    pass


class _Work:
    """One log's migration."""

    def __init__(self, report: FileReport, tz: tzinfo, tell: Tell, files: Files) -> None:
        self._report = report
        self._path = report.path
        self._tz = tz
        self._tell = tell
        self._files = files

    def look(self) -> None:
        """Count what would be done."""
        with self._opened() as fd:
            source = FileSource(fd, self._files)
            for settled in (_has_seal_at_an_edge(source), True):
                if settled and self._is_settled(source):
                    return
                try:
                    for _ in self._pieces(source, trusted=settled):
                        pass
                    break
                except SealFoundError:
                    continue
            self._report.state = "would migrate" if self._report.migrated else "unchanged"

    def replace(self, *, keep: bool) -> None:
        """Put the new log in the old one's place, if anything changes."""
        temporary = f"{self._path}.migrating"
        with self._opened() as fd:
            source = FileSource(fd, self._files)
            discard(temporary, self._files)  # of an earlier try that was killed; we hold the lock
            try:
                for settled in (_has_seal_at_an_edge(source), True):
                    if settled and self._is_settled(source):
                        return
                    try:
                        self._write(fd, source, temporary, trusted=settled)
                        break
                    except SealFoundError:
                        discard(temporary, self._files)
                if self._report.migrated:
                    identity = (*self._files.identity(fd)[:2], source.size)
                    self._report.backup = put_in_place(
                        temporary, self._path, identity, self._files, keep=keep
                    )
                    self._report.state = "migrated"
            finally:
                discard(temporary, self._files)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            fd = self._files.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise self.failed("the log can't be opened", error) from error
        try:
            yield fd
        finally:
            self._files.close(fd)

    def failed(self, what: str, error: OSError) -> LogWriteFailed:
        """Return the error that says it to a user."""
        number = error.errno or errno.EIO
        todo = HINTS.get(number, "look at the disk, then run this again")
        return LogWriteFailed(
            f"{what}: {error.strerror or error} [{errno.errorcode.get(number, number)}]",
            path=self._path,
            hint=f"what stands there is whole; {todo}",
        )

    def _pieces(self, source: FileSource, *, trusted: bool) -> Iterator[Piece]:
        counts = Counts()
        for piece in converted(source, counts, self._tz, trusted=trusted):
            yield piece
            self._tell(counts.bytes_before, source.size)
        for name in Counts.__struct_fields__:
            setattr(self._report, name, getattr(counts, name))

    def _write(self, fd: int, source: FileSource, temporary: str, *, trusted: bool) -> None:
        """Write the new log, from the first byte that differs; nothing if there is none."""
        with ExitStack() as opened:
            out: int | None = None
            for piece in self._pieces(source, trusted=trusted):
                if out is None:
                    if not piece.is_changed:
                        continue
                    out = self._create(fd, temporary)
                    opened.callback(self._files.close, out)
                    copy(source, out, piece.offset, self._files)
                write_all(self._files, out, piece.new)
            if out is not None:
                self._files.sync(out)

    def _create(self, fd: int, temporary: str) -> int:
        """Open a new file that belongs to whom the old one does."""
        was = os.fstat(fd)
        out = self._files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.fchmod(out, stat.S_IMODE(was.st_mode))
            if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                try:
                    os.fchown(out, was.st_uid, was.st_gid)
                except PermissionError:
                    pass  # only root can give a file away
        except BaseException:
            self._files.close(out)
            raise
        return out

    def _is_settled(self, source: FileSource) -> bool:
        """Return whether nothing may be done because the log is sealed; refuse if that is a pity.

        Raises:
            LogDamaged: its sealed part does not verify.
            MigrationRefused: it has lines that would change.
        """
        found = scan(source)
        if found.verdict is Verdict.DAMAGED:
            raise LogDamaged(
                f"the log is damaged: {found.reason}",
                path=self._path,
                seq=found.bad_seq,
                offset=found.bad_offset,
                hint="`events salvage` copies what is whole to a new file; this one is kept",
            )
        if not found.sealed:
            return False
        self._refuse_sealed_over(source, found)
        report = self._report
        report.state = "sealed"
        report.lines = report.already_new = found.lines
        report.bytes_before = report.bytes_after = source.size
        return True

    def _refuse_sealed_over(self, source: FileSource, found: Scan) -> None:
        for number, (offset, line) in enumerate(split(source)):
            if number >= found.unsealed:
                return
            body = line[:-1]
            if body.strip(b" \t\r") and convert(body, self._tz).line != body:
                raise MigrationRefused(
                    f"the first {found.unsealed} lines are of an older version, but a later leg"
                    " has sealed them as they are",
                    path=self._path,
                    seq=number,
                    offset=offset,
                    hint="nothing needs to be done: every command reads them in today's form",
                )


def _has_seal_at_an_edge(source: FileSource) -> bool:
    """Return whether a seal is among the first or the last lines, where one is if there is any."""
    edges = (0, max(source.size - _EDGE, 0))
    return any(
        may_be_sealed(line) for start in edges for line in source.read_at(start, _EDGE).split(b"\n")
    )
