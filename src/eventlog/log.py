"""The file: open, append, sync. One writer at a time; a `Log` is its handle.

An append returns only when what its durability level promises holds. A failed write or sync
poisons the handle: it is not tried again, because the system may have dropped the pages that
it failed to write, and a second sync would then lie.

Threads may share a handle. At level `group` those that append at the same time share one write
and one sync (see `group`); at the others one append at a time goes through.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain, pairwise, starmap
from types import TracebackType
from typing import Any, Self

from . import codec
from .durability import Durability
from .errors import EventLogError, LineTooLong, LogFenced, LogPoisoned, LogWriteFailed
from .event import Event, LogOpened, LogRecovered, Recovered
from .find import lock_beside
from .forked import own
from .fs import FILES, HINTS, Files, write_all, write_over
from .group import Append, Events, Group, Outcome
from .heal import heal
from .lock import Lock
from .opening import introduce
from .recover import refuse, scan
from .sealer import Fields, Sealer
from .source import FileSource, check_name


class Log:
    """A writer's hold on a log.

    Args:
        path: the log file; it is made if it is not there, its folder is not.
        fields: members for every line, or a function from the event to them.
        durability: what `append` waits for.
        lock_path: the lock file; by default the folder's `.lock` if there is one, else
            `<path>.lock`.
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
        self._at = os.path.abspath(self.path)  # the process may change its folder later
        self._seal = Sealer(fields, self.path)
        durability = Durability(durability)
        self._syncs = durability is not Durability.OS
        self._clock = clock
        self._files = files
        self._mutex = threading.RLock()
        self._group = Group(self.append_all) if durability is Durability.GROUP else None
        self._poison = ""
        self._fd = -1
        self._gone = "the log is closed"
        self._device = self._inode = 0
        self._unsynced = False
        self._durable: int | None = None
        self._next = 0
        self._head = codec.GENESIS
        self._epoch = 0
        self._offset = 0
        check_name(self.path)
        started = codec.Stamper()(clock())
        self._lock = Lock(lock_path or lock_beside(self.path), started=started, files=files)
        own(self)
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
        if not events:
            return range(self._next, self._next)
        if self._group is not None:
            return self._group.append((events, time_ns))
        with self._mutex:
            if self._poison or self._fd < 0:
                self._check()
            return self._append(events, time_ns)

    def append_all(self, appends: Sequence[Append]) -> list[Outcome]:
        """Write several appends in one batch: one write, one sync.

        Returns, for each, its seqs, or the error for which nothing of it was written: an event
        that can't be encoded spoils its own append and no other.

        Raises:
            LogFenced, LogWriteFailed, LogPoisoned: nothing of the batch is promised.
        """
        with self._mutex:
            while True:
                self._check()
                first = self._next
                outcomes, lines, head = self._sealed_together(appends)
                if not lines or self._put(lines, head, first):
                    return outcomes

    def sync(self) -> None:
        """Return when everything appended so far is on the disk.

        Raises:
            LogWriteFailed, LogPoisoned: as `append`.
        """
        with self._mutex:
            self._check()
            self._sync()

    def close(self) -> None:
        """Sync what is left and let go of the file and the lock; more than once is fine."""
        with self._mutex:
            fd, self._fd = self._fd, -1
            try:
                if fd >= 0 and not self._poison and self._unsynced:
                    self._sync(fd)
            finally:
                try:
                    if fd >= 0:
                        self._files.close(fd)
                except OSError as error:
                    raise self._fail("close", error) from error
                finally:
                    self._lock.release()

    def disown(self) -> None:
        """Let go in a forked process, without a word to the file."""
        fd, self._fd = self._fd, -1
        self._poison, self._gone = "", "the log is another process's: this one was forked from it"
        self._mutex = threading.RLock()
        if self._group is not None:
            self._group = Group(self.append_all)
        if fd >= 0:
            os.close(fd)

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

    def _sealed(
        self, events: Events, first: int, head: str, time_ns: int | None, *, ours: bool = False
    ) -> tuple[list[bytes], str]:
        """Return the lines of one append and the sum of the last; the batch's first has `dur`."""
        return self._seal(
            events,
            first,
            head,
            self._clock() if time_ns is None else time_ns,
            self._durable if self._syncs and first == self._next else None,
            ours=ours,
        )

    def _sealed_together(self, appends: Sequence[Append]) -> tuple[list[Outcome], list[bytes], str]:
        """Return what each append comes to, the lines of all, and the sum of the last."""
        outcomes: list[Outcome] = []
        if all(time_ns is None for _, time_ns in appends):
            try:
                events = tuple(chain.from_iterable(events for events, _ in appends))
                lines, head = self._sealed(events, self._next, self._head, None)
            except Exception:  # noqa: BLE001 - it is raised again below, for its own append
                pass
            else:
                sizes = (len(events) for events, _ in appends)
                outcomes += starmap(range, pairwise(accumulate(sizes, initial=self._next)))
                return outcomes, lines, head
        lines, head = [], self._head
        for events, time_ns in appends:
            first = self._next + len(lines)
            try:
                sealed, head = self._sealed(events, first, head, time_ns)
            except Exception as error:  # noqa: BLE001 - `fields` may raise anything
                outcomes.append(error)
                continue
            lines += sealed
            outcomes.append(range(first, first + len(sealed)))
        return outcomes, lines, head

    def _append(self, events: Events, time_ns: int | None, *, ours: bool = False) -> range:
        """Append one batch, as `append`; `ours` are durable at any level."""
        while True:
            first = self._next
            lines, head = self._sealed(events, first, self._head, time_ns, ours=ours)
            if self._put(lines, head, first, durable=ours):
                return range(first, first + len(lines))

    def _append_own(self, event: Event) -> None:
        """Append one of the log's own events, alone in its batch; recovery relies on its sync."""
        self._append((event,), None, ours=True)

    def _put(self, lines: list[bytes], head: str, first: int, *, durable: bool = False) -> bool:
        """Write one batch, and sync it if the level says so or it must be `durable`.

        Returns False, and writes nothing, if `first` is not the seq that is due any more: this
        thread has appended since the batch was sealed, in a signal's handler or in `fields`.
        """
        # Whatever breaks in between (Ctrl-C too) leaves the handle poisoned: what it knows and
        # what the file holds may differ then.
        earlier, self._poison = self._poison, "an append was interrupted"
        if earlier or self._next != first:
            self._poison = earlier
            self._check()
            return False
        self._fence()
        start = self._offset
        self._write(b"".join(lines))
        self._next, self._head = self._next + len(lines), head
        if durable or self._syncs:
            self._sync(promised=start)
        self._poison = ""
        return True

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._files, self._fd, data)
        except OSError as error:
            self._cut(self._offset)
            raise self._fail("write", error) from error
        self._offset += len(data)
        self._unsynced = True

    def _sync(self, fd: int | None = None, *, promised: int | None = None) -> None:
        if self._unsynced:
            try:
                self._files.sync_data(self._fd if fd is None else fd)
            except OSError as error:
                self._cut(promised, fd)
                raise self._fail("sync", error) from error
            self._unsynced = False
        self._durable = self._next - 1

    def _cut(self, size: int | None, fd: int | None = None) -> None:
        """Take back a batch that was never promised, all from `size` on.

        After a failed sync its bytes may be in the system's memory only, where the next open
        would find them and believe them. What can't be cut off, or may not be because an
        append at level `os` promised it (no `size`), is made fit for that open's sync.
        """
        fd = self._fd if fd is None else fd
        if size is not None:
            try:
                self._files.truncate(fd, size)
            except OSError:
                pass
            else:
                return
        write_over(self._files, fd, self._at)

    def _check(self) -> None:
        if self._poison:
            raise LogPoisoned(
                f"the log takes no more events, because of an earlier failure: {self._poison}",
                path=self.path,
                hint="open it again: what is there is checked and healed first",
            )
        if self._fd < 0:
            raise LogPoisoned(self._gone, path=self.path, hint="open it to append")

    def _fence(self) -> None:
        """Refuse to write to a file that is not as this writer left it."""
        try:
            # One call says both: what has the name is this file, and so its size is this one's.
            named = self._files.identity_of(self._at)
        except OSError:
            named = (0, 0, 0)
        if named == (self._device, self._inode, self._offset):
            return
        same = named[:2] == (self._device, self._inode)
        try:
            size = named[2] if same else self._files.size(self._fd)
        except OSError as error:
            raise self._fail("look at the file's size", error) from error
        self._poison = "another program changed the file"
        raise LogFenced(
            f"the file is not as this writer left it: {size} bytes where {self._offset} are due,"
            f" {'the same' if same else 'another'} file",
            path=self.path,
            hint="find what else writes, moves or cuts this file; then open it again",
        )

    def _fail(self, operation: str, error: OSError) -> EventLogError:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        self._poison = f"{operation} failed with {name}"
        return LogWriteFailed(
            f"{operation} failed: {error.strerror or error} [{name}]",
            path=self.path,
            offset=self._offset,
            hint=HINTS.get(error.errno or 0, "check the disk, then open the log again"),
        )

    # --- open --------------------------------------------------------------------------------

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND
        made = True
        try:
            try:
                self._fd = self._files.open(self._at, flags | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                made = False
                self._fd = self._files.open(self._at, flags)
                # What an earlier process wrote may be in the system's memory only: nothing is
                # trusted before this sync.
                self._files.sync(self._fd)
            self._device, self._inode, _ = self._files.identity(self._fd)
            found = scan(FileSource(self._fd, self._files))
        except OSError as error:
            if self._fd >= 0:
                self._cut(None)
            raise self._fail("open", error) from error
        except LineTooLong as error:
            error.path = self.path
            raise
        refuse(found, self.path)
        try:
            tail = heal(self._files, self._fd, self._at, found)
        except OSError as error:
            raise self._fail("recovery", error) from error
        self._next, self._head, self._offset = found.lines, found.head, found.end
        self._epoch = found.epoch + 1
        self._durable = found.lines - 1 if found.lines else None
        self._append_own(LogOpened(data=introduce(found, self._epoch)))
        if tail is not None:
            self.recovered = tail
            self._append_own(LogRecovered(data=tail))
        try:
            if made:
                self._files.sync(self._fd)
            self._files.sync_dir(os.path.dirname(self._at))
        except OSError as error:
            raise self._fail("sync", error) from error
