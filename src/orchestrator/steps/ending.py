"""How a child process ends: told to, exited, killed with its whole group, reaped.

Nothing here reads what the child says: `process` listens, and asks here when it may leave.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from .strays import end_strays

GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""
DRAIN_S = 1.0
"""Waited for the end of the output when every process of the group is dead."""
REAP_S = 10.0
"""Waited for a killed child to be gone."""
GONE_S = 1.0
"""Waited for the others of a killed group to be gone."""
_LOOK_S = 0.002
_POLL_S = 0.05


class End:
    """How far the child's end has come: told to stop, exited, killed, drained."""

    def __init__(self, pid: int, mark: str) -> None:
        self._pid = pid
        self._mark = mark
        self._begun = time.monotonic()
        self._kill_at: float | None = None
        self._leave_at: float | None = None
        self._exited = False

    def reached(self, *, stopping: bool, quiet: bool) -> bool:
        """Do what is due and return whether there is nothing left to wait for.

        Args:
            stopping: whether the child was told to end, or is to be.
            quiet: whether all its pipes are closed, so that (nearly) nobody is left.
        """
        now = time.monotonic()
        self._exited = self._exited or _has_exited(self._pid)
        if stopping and self._kill_at is None:
            _kill_group(self._pid, signal.SIGTERM)
            self._kill_at = now + GRACE_S
        if self._leave_at is None:
            overdue = self._kill_at is not None and now >= self._kill_at
            # A child that ended by itself leaves nobody behind; one that was told to end
            # may leave others that are still about to.
            if overdue or (self._exited and (quiet or not stopping)):
                _kill_group(self._pid, signal.SIGKILL)
                if stopping:
                    end_strays(self._mark, child=self._pid, lasted_s=now - self._begun)
                self._leave_at = now + DRAIN_S
        if self._leave_at is None:
            return False
        return (self._exited and quiet) or now >= self._leave_at

    def wait_s(self, *, watched: bool) -> float | None:
        """Return how long to listen before looking again; None for until something happens."""
        until = self._leave_at if self._leave_at is not None else self._kill_at
        left = None if until is None else max(0.0, until - time.monotonic())
        if watched or self._exited:
            return left
        return _POLL_S if left is None else min(left, _POLL_S)


@contextlib.contextmanager
def exit_watch(pid: int) -> Iterator[tuple[int, ...]]:
    """Give a descriptor that becomes readable when a child exits, where the system has one."""
    try:
        fd = os.pidfd_open(pid) if sys.platform == "linux" else -1
    except OSError:
        fd = -1
    if fd < 0:
        yield ()
        return
    try:
        yield (fd,)
    finally:
        os.close(fd)


def _has_exited(pid: int) -> bool:
    """Return whether a child has exited, without reaping it: its number stays taken."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def bury(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left of a child's group, reap the child, return its exit code."""
    _kill_group(process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
    try:
        code = process.wait(timeout=REAP_S)
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"process {process.pid} does not die") from error
    # Others of the group have been killed too, but may need a moment.
    give_up_at = time.monotonic() + GONE_S
    while _group_lives(process.pid) and time.monotonic() < give_up_at:
        time.sleep(_LOOK_S)
    return code


def _group_lives(group: int) -> bool:
    """Return whether a process of the group is more than a zombie (that nobody may reap)."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if sys.platform != "linux":
        return True
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                state, _, its_group = file.read().rpartition(b")")[2].split()[:3]
        except OSError:
            continue  # gone meanwhile
        if int(its_group) == group and state not in (b"Z", b"X"):
            return True
    return False
