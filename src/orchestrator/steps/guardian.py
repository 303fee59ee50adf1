"""Who ends the children when the orchestrator is killed with -9.

One small shell process for all steps of a program, in a session of its own. It is told each
process group that is started and ended, by a pipe; when the pipe closes because the program
is gone, however it went, it kills the groups that are left, grandchildren included. (Linux's
PR_SET_PDEATHSIG reaches direct children only, and follows the thread that started them.)

A process that left its group, by a session of its own for instance, still has the mark in its
environment that every child of this program is started with: on Linux such processes are found
by it, here and when a step is stopped (see `strays`); one that a step left behind deliberately
lives on for later steps, and ends with this program. What is left even so: a process that left
both its group and its environment, one that left its group on another system, and everything if
the guardian is killed too.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import secrets
import subprocess
import threading

MARK = "ORCH_PROCESS"
"""The variable that marks the processes of a step."""

_SCRIPT = """
groups=" "
while read -r what id; do
  case $what in
    +) groups="$groups$id " ;;
    -) groups="${groups%% $id *} ${groups#* $id }" ;;
  esac
done
for id in $groups; do kill -s KILL -- "-$id"; done
round=0
while [ -d /proc/self ] && [ "$round" -lt 20 ]; do
  round=$((round + 1)) found=
  for file in $(grep -l -s -a -F "$1" /proc/[0-9]*/environ); do
    id=${file#/proc/}
    kill -s KILL "${id%/environ}" && found=1
  done
  [ "$found" ] || break
done
"""


class Guardian:
    """Holds the list of process groups that must not outlive this program.

    Threads may share one; the process is started with the first group.
    """

    def __init__(self) -> None:
        self._program = secrets.token_hex(8)
        self._children = itertools.count(1)
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def mark(self) -> str:
        """Return what marks one child, and all that it starts, in their environment."""
        return f"{self._program}-{next(self._children)}"

    def watch(self, group: int) -> None:
        """Have a group killed if this program dies from now on."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+ {group}\n")

    def release(self, group: int) -> None:
        """Forget a group that is gone."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"- {group}\n")

    def close(self) -> None:
        """End the guardian, and with it every group that is left."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                _end(process)

    def forget(self) -> None:
        """Let go of the guardian in a forked copy of this program: it is not the copy's."""
        self._program = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._groups = set()
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            # Else the copy would hold the pipe open after the program's death.
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.returncode = 0

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.write(line.encode())
            except BrokenPipeError:  # somebody killed it: the next one is told everything
                _end(self._process)
            else:
                return
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "orch-guardian", f"{MARK}={self._program}-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        lines = "".join(f"+ {group}\n" for group in sorted(self._groups))
        self._process.stdin.write(lines.encode())


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


GUARDIAN = Guardian()
atexit.register(GUARDIAN.close)
os.register_at_fork(after_in_child=GUARDIAN.forget)
