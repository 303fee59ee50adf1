"""Where the cache entries of a key are: one lookup, however many jobs there are.

A SQLite file, `runs/.index/cache.sqlite`. It holds nothing that is not in the entries, is
never trusted (the entry's file is the truth), and is made anew when it is missing or broken.
"""

from __future__ import annotations

import os
import sqlite3

import msgspec

from eventlog.codec import UNREADABLE

from .ids import is_name

HOLDERS = 8
"""How many entries are looked at, the newest first: of one key, and of one step."""

LATER_MAX = 100
"""Copies that are noted together."""

_SCHEMA = """
create table if not exists entry (
    key text not null, job_id text not null, project text not null, step text not null,
    parts text not null, created_at text not null, gone integer not null,
    primary key (key, job_id)
) without rowid;
create index if not exists nearest on entry (project, step, created_at);
create table if not exists job (
    job_id text primary key, changed_ns integer not null
) without rowid;
"""
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, and the job whose folder holds it."""

    key: str
    job_id: str
    project: str
    step: str
    parts: dict[str, str]
    created_at: str


class _Entry(msgspec.Struct):
    """The fields of an entry's file that the index keeps."""

    key: str
    project: str
    step: str
    parts: dict[str, str]
    created_at: str


class CacheIndex:
    """The index of one `runs/` folder; usable even where it can't be written.

    Args:
        root: the folder of the run folders.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = os.path.join(root, ".index", "cache.sqlite")
        self._db: sqlite3.Connection | None = None
        self._reconciled = False
        self._later: list[Place] = []

    def holders(self, key: str, project: str | None = None) -> list[str]:
        """Return the jobs that should hold a key's entry, the newest first; of a project, or all.

        What was only noted by `add_later` may not be among them.
        """
        of_project = "" if project is None else " and project = ?"
        sql = (
            f"select job_id from entry where key = ?{of_project} and not gone"  # noqa: S608 - our own words
            f" order by created_at desc, job_id desc limit {HOLDERS}"
        )
        params = (key,) if project is None else (key, project)
        try:
            return [row[0] for row in self._open().execute(sql, params)]
        except sqlite3.DatabaseError as error:
            self._failed(error)
            return []

    def newest(self, project: str, step: str) -> list[Place]:
        """Return the newest entries that a step of a project ever had, cleared or not."""
        self._catch_up()
        return self._places(
            "where project = ? and step = ? order by created_at desc, key", project, step
        )

    def all(self) -> list[Place]:
        """Return every entry that is not known to be gone."""
        return self._places("where not gone order by created_at desc, key, job_id", limit=-1)

    def add(self, *places: Place) -> None:
        """Note entries."""
        rows = [
            (
                place.key,
                place.job_id,
                place.project,
                place.step,
                msgspec.json.encode(place.parts).decode(),
                place.created_at,
            )
            for place in places
        ]
        try:
            with self._open() as db:
                db.executemany("insert or replace into entry values (?, ?, ?, ?, ?, ?, 0)", rows)
        except sqlite3.DatabaseError as error:
            self._failed(error)

    def add_later(self, place: Place) -> None:
        """Note an entry some time: when there are a hundred, or on `close`.

        For a copy of an entry that others hold: a commit would cost more than the copy.
        """
        self._later.append(place)
        if len(self._later) >= LATER_MAX:
            self._catch_up()

    def forget(self, key: str, job_id: str) -> None:
        """Note that an entry is not there any more; it still explains a miss."""
        self._run("update entry set gone = 1 where key = ? and job_id = ?", (key, job_id))

    def reconcile(self) -> bool:
        """Take in folders that are new, copied or changed; once, then return False."""
        if self._reconciled:
            return False
        self._reconciled = True
        try:
            known = dict(self._open().execute("select job_id, changed_ns from job"))
            with os.scandir(self._root) as entries:
                names = [entry.name for entry in entries if is_name(entry.name)]
        except sqlite3.DatabaseError as error:
            self._failed(error)
            return False
        except OSError:
            return False
        for name in names:
            folder = os.path.join(self._root, name, ".cache")
            try:
                changed_ns = os.stat(folder).st_mtime_ns
            except OSError:
                continue
            if known.get(name) == changed_ns:
                continue
            self.add(*_entries(folder, name))
            self._run("insert or replace into job values (?, ?)", (name, changed_ns))
        return True

    def close(self) -> None:
        """Close the file."""
        self._catch_up()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _catch_up(self) -> None:
        later, self._later = self._later, []
        if later:
            self.add(*later)

    # --- inside --------------------------------------------------------------------------------

    def _places(self, where: str, *params: str, limit: int = HOLDERS) -> list[Place]:
        columns = "key, job_id, project, step, parts, created_at"
        sql = f"select {columns} from entry {where} limit {limit}"  # noqa: S608 - our own words
        try:
            rows = self._open().execute(sql, params).fetchall()
        except sqlite3.DatabaseError as error:
            self._failed(error)
            return []
        return [
            Place(
                key=key,
                job_id=job_id,
                project=project,
                step=step,
                parts=msgspec.json.decode(parts, type=dict[str, str]),
                created_at=created_at,
            )
            for key, job_id, project, step, parts, created_at in rows
        ]

    def _run(self, sql: str, row: tuple[str | int, ...]) -> None:
        try:
            with self._open() as db:
                db.execute(sql, row)
        except sqlite3.DatabaseError as error:
            self._failed(error)

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
                if not os.path.exists(self._path):  # it was deleted: what was beside it goes too
                    self._remove()
                # SQLite would let others read it.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise sqlite3.DatabaseError(str(error)) from error
            self._db = sqlite3.connect(self._path, timeout=5.0)
            # What it loses in a crash is found again: nothing is worth a sync here.
            self._db.execute("pragma synchronous = off")
            # A commit is one write at the end of a file, and not a file made and removed.
            self._db.execute("pragma journal_mode = wal")
            self._db.executescript(_SCHEMA)
        return self._db

    def _failed(self, error: sqlite3.DatabaseError) -> None:
        """Throw the index away, unless it is only busy: what it does not know is found again."""
        if getattr(error, "sqlite_errorcode", None) in _BUSY:
            return
        self.close()
        self._reconciled = False
        self._remove()

    def _remove(self) -> None:
        for ending in ("", "-journal", "-wal", "-shm"):
            try:
                os.unlink(self._path + ending)
            except OSError:
                pass


def _entries(folder: str, job_id: str) -> list[Place]:
    """Return what a job's cache folder holds; a file that is no entry is left out."""
    places = []
    decode = msgspec.json.Decoder(_Entry).decode
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".json")]
    except OSError:
        return []
    for name in names:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                entry = decode(file.read())
        except (OSError, *UNREADABLE):
            continue
        places.append(
            Place(
                key=entry.key,
                job_id=job_id,
                project=entry.project,
                step=entry.step,
                parts=entry.parts,
                created_at=entry.created_at,
            )
        )
    return places
