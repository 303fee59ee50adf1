"""The events that a database shows: from the index what is there, from the logs what is new."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .blob import Blob
from .errors import QueryError
from .find import LogRef, lock_beside
from .found import MAX_NAMED, LineRejected, LogState, Reading
from .index import SMALL, Index, packing
from .lock import is_held
from .manifest import Entry, Stamp, capped, is_settled, prints
from .source import LogFile
from .tables import Loader

if TYPE_CHECKING:
    import duckdb

_MANY = 64
"""Logs that had to be opened: from so many on it is worth to note that they are as they were."""


class Kept(NamedTuple):
    """Where an index lies.

    Attributes:
        folder: of the index.
        root: of the logs that it is about; others are read each time.
    """

    folder: str
    root: str


class _Todo(NamedTuple):
    """A log that must be opened: its place in the index, and what the index knows of it."""

    ref: LogRef
    place: str | None
    before: Entry | None
    reading: Reading


class Stock:
    """Fill a database and know what it holds.

    Args:
        con: an empty, unlocked database.
        kept: where the index is, or None.
        hot: fields of `data` with their SQL types.
        clock: nanoseconds since 1970, as stamps of files have them.

    Attributes:
        states: what was found in each log.
        chosen: numbers of the logs that were asked for.
        prefix: what stands before a place to make it a path.
        read_bytes: that no index had.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        kept: Kept | None,
        hot: Mapping[str, str],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._con = con
        self.hot = dict(hot)
        self._kept = kept
        self._clock = clock
        self.index: Index | None = None
        self._loader = Loader(con)
        self._next = 1
        self._outside = 0
        self._entries: dict[str, Entry] = {}
        self._named: list[list[LineRejected]] = []
        self._jobs: dict[int, set[str]] = {}
        self._staging = Blob()
        self.outgoing = Blob()
        self.chosen: set[int] = set()
        self.prefix = ""
        self.states: list[LogState] = []
        self.read_bytes = 0
        self._opened = 0
        self._is_kept = False

    @property
    def rejected(self) -> list[LineRejected]:
        """The first lines that could not be loaded."""
        return [line for lines in self._named for line in lines][:MAX_NAMED]

    @property
    def packed(self) -> list[Blob]:
        """Files of events that were read now, for there were too many for a table."""
        return self._loader.packed

    @property
    def new_rows(self) -> str:
        """The query of all events that were read now."""
        table = "select * from raw.fresh"
        if not self.packed:
            return table
        paths = [blob.path for blob in self.packed]
        return f"{table} union all by name select * from read_parquet({paths})"

    @property
    def paths(self) -> list[str]:
        """The files that the locked database needs."""
        blobs = [*self.packed, self._staging, self.outgoing]
        return [blob.path for blob in [*blobs, *(self.index.blobs if self.index else ())]]

    def load(self, refs: Iterable[LogRef]) -> None:
        """Read the logs, in their order.

        Raises:
            LogNotFound, EventLogError: a log can't be opened.
            QueryError: there is no room for what is read.
        """
        found = list(refs)
        stats = [_stat(ref.path) for ref in found]
        if self._kept and sum(stat.st_size for stat in stats if stat) > SMALL:
            self.index = Index(self._kept.folder, repr(sorted(self.hot.items())))
        try:
            todo = self._plan(found, stats)
            if todo and self.index is not None and self.index.begin():
                todo = self._plan(found, stats)  # another process may have renewed it before
            self._opened = len(todo)
            for item in todo:
                self._read(item)
            self._loader.finish()
            self._learn_jobs()
            for item in todo:
                self._settle_job(item)
            self._loader.logs(self.states)
        except OSError as error:
            raise QueryError(
                f"the events can't be handed to the database: {error.strerror}",
                hint="make room in memory, or in TMPDIR",
            ) from error

    # --- planning ----------------------------------------------------------------------------

    def _plan(self, refs: list[LogRef], stats: list[os.stat_result | None]) -> list[_Todo]:
        """Return which logs must be opened; the others are as the index has them."""
        known = self.index.manifest.logs if self.index else {}
        self._next = self.index.manifest.next_log if self.index else 1
        self._entries, self.chosen = dict(known), set()
        self.states, self._named = [], []
        todo: list[_Todo] = []
        for ref, stat, place in zip(refs, stats, self._places(refs), strict=True):
            before = known.get(place) if place is not None else None
            if before is not None and stat and before.is_same(Stamp.of(stat), ref.job_id):
                self._take(ref, before)
                continue
            reading = Reading(
                log=self._number(place),
                job_id=ref.job_id,
                place=ref.path if place is None else place,
                state=LogState(file=ref.path),
            )
            self.states.append(reading.state)
            self._named.append(reading.rejected)
            todo.append(_Todo(ref, place, before, reading))
        return todo

    def _places(self, refs: list[LogRef]) -> list[str | None]:
        """Return where in the index each log has its place; None for a log outside of it."""
        if self.index is None or self._kept is None:
            return [None] * len(refs)
        root = self._kept.root.rstrip("/") + "/"
        full = os.path.abspath(root) + "/"
        places: list[str | None] = []
        prefix: str | None = None
        for ref in refs:
            path, place = ref.path, None
            if path.startswith(root):
                place = path[len(root) :]
            elif (other := os.path.abspath(path)).startswith(full):
                place = other[len(full) :]
            if place is not None and path.endswith(place) and _is_text(path):
                # One prefix for all, so that a row needs only what comes after it.
                before = path[: -len(place)]
                prefix = before if prefix is None else prefix
                place = place if before == prefix else None
            else:
                place = None
            places.append(place)
        self.prefix = prefix or ""
        return places

    def _number(self, place: str | None) -> int:
        """Return a log's number: above 0 for one with a place in the index."""
        if place is None:
            self._outside -= 1
            return self._outside
        self._next += 1
        return self._next - 1

    def _take(self, ref: LogRef, entry: Entry) -> None:
        """Take a log as the index has it."""
        self.chosen.add(entry.log)
        state = msgspec.structs.replace(entry.state, file=ref.path)
        state.held = is_held(lock_beside(ref.path))
        self.states.append(state)
        self._named.append([line._replace(file=ref.path) for line in entry.rejected])

    # --- reading -----------------------------------------------------------------------------

    def _read(self, item: _Todo) -> None:
        """Read what is new in a log."""
        ref, reading, before = item.ref, item.reading, item.before
        with LogFile(ref.path) as file:
            stamp = Stamp.of(file.stat())
            if before is not None and before.goes_on(file, stamp, ref.job_id):
                _go_on(reading, before)
                self._jobs.setdefault(reading.log, set()).update(before.jobs)
            begin = reading.end
            self._loader.read(file, reading)
            self.read_bytes += reading.end - begin
            hashes = prints(file, reading.end) if item.place is not None else (b"", b"")
        reading.state.held = is_held(lock_beside(ref.path))
        self.chosen.add(reading.log)
        if item.place is not None:
            self._entries.pop(item.place, None)
            if not reading.stopped:
                self._entries[item.place] = Entry(
                    log=reading.log,
                    job_id=ref.job_id,
                    stamp=stamp,
                    settled=is_settled(stamp, self._clock()),
                    end=reading.end,
                    head=hashes[0],
                    tail=hashes[1],
                    state=reading.state,
                    rejected=capped(reading.rejected),
                )

    def _learn_jobs(self) -> None:
        """Learn whose lines stand in each log that was read."""
        rows = self._con.execute(
            f"select distinct log, job_id from ({self.new_rows}) where job_id is not null"
        )
        for log, job_id in rows.fetchall():
            self._jobs.setdefault(log, set()).add(job_id)

    def _settle_job(self, item: _Todo) -> None:
        """Name a log's job: as its caller does, else as its own lines do if they name one."""
        reading = item.reading
        jobs = sorted(self._jobs.get(reading.log, ()))[:2]
        reading.state.job_id = item.ref.job_id or (jobs[0] if len(jobs) == 1 else None)
        if item.place in self._entries:
            self._entries[item.place].jobs = jobs

    # --- keeping -----------------------------------------------------------------------------

    def keep(self) -> str:
        """Renew the index with what was read; return why that was not possible, or nothing."""
        index = self.index
        if index is None:
            return ""
        for place in self._gone():
            del self._entries[place]
        live = {entry.log for entry in self._entries.values()}
        stale = any(not live.issuperset(segment.logs) for segment in index.manifest.segments)
        enough = self.read_bytes >= SMALL or self._opened >= _MANY
        if not (enough or stale) or self._is_kept:
            return index.trouble
        # The right to renew was taken before anything was read, or nothing was read.
        if index.is_held or (not self._opened and index.begin(fresh=False)):
            if not all(blob.intact() for blob in self.packed):
                return "a statement has changed what was read"
            new = packing(f"({self.new_rows})", self.hot)
            index.keep(self._con, self._entries, new, self._staging, self._next)
            self._is_kept = True
        return index.trouble

    def _gone(self) -> list[str]:
        """Return the places of logs that are not there any more."""
        seen = {entry.log for entry in self._entries.values()} & self.chosen
        root = self._kept.root if self._kept else ""
        return [
            place
            for place, entry in self._entries.items()
            if entry.log not in seen and not os.path.lexists(os.path.join(root, place))
        ]

    def close(self) -> None:
        """Stop reading and forget all copies."""
        self._loader.close()
        for blob in [*self.packed, self._staging, self.outgoing]:
            blob.close()
        if self.index is not None:
            self.index.close()
            self.index = None


def _go_on(reading: Reading, before: Entry) -> None:
    """Go on where the index ends: the log keeps its number, its counts and its bad lines."""
    reading.log, reading.end = before.log, before.end
    for name in LogState.__struct_fields__:
        if name not in {"file", "job_id"}:
            setattr(reading.state, name, getattr(before.state, name))
    reading.rejected += [line._replace(file=reading.state.file) for line in before.rejected]


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None  # told when it is opened


def _is_text(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
