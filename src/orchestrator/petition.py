"""Bring a request to a job: to the process that holds it, or into its log if none does."""

from __future__ import annotations

import os
import pwd
import secrets
import time
from collections.abc import Callable

import msgspec

from eventlog import Log, LogLocked

from .answers import Request
from .blobs import BlobStore
from .errors import LockedError, UsageError
from .folder import RunFolder
from .inbox import Inbox, new_id, settle
from .jobs import Jobs
from .journal import Journal, line_fields
from .outputs import Outputs
from .report import manifest
from .state import JobState
from .written import as_written

WAIT_S = 20.0
"""For the process that holds the job; it looks several times a second."""
_LOOK_S = 0.02


def account() -> str:
    """Return the name of the account that this process belongs to."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def new_request(**members: object) -> Request:
    """Return a request of this account, made now."""
    request_id = new_id(time.time_ns(), secrets.token_bytes(4))
    return msgspec.convert({"id": request_id, "by": account(), **members}, Request)


def bring(jobs: Jobs, folder: RunFolder, request: Request, warn: Callable[[str], None]) -> JobState:
    """Have a request recorded and return the job's state after it.

    It is put into inbox/ first, whoever records it: a process that dies on the way loses
    nothing, and the id sees to it that nothing is recorded twice.

    Raises:
        UsageError: it was refused.
        LockedError: whoever holds the job does not answer; the request stays in inbox/.
        EventLogError: the log can't be read or written.
    """
    inbox = Inbox(folder.inbox, warn)
    inbox.own = request.id
    inbox.drop(request)
    give_up_at = time.monotonic() + WAIT_S
    while inbox.waits(request):
        if not folder.held and _record(jobs, folder, inbox, warn):
            break
        if time.monotonic() > give_up_at:
            raise LockedError(
                f"whoever holds job {folder.job_id} does not answer; the request stays in its"
                " inbox/ and is recorded when they look, or by the next leg",
                place=folder.lock,
            )
        time.sleep(_LOOK_S)
    why = inbox.refusal(request)
    state = jobs.load(folder)
    if why or request.id not in state.requests:
        raise UsageError(
            f"can't {request.kind}: {why or 'the request was taken away'}",
            place=f"{folder.job_id}, step {request.step}" if request.step else folder.job_id,
            hint=f"orch show {folder.job_id} tells how it stands",
        )
    return state


def _record(jobs: Jobs, folder: RunFolder, inbox: Inbox, warn: Callable[[str], None]) -> bool:
    """Open a leg that only records; return False if somebody else took the job meanwhile."""
    folder.reopen()
    # Not made here: a job that has no log is none.
    jobs.load(folder)
    try:
        log = Log(folder.log, fields=line_fields(folder.job_id), lock_path=folder.lock)
    except LogLocked:
        return False
    with log:
        if log.recovered is not None:
            warn(f"note: the last line was cut off and set aside: {log.recovered.moved_to}")
        state = jobs.load(folder)
        blobs = BlobStore(folder.artifacts)
        settle(inbox, Journal(log, state, written=as_written(blobs)), Outputs(blobs).keep)
        project_out(folder, jobs, state)
    return True


def project_out(folder: RunFolder, jobs: Jobs, state: JobState) -> None:
    """Write the projections that people and scripts look at: manifest and catalogue."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest(state)), indent=2)
    folder.write("manifest.json", encoded + b"\n")
    jobs.note(state)
