"""The jobs below `runs/`: make one, find one, list all.

The catalogue (`runs/catalog.jsonl`) keeps a line a job and leg, so that listing need not open
every log. It is a projection: a folder that was copied in is found, a job whose log has
grown since is read again, and a catalogue that was deleted is made anew.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from eventlog import EventLogError, Lock, LogLocked
from eventlog.codec import Stamper
from eventlog.fs import FILES, write_whole

from .blobs import BlobStore
from .errors import StorageError, UsageError
from .folder import RunFolder
from .history import fold_job
from .ids import check_name, is_name, new_job_id
from .report import Summary, summary
from .state import JobState

CATALOG = "catalog.jsonl"
_TRIES = 20
_LINES_A_JOB = 2
_LINES_MORE = 64
"""Lines that the catalogue may have beyond that: then it is written anew."""

_LOCK_WAIT_S = 5.0


class Jobs:
    """The folder that holds the run folders."""

    def __init__(self, root: str) -> None:
        self.root = root

    # --- one job -------------------------------------------------------------------------------

    def create(self) -> RunFolder:
        """Make the folder of a new job.

        Raises:
            StorageError: the system refused.
        """
        for _ in range(_TRIES):
            folder = RunFolder(self.root, new_job_id(time.time_ns(), secrets.token_bytes(4)))
            try:
                folder.create()
            except FileExistsError:
                continue
            return folder
        raise StorageError("can't make a job id that is not taken", place=self.root)

    def find(self, ref: str) -> RunFolder:
        """Return the job that an id, a unique prefix of one, or `latest` means.

        Raises:
            UsageError: there is none, or more than one.
        """
        if ref == "latest":
            rows = self.rows()
            if not rows:
                raise UsageError(
                    "there is no job yet", place=self.root, hint="start one: orch run SPEC"
                )
            return RunFolder(self.root, rows[0].job_id)
        check_name(ref, "job id")
        folder = RunFolder(self.root, ref)
        if os.path.isdir(folder.path):
            return folder
        matches = [name for name in self.names() if name.startswith(ref)]
        if len(matches) == 1:
            return RunFolder(self.root, matches[0])
        if matches:
            shown = ", ".join(sorted(matches)[:4])
            raise UsageError(f"{ref!r} means {len(matches)} jobs: {shown}", hint="give more of it")
        raise UsageError(
            f"there is no job {ref!r}", place=self.root, hint="orch list shows all jobs"
        )

    def names(self) -> list[str]:
        """Return the ids of all folders that hold a log."""
        try:
            with os.scandir(self.root) as entries:
                found = [e.name for e in entries if is_name(e.name) and e.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"can't list jobs: {error.strerror}", place=self.root) from error
        return found

    def newest_of(self, project: str) -> RunFolder | None:
        """Return the newest job of a project, as recorded in `job.started`, or None.

        Where there is none, a folder will do whose process died before `job.started`: nothing
        has been done in it, for whichever project.
        """
        rows = self.rows()
        for row in rows:
            if row.project == project:
                return RunFolder(self.root, row.job_id)
        for row in rows:
            folder = RunFolder(self.root, row.job_id)
            # Its maker takes the lock right after it has made the lock file, and dies with it.
            if not row.started_at and os.path.isfile(folder.lock) and not folder.held:
                return folder
        return None

    def load(self, folder: RunFolder, *, up_to: int | None = None) -> JobState:
        """Return a job's state, folded from its log.

        Raises:
            EventLogError: there is no log, or it can't be read.
        """
        state = fold_job(folder.log, BlobStore(folder.artifacts), up_to=up_to)
        state.job_id = folder.job_id
        return state

    # --- all jobs ------------------------------------------------------------------------------

    def rows(self) -> list[Summary]:
        """Return all jobs, newest first, each as its log says now."""
        known, lines = self._catalog()
        rows = []
        fresh = []
        for name in self.names():
            folder = RunFolder(self.root, name)
            try:
                size = os.stat(folder.log).st_size
            except OSError:
                continue  # no log: no job
            row = known.get(name)
            if row is None or row.log_bytes != size:
                row = self._read(folder)
                if row is None:
                    continue
                fresh.append(row)
            rows.append(row)
        if fresh:
            self._append(fresh)
        if lines > _LINES_A_JOB * len(rows) + _LINES_MORE:
            self._shorten({row.job_id for row in rows})
        return sorted(rows, key=lambda row: (row.started_at, row.job_id), reverse=True)

    def note(self, state: JobState) -> None:
        """Put a job's line into the catalogue; a failure to do so costs time later, no more."""
        folder = RunFolder(self.root, state.job_id)
        try:
            size = os.stat(folder.log).st_size
        except OSError:
            return
        self._append([summary(state, log_bytes=size)])

    def _read(self, folder: RunFolder) -> Summary | None:
        size = os.stat(folder.log).st_size
        rejected: list[object] = []
        try:
            state = fold_job(folder.log, BlobStore(folder.artifacts), rejected=rejected)  # type: ignore[arg-type]  # only its length matters
        except Exception:  # noqa: BLE001 - one broken folder must not hide the others
            return None
        state.job_id = folder.job_id
        return summary(state, log_bytes=size)

    def _catalog(self) -> tuple[dict[str, Summary], int]:
        """Return what the catalogue says last of each job, and how many lines it has."""
        try:
            with open(os.path.join(self.root, CATALOG), "rb") as file:
                data = file.read()
        except OSError:
            return {}, 0
        decode = msgspec.json.Decoder(Summary).decode
        rows: dict[str, Summary] = {}
        lines = data.split(b"\n")
        for line in lines:
            try:
                row = decode(line)
            except msgspec.DecodeError:
                continue  # torn, or of another version: the log will be read instead
            rows[row.job_id] = row
        return rows, len(lines)

    def _shorten(self, job_ids: set[str]) -> None:
        """Write the catalogue anew with one line for each job that there is.

        It gets a line whenever a job has gone on since it was looked at: without this it would
        grow with the looks at a running job, not with the jobs.
        """
        try:
            with self._short_lock():
                known, _ = self._catalog()  # what others have added by now is in it
                rows = [row for job_id, row in known.items() if job_id in job_ids]
                data = msgspec.json.Encoder().encode_lines(rows)
                write_whole(FILES, os.path.join(self.root, CATALOG), data, durable=False)
        except (OSError, EventLogError):
            return

    def _append(self, rows: list[Summary]) -> None:
        try:
            with self._short_lock():
                path = os.path.join(self.root, CATALOG)
                fd = os.open(
                    path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
                try:
                    size = os.fstat(fd).st_size
                    torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                    lines = msgspec.json.Encoder().encode_lines(rows)
                    os.write(fd, b"\n" + lines if torn else lines)
                finally:
                    os.close(fd)
        except (OSError, EventLogError):
            return

    @contextmanager
    def _short_lock(self) -> Iterator[None]:
        path = os.path.join(self.root, ".catalog.lock")
        started = Stamper()(time.time_ns())
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                lock = Lock(path, started=started)
                break
            except LogLocked:
                if time.monotonic() > deadline:
                    raise
        with lock:
            yield
