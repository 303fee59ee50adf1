"""Processes of a step that have left its group: found by a mark in their environment, and ended.

A step's processes inherit the mark, whatever session or parent they have by then. Only Linux
tells a process's environment. One that cleared it, too, is not found.
"""

from __future__ import annotations

import os
import signal
import sys

from .guardian import MARK

ROUNDS = 50
"""Looks until nobody is left: one that is about to start another may be quicker than a look."""


LONG_S = 60.0
"""A step that took longer may have seen the numbers of processes come round."""


def end_strays(mark: str, *, child: int, lasted_s: float) -> int:
    """Kill all processes that carry a mark, and return how many there were.

    Args:
        mark: of a child.
        child: its number: what it started has a higher one, unless the numbers came round.
        lasted_s: since it was started.
    """
    if sys.platform != "linux":
        return 0
    above = child if lasted_s < LONG_S and _newest() >= child else 0
    ended = 0
    for _ in range(ROUNDS):
        found = _kill_all(f"\0{MARK}={mark}\0".encode(), above)
        ended += found
        if not found:
            break
    return ended


def _newest() -> int:
    """Return the number of the process that was started last."""
    try:
        with open("/proc/loadavg", "rb", buffering=0) as file:
            return int(file.read().split()[-1])
    except (OSError, ValueError, IndexError):
        return 0


def _kill_all(wanted: bytes, above: int) -> int:
    ended = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) > above and _carries(entry, wanted):
            ended += _kill(int(entry), wanted)
    return ended


def _carries(pid: str, wanted: bytes) -> bool:
    """Return whether a process that is no zombie was started with the mark."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return wanted in b"\0" + file.read()
    except OSError:
        return False  # gone, or another user's


def _kill(pid: int, wanted: bytes) -> bool:
    """Kill a process, if the number still is its own."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _carries(str(pid), wanted):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
