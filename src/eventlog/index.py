"""What was loaded of logs, kept for the next query: a cache, never the truth.

    <folder>/manifest.json     which logs, how far, and which segments hold their events
    <folder>/<name>.parquet    a segment: events, with the hot fields as columns; never changed
    <folder>/lock              held while the index is renewed

A query reads only what is new in the logs that have changed. A log is taken for the one that was
read before if it is the same file, still begins and ends (at the offset read so far) with the
same bytes, and has not been made shorter; its chain of sums makes that enough. Else it is read
anew. Readers copy the segments into memory of their own, so nobody waits for anybody; one process
at a time renews the index, and others do without. Whatever looks wrong is thrown away and made
again from the logs.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .blob import Blob
from .errors import EventLogError, LogLocked
from .fs import FILES, Files, write_whole
from .lock import Lock
from .manifest import Entry, Manifest, Segment, Stamp, parsed, written
from .tables import PARQUET

if TYPE_CHECKING:
    import duckdb

SMALL = 1 << 20
"""Bytes of logs that are read again rather than kept."""

_NAME = re.compile(r"[0-9a-f]{16}\.parquet")
_MERGE = 2.0


class Index:
    """The index in a folder, as it is now.

    Args:
        folder: made when there is something to keep.
        shape: names the columns; an index of others is not used.
        files: the system's calls.
    """

    def __init__(self, folder: str, shape: str, files: Files = FILES) -> None:
        self.folder = folder
        self.trouble = ""
        self._shape = shape
        self._files = files
        self._lock: Lock | None = None
        self._seen = b""
        self.manifest = Manifest(shape=shape)
        self.blobs: list[Blob] = []
        if self._is_ours():
            self._read()

    def _is_ours(self) -> bool:
        """Return whether nobody else can have written what lies in the folder."""
        try:
            stat = os.lstat(self.folder)
        except OSError:
            return False
        return stat.st_uid == os.geteuid() and not stat.st_mode & 0o022

    # --- reading -----------------------------------------------------------------------------

    def _read(self) -> None:
        """Take in the manifest and copy the segments; on any doubt, know nothing."""
        for _ in range(3):  # while another process renews it
            self._forget()
            data = self._bytes()
            manifest = parsed(data, self._shape)
            if manifest is None:
                return
            if all(self._copy(segment) for segment in manifest.segments):
                self.manifest, self._seen = manifest, data
                return
        self._forget()

    def _forget(self) -> None:
        for blob in self.blobs:
            blob.close()
        self.blobs, self._seen = [], b""
        self.manifest = Manifest(shape=self._shape)

    def _bytes(self) -> bytes:
        try:
            with open(os.path.join(self.folder, "manifest.json"), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def _copy(self, segment: Segment) -> bool:
        """Copy a segment if it is what was written; return whether it is."""
        try:
            fd = self._files.open(os.path.join(self.folder, segment.name), os.O_RDONLY)
        except OSError:
            return False
        try:
            stamp = Stamp.of(os.fstat(fd))
            if stamp.size != segment.stamp.size:
                return False
            blob = Blob(stamp.size)
            self.blobs.append(blob)
            blob.copy_from(fd)
            # A folder that was copied has other stamps: then all bytes are looked at.
            if stamp != segment.stamp and blob.crc() != segment.crc:
                return False
            blob.seal()
        except OSError:
            return False
        finally:
            os.close(fd)
        return blob.size == segment.stamp.size

    # --- renewing ----------------------------------------------------------------------------

    def begin(self, *, fresh: bool = True) -> bool:
        """Take the right to renew the index; False if that is not possible now.

        It is given back by `close`.

        Args:
            fresh: read the index again if another process has renewed it since; else that is a
                reason to leave it alone.
        """
        if self._lock is not None:
            return True
        try:
            for folder in (os.path.dirname(self.folder), self.folder):
                _make(folder)
            if not self._is_ours():
                self.trouble = "its folder can be written by others"
                return False
            self._lock = Lock(os.path.join(self.folder, "lock"), started="", files=self._files)
        except LogLocked:
            return False  # another process renews it
        except OSError as error:
            self.trouble = error.strerror or str(error)
            return False
        except EventLogError as error:
            self.trouble = error.message
            return False
        if self._bytes() != self._seen:
            if not fresh:
                self.close()
                return False
            self._read()
        return True

    @property
    def is_held(self) -> bool:
        """Whether this process has the right to renew it."""
        return self._lock is not None

    def keep(
        self,
        con: duckdb.DuckDBPyConnection,
        logs: Mapping[str, Entry],
        new: str,
        staging: Blob,
        next_log: int,
    ) -> None:
        """Write what was read, and forget logs that are gone.

        Args:
            con: the database, from whose locked state only the blobs can be reached.
            logs: everything that the index shall know, by place.
            new: the query of what was read, with the hot fields.
            staging: an empty blob that the database may write.
            next_log: for the manifest.
        """
        if not all(blob.intact() for blob in self.blobs):
            self.trouble = "a statement has changed what was read"
            return
        live = {entry.log for entry in logs.values()}
        parts = [f"select * from ({new})"]
        told = con.execute(f"select log, count(*) from ({new}) group by log").fetchall()
        rows = sum(count for log, count in told if log in live)
        kept, merged = _choose(self.manifest.segments, live, rows)
        manifest = Manifest(
            shape=self._shape, next_log=next_log, logs=dict(logs), segments=list(kept)
        )
        try:
            if rows or any(live & set(segment.logs) for segment in merged):
                old = [
                    blob.path
                    for blob, segment in zip(self.blobs, self.manifest.segments, strict=True)
                    if segment in merged
                ]
                if old:
                    parts.append(f"select * from read_parquet({old})")
                manifest.segments.append(self._write(con, parts, live, staging))
            path = os.path.join(self.folder, "manifest.json")
            write_whole(self._files, path, written(manifest))
            self._sweep({segment.name for segment in manifest.segments})
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def _write(
        self, con: duckdb.DuckDBPyConnection, parts: list[str], live: set[int], staging: Blob
    ) -> Segment:
        """Write a segment of the living rows of some queries."""
        con.execute("create or replace temp table living(log integer)")
        con.execute("insert into living select unnest(?)", [sorted(live)])
        rows = " union all by name ".join(parts)
        con.execute(
            f"copy (select * from ({rows}) semi join living using (log))"
            f" to '{staging.path}' {PARQUET}"
        )
        told = con.execute(
            f"select log, count(*) from read_parquet('{staging.path}') group by log"
        ).fetchall()
        data = staging.read()
        name = f"{os.urandom(8).hex()}.parquet"
        path = os.path.join(self.folder, name)
        write_whole(self._files, path, data)
        return Segment(
            name=name,
            stamp=Stamp.of(os.lstat(path)),
            crc=zlib.crc32(data),
            rows=sum(count for _, count in told),
            logs=sorted(log for log, _ in told),
        )

    def _sweep(self, names: set[str]) -> None:
        """Remove what no manifest names: old segments, and what a killed process left."""
        for entry in list(os.scandir(self.folder)):
            is_segment = _NAME.fullmatch(entry.name) and entry.name not in names
            if is_segment or ".tmp-" in entry.name:
                try:
                    os.unlink(entry.path)
                except OSError:
                    pass

    def close(self) -> None:
        """Give the right to renew back and forget the copies."""
        self._forget()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _make(folder: str) -> None:
    """Make a folder for its owner alone, if it is not there."""
    try:
        if folder:
            os.mkdir(folder, 0o700)
    except FileExistsError:  # another process may just have made it
        if not os.path.isdir(folder):
            raise


def _choose(
    segments: Iterable[Segment], live: set[int], rows: int
) -> tuple[list[Segment], list[Segment]]:
    """Return which segments stay, and which are written anew together with so many new rows.

    Those with events of logs that are gone must be; small ones join what comes, so that there
    are never more than a few, and an event is copied only when what it is in has grown.
    """
    kept: list[Segment] = []
    merged: list[Segment] = []
    for segment in segments:
        (merged if not live.issuperset(segment.logs) else kept).append(segment)
    rows += sum(segment.rows for segment in merged)
    while kept and kept[-1].rows <= _MERGE * rows:
        last = kept.pop()
        merged.append(last)
        rows += last.rows
    return kept, merged


def packing(table: str, hot: Mapping[str, str]) -> str:
    """Return the query that brings what was read into a segment's form.

    One pass over `data` finds all hot fields; what each says is the same as `data->>'name'`.
    """
    if not hot:
        return f"select * from {table}"
    shape = "{" + ",".join(f'"{name}":"VARCHAR"' for name in hot) + "}"
    fields = ", ".join(
        f'try_cast(hot."{name}" as {kind}) as "{name}"' for name, kind in hot.items()
    )
    return (
        f"select * exclude (hot), {fields} from (select *, from_json(data, '{shape}') as hot"
        f" from {table})"
    )
