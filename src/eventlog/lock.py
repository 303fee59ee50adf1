"""One writer per log: an flock that lives as long as its process, and is never unlinked.

The kernel frees the lock when the process dies, however it dies, so there is no stale lock to
clean up. What stands in the lock file is for messages, never for decisions.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from types import TracebackType
from typing import Self

import msgspec

from .errors import LogLocked, LogWriteFailed
from .forked import own
from .fs import FILES, Files

_TRIES = 5
_PAUSE_S = 0.01


class Owner(msgspec.Struct, frozen=True):
    """Who took the lock last."""

    pid: int
    host: str
    started: str


class Lock:
    """An exclusive hold on a lock file.

    Raises:
        LogLocked: another process holds it; the message names pid, host and start.
        LogWriteFailed: the lock file can't be made.
    """

    def __init__(self, path: str, *, started: str, files: Files = FILES) -> None:
        self.path = path
        self._files = files
        try:
            self._fd = files.open(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise LogWriteFailed(
                f"can't open the lock file: {error.strerror}",
                path=path,
                hint="check the folder's owner and permissions",
            ) from error
        try:
            taken = self._take()
            owner = "" if taken else _owner(files.read_at(self._fd, 4096, 0))
        except OSError as error:
            self.release()
            raise LogWriteFailed(
                f"can't lock: {error.strerror or error}",
                path=path,
                hint="the file system must support flock",
            ) from error
        if not taken:
            self.release()
            raise LogLocked(
                f"{owner} is writing this log",
                path=path,
                hint="wait until it ends, or stop it",
            )
        own(self)
        me = Owner(os.getpid(), socket.gethostname(), started)
        name = msgspec.json.encode(me) + b"\n"
        try:
            # Written over, then cut: ext4 writes a file that was emptied to the disk when it is
            # closed, which took ten times as long as all the rest of a lock.
            os.pwrite(self._fd, name, 0)
            files.truncate(self._fd, len(name))
        except OSError:
            pass  # the name is only for messages; the lock itself holds

    def _take(self) -> bool:
        # A look by `is_held` takes the lock for an instant; that must not turn a writer away.
        for _ in range(_TRIES):
            if self._files.lock(self._fd):
                return True
            time.sleep(_PAUSE_S)
        return False

    def release(self) -> None:
        """Let go; more than once is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # it is closed, whatever it says
                self._files.close(fd)

    def disown(self) -> None:
        """Let go in a forked process: the one that took the lock holds it still."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def is_held(path: str, files: Files = FILES) -> bool:
    """Return whether some process holds the lock file now."""
    try:
        fd = files.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not files.lock(fd, shared=True)
    finally:
        files.close(fd)


def _owner(content: bytes) -> str:
    try:
        owner = msgspec.json.decode(content, type=Owner)
    except msgspec.DecodeError:
        return "another process (its name is not known yet)"
    who = "this process itself" if owner.pid == os.getpid() else "another process"
    return f"{who} (pid {owner.pid} on {owner.host}, since {owner.started})"
