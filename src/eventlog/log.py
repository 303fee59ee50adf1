"""The file: open, append, sync. One writer at a time; a `Log` is its handle.

An append returns only when what its durability level promises holds. A failed write or sync
poisons the handle: it is not tried again, because the system may have dropped the pages that
it failed to write, and a second sync would then lie.
"""

from __future__ import annotations

import enum
import errno
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from . import codec
from .errors import (
    EventLogError,
    LogDamaged,
    LogFenced,
    LogNotFound,
    LogPoisoned,
    LogTooNew,
    LogWriteFailed,
)
from .event import Event, LogOpened, LogRecovered, Opened, Recovered
from .fs import FILES, Files, write_all
from .lock import Lock
from .recover import Scan, Verdict, is_too_new, scan
from .source import FileSource

Fields = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
"""Top-level members of every line, before the event's own: fixed, or made from the event."""


class Durability(enum.StrEnum):
    """What an append waits for.

    `os`: the system has the bytes; a power cut may lose them. `group` and `sync`: the disk has
    them; in a group, concurrent appends share one sync.
    """

    OS = "os"
    GROUP = "group"
    SYNC = "sync"


class Log:
    """A writer's hold on a log.

    Args:
        path: the log file; it is made if it is not there, its folder is not.
        fields: members for every line, or a function from the event to them.
        durability: what `append` waits for.
        lock_path: the lock file, by default `<path>.lock`.
        clock: nanoseconds since 1970; information only.
        files: the system's calls.

    Raises:
        LogLocked: another process writes this log.
        LogDamaged: a line before the tail does not verify.
        LogTooNew: a later version wrote it.
        LogNotFound: its folder is not there.
        LogWriteFailed: the file can't be opened, written or synced.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fields: Fields | None = None,
        durability: Durability = Durability.GROUP,
        lock_path: str | None = None,
        clock: Callable[[], int] = time.time_ns,
        files: Files = FILES,
    ) -> None:
        self.path = os.fspath(path)
        self.recovered: Recovered | None = None
        self._fields = fields if callable(fields) else None
        self._fixed = dict(fields) if fields is not None and not callable(fields) else {}
        self._durability = Durability(durability)
        self._clock = clock
        self._files = files
        self._stamp = codec.Stamper()
        self._poison = ""
        self._fd = -1
        self._unsynced = False
        self._durable: int | None = None
        self._next = 0
        self._head = codec.GENESIS
        self._epoch = 0
        self._offset = 0
        if not os.path.isdir(os.path.dirname(self.path) or "."):
            raise LogNotFound("the log's folder is not there", path=self.path)
        self._lock = Lock(
            lock_path or f"{self.path}.lock", started=self._stamp(clock()), files=files
        )
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    # --- what is known -----------------------------------------------------------------------

    @property
    def next_seq(self) -> int:
        """The seq that the next event gets."""
        return self._next

    @property
    def head(self) -> str:
        """The sum of the last line: an anchor to keep elsewhere."""
        return self._head

    @property
    def epoch(self) -> int:
        """This writer's number, from 1."""
        return self._epoch

    @property
    def offset(self) -> int:
        """The file's size in bytes, as this writer left it."""
        return self._offset

    # --- append ------------------------------------------------------------------------------

    def append(self, *events: Event | Mapping[str, Any], time_ns: int | None = None) -> range:
        """Write the events in one batch and return their seqs.

        An event is a struct below `Event` or a mapping with a `type`. Returns when the
        durability level's promise holds for all of them; on an error none is promised.
        `time_ns` is the batch's time, by default the clock's.

        Raises:
            EventInvalid, LineTooLong: before anything is written; the handle stays usable.
            LogFenced: the file is not as this writer left it.
            LogWriteFailed: the system refused; the handle is poisoned.
            LogPoisoned: an earlier call failed.
        """
        first = self._next
        if not events:
            return range(first, first)
        self._check()
        lines, head = self._encode(events, self._clock() if time_ns is None else time_ns)
        self._write(b"".join(lines))
        self._next, self._head = first + len(events), head
        if self._durability is not Durability.OS:
            self.sync()
        return range(first, self._next)

    def sync(self) -> None:
        """Return when everything appended so far is on the disk.

        Raises:
            LogWriteFailed, LogPoisoned: as `append`.
        """
        self._check()
        if self._unsynced:
            try:
                self._files.sync_data(self._fd)
            except OSError as error:
                raise self._fail("sync", error) from error
            self._unsynced = False
        self._durable = self._next - 1

    def close(self) -> None:
        """Sync what is left and let go of the file and the lock; more than once is fine."""
        try:
            if self._fd >= 0 and not self._poison and self._unsynced:
                self.sync()
        finally:
            if self._fd >= 0:
                self._files.close(self._fd)
                self._fd = -1
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- inside ------------------------------------------------------------------------------

    def _encode(
        self, events: tuple[Event | Mapping[str, Any], ...], time_ns: int
    ) -> tuple[list[bytes], str]:
        lines: list[bytes] = []
        head, seq = self._head, self._next
        ts = self._stamp(time_ns)
        durable = None if self._durability is Durability.OS else self._durable
        for event in events:
            fields = self._fields(event) if self._fields else self._fixed
            members = codec.encode_members(event)
            if fields:
                own = codec.encode_members(fields)
                members = own + b"," + members if members else own
            line, head = codec.seal(seq, ts, members, head, durable)
            codec.check_length(line, codec.MAX_LINE_BYTES, path=self.path, seq=seq)
            lines.append(line)
            seq, durable = seq + 1, None
        return lines, head

    def _write(self, data: bytes) -> None:
        self._fence()
        try:
            write_all(self._files, self._fd, data)
        except OSError as error:
            failed = self._fail("write", error)
            # What was written of this batch was never promised. If it can't be cut off
            # either, the next open finds a torn tail and does it.
            try:
                self._files.truncate(self._fd, self._offset)
            except OSError:
                pass
            raise failed from error
        self._offset += len(data)
        self._unsynced = True

    def _check(self) -> None:
        if self._poison:
            raise LogPoisoned(
                f"the log takes no more events, because of an earlier failure: {self._poison}",
                path=self.path,
                hint="open it again: what is there is checked and healed first",
            )
        if self._fd < 0:
            raise LogPoisoned("the log is closed", path=self.path)

    def _fence(self) -> None:
        """Refuse to write to a file that is not as this writer left it."""
        device, inode, size = self._files.identity(self._fd)
        try:
            named = self._files.identity_of(self.path)
        except OSError:
            named = (0, 0, 0)
        if size != self._offset or named[:2] != (device, inode):
            self._poison = "another program changed the file"
            raise LogFenced(
                f"the file is not as this writer left it: {size} bytes where {self._offset} are"
                f" due, {'the same' if named[:2] == (device, inode) else 'another'} file",
                path=self.path,
                hint="find what else writes, moves or cuts this file; then open it again",
            )

    def _fail(self, operation: str, error: OSError) -> EventLogError:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        self._poison = f"{operation} failed with {name}"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return LogWriteFailed(
            f"{operation} failed: {error.strerror or error} [{name}]",
            path=self.path,
            offset=self._offset,
            hint="make room on the disk, then go on" if full else "check the disk, then go on",
        )

    # --- open --------------------------------------------------------------------------------

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND
        try:
            try:
                self._fd = self._files.open(self.path, flags | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                self._fd = self._files.open(self.path, flags)
            # Pages that an earlier process wrote and could not sync are in the cache, not on
            # the disk: nothing is trusted before this sync.
            self._files.sync(self._fd)
        except OSError as error:
            raise self._fail("open", error) from error
        found = scan(FileSource(self._fd, self._files))
        self._refuse(found)
        try:
            tail = self._heal(found)
        except OSError as error:
            raise self._fail("recovery", error) from error
        self._next, self._head, self._offset = found.lines, found.head, found.end
        self._epoch = found.epoch + 1
        self._durable = found.lines - 1 if found.lines else None
        first: list[Event] = [LogOpened(data=self._introduce(found))]
        if tail is not None:
            self.recovered = tail
            first.append(LogRecovered(data=tail))
        self.append(*first)
        try:
            self._files.sync(self._fd)
            self._files.sync_dir(os.path.dirname(self.path))
        except OSError as error:
            raise self._fail("sync", error) from error
        self._unsynced = False

    def _introduce(self, found: Scan) -> Opened:
        sealing = not found.sealed and found.lines > 0
        return Opened(
            format=codec.FORMAT,
            log_id=found.log_id or secrets.token_hex(16),
            epoch=self._epoch,
            pid=os.getpid(),
            host=socket.gethostname(),
            prior_bytes=found.end if sealing else None,
            prior_lines=found.lines if sealing else None,
            prior_sha256=found.unsealed_sha256 if sealing else None,
        )

    def _refuse(self, found: Scan) -> None:
        if found.verdict is Verdict.DAMAGED:
            raise LogDamaged(
                f"the log is damaged: {found.reason}",
                path=self.path,
                seq=found.bad_seq,
                offset=found.bad_offset,
                hint="`events salvage` copies what is whole to a new file; this one is kept",
            )
        if is_too_new(found):
            raise LogTooNew(
                f"the log has format {found.format}, this version writes {codec.FORMAT}",
                path=self.path,
                hint="use the version that wrote it, or a later one",
            )

    def _heal(self, found: Scan) -> Recovered | None:
        """Finish or move aside the last line, so that the file ends at a line's end."""
        if found.verdict is Verdict.UNTERMINATED:
            if found.junk:
                self._files.truncate(self._fd, found.end)
            write_all(self._files, self._fd, b"\n")
            self._files.sync(self._fd)
            found.end += 1
            if not found.sealed:
                again = scan(FileSource(self._fd, self._files))
                found.unsealed_sha256 = again.unsealed_sha256
            return None
        if found.verdict is not Verdict.TORN:
            return None
        _, _, size = self._files.identity(self._fd)
        tail = self._files.read_at(self._fd, size - found.end, found.end)
        moved_to = self._set_aside(tail)
        self._files.truncate(self._fd, found.end)
        self._files.sync(self._fd)
        return Recovered(
            offset=found.end,
            bytes=len(tail),
            sha256=codec.digest(tail),
            moved_to=os.path.basename(moved_to),
        )

    def _set_aside(self, tail: bytes) -> str:
        for number in range(1, 10_000):
            name = f"{self.path}.torn-{number}"
            try:
                fd = self._files.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                continue
            try:
                write_all(self._files, fd, tail)
                self._files.sync(fd)
            finally:
                self._files.close(fd)
            self._files.sync_dir(os.path.dirname(self.path))
            return name
        raise OSError(errno.EEXIST, "too many torn tails stand beside the log")
