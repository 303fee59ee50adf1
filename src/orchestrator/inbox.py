"""`runs/<job>/inbox/`: what other commands ask of a job, for whoever holds its lock.

A request is a file, written whole, whose name begins with its time, so that names sort by age.
It is taken away when its event is durable, or put aside with the reason when it is refused. A
process that dies in between leaves the file, and the id in the log: the next one sees that it
was recorded, and only takes the file away.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable

import anyio
import msgspec

from eventlog.codec import UNREADABLE
from eventlog.fs import FILES, write_whole

from .answers import Keep, Refused, Request, answer
from .errors import StorageError
from .journal import Journal
from .runner import Runner

SCHEMA_VERSION = 1
LOOK_S = 0.2
"""Between two looks: a scan of an empty folder takes some microseconds."""
MAX_BYTES = 64 << 20
MAX_REQUESTS = 100
"""Taken in at one look."""
MAX_ENTRIES = 10_000
"""Names looked at: who fills the folder with more must empty it."""

_NAME = re.compile(r"([0-9]{20}-[0-9a-f]{8})\.json\Z")
_ASIDE = (".bad", ".refused")
_LEFT_S = 3600.0

Warn = Callable[[str], None]


class Inbox:
    """The requests of one job.

    Args:
        folder: `inbox/` of the run folder; it may be missing.
        warn: told of what was put aside.
    """

    def __init__(self, folder: str, warn: Warn) -> None:
        self._folder = folder
        self._warn = warn
        self._passed_over: set[str] = set()
        self.own = ""  # the request that its reader makes, who is told otherwise if it is refused

    def drop(self, request: Request) -> None:
        """Put a request in, durable on return.

        Raises:
            StorageError: the system refused.
        """
        request = msgspec.structs.replace(request, schema_version=SCHEMA_VERSION)
        path = self._path(request.id)
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            write_whole(FILES, path, msgspec.json.encode(request) + b"\n")
        except OSError as error:
            raise StorageError(f"can't write a request: {error.strerror}", place=path) from error

    def pending(self) -> list[Request]:
        """Return the requests that are there, the oldest first; what is none is put aside."""
        found = []
        for name in self._names():
            request = self._read(name)
            if request is not None:
                found.append(request)
            if len(found) == MAX_REQUESTS:
                break
        return found

    def done(self, request: Request) -> None:
        """Take a request away: its event is durable."""
        self._remove(self._path(request.id))

    def refuse(self, request: Request, why: str) -> None:
        """Take a request away that can't be met, and leave the reason for who made it."""
        if request.id != self.own:
            self._warn(f"warning: a request of {request.by} was refused: {why}")
        path = self._path(request.id)
        try:
            write_whole(FILES, f"{path}.refused", why.encode() + b"\n", durable=False)
        except OSError:
            pass  # who waits for it sees the request gone, and no event
        self._remove(path)

    def waits(self, request: Request) -> bool:
        """Return whether nobody has dealt with a request yet."""
        return os.path.lexists(self._path(request.id))

    def refusal(self, request: Request) -> str:
        """Return why a request was refused, and forget it; empty if it was not."""
        path = f"{self._path(request.id)}.refused"
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                why = file.read(1 << 16).strip()
        except OSError:
            return ""
        self._remove(path)
        return why

    def _path(self, request_id: str) -> str:
        return os.path.join(self._folder, f"{request_id}.json")

    def _names(self) -> list[str]:
        names = []
        try:
            with os.scandir(self._folder) as entries:
                for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False):
                    if not entry.name.endswith(_ASIDE):
                        names.append(entry.name)
        except OSError:
            return []
        return sorted(names)

    def _read(self, name: str) -> Request | None:
        path = os.path.join(self._folder, name)
        if ".json.tmp-" in name:  # being written, or left by a process that died
            self._sweep(path)
            return None
        match = _NAME.match(name)
        if match is None:
            self._set_aside(path, "its name is none that a command gives")
            return None
        try:
            data = _content(path)
        except FileNotFoundError:
            return None  # withdrawn meanwhile
        except (OSError, ValueError) as error:
            self._set_aside(path, str(error))
            return None
        try:
            request = msgspec.json.decode(data, type=Request)
        except UNREADABLE as error:
            self._set_aside(path, f"it can't be read: {error}")
            return None
        if request.id != match[1]:
            self._set_aside(path, "it has the name of another request")
            return None
        return request

    def _set_aside(self, path: str, why: str) -> None:
        if path in self._passed_over:
            return
        self._passed_over.add(path)
        self._warn(f"warning: a request in inbox/ was put aside: {why}\n  --> {path}.bad")
        try:
            os.rename(path, f"{path}.bad")
        except OSError:
            pass  # it is told once, and passed over from now on

    def _sweep(self, path: str) -> None:
        try:
            if time.time() - os.lstat(path).st_mtime > _LEFT_S:
                os.unlink(path)
        except OSError:
            pass

    def _remove(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError:
            pass  # its id is in the log: it is not recorded again


def settle(inbox: Inbox, journal: Journal, keep: Keep) -> None:
    """Record what was asked while nobody held the job; before a leg begins in it.

    Raises:
        EventLogError: the log can't be written.
    """
    for request in inbox.pending():
        if request.id not in journal.state.requests:
            try:
                events = answer(journal.state, request, keep, live=False)
            except Refused as refused:
                inbox.refuse(request, str(refused))
                continue
            journal.record(*events)
        inbox.done(request)


async def watch(inbox: Inbox, runner: Runner) -> None:
    """Hand in what comes, until it is cancelled."""
    handed: set[str] = set()
    while True:
        for request in inbox.pending():
            if request.id not in handed:
                handed.add(request.id)
                runner.ask(request, _then(inbox, request))
        await anyio.sleep(LOOK_S)


def _then(inbox: Inbox, request: Request) -> Callable[[str], None]:
    def answered(refusal: str) -> None:
        if refusal:
            inbox.refuse(request, refusal)
        else:
            inbox.done(request)

    return answered


def new_id(time_ns: int, salt: bytes) -> str:
    """Return the id of a new request: 20 digits of its time, and 8 hex digits."""
    return f"{time_ns:020d}-{salt[:4].hex()}"


def _content(path: str) -> bytes:
    """Return a request's bytes.

    Raises:
        ValueError: it is no plain file of the job's owner, or too large.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")
        if found.st_uid not in (os.geteuid(), 0):
            raise ValueError(f"it belongs to another user ({found.st_uid})")
        if found.st_mode & 0o022:
            raise ValueError("others may write it")
        if found.st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        return file.read(MAX_BYTES)
