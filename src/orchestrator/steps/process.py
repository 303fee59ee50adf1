"""One child process of a step: started in its own group, listened to, and always ended.

A thread does all of it with blocking calls, so that nothing depends on the event loop once
the child runs; the event loop's part is to wait, and to say stop. Ended means: the child is
reaped, and every process that is still in its group has been killed, also when the child
ended by itself and left some behind in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import anyio

from ..masking import NOTHING, Masker
from .base import LOG_BYTES, OUTPUT_BYTES
from .guardian import GUARDIAN, MARK
from .steplog import StepLog
from .strays import end_strays

KEEP_BYTES = 1 << 20
"""Of stdout, kept in memory for the step's output."""
TAIL_BYTES = 8 << 10
"""Of the end of stderr, kept for the error's text."""
RESULT_BYTES = 64 << 20
"""On the descriptor on which a child hands over its result."""
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
_READ_BYTES = 1 << 16

# Waits for one line before it becomes the command: by then the guardian knows the group.
# If the orchestrator dies first, nothing of the command has run.
_GATE = 'IFS= read -r _orch_go || exit 125; exec "$@"'


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run.

    Attributes:
        argv: program (looked up in the environment's PATH) and arguments.
        cwd: an absolute folder.
        environ: the whole environment.
        stdin: given to the child; then its standard input ends.
        log_path: gets stdout and stderr, appended.
        log_bytes: written to the log.
        output_bytes: kept of stdout, if fewer than `KEEP_BYTES`.
        wants_result: give the child a descriptor for a result; its number replaces
            `RESULT_FD` in `argv`.
        masker: takes secrets out of what the child says on stdout and stderr.
    """

    argv: tuple[str, ...]
    cwd: str
    environ: dict[str, str]
    log_path: str
    stdin: bytes = b""
    wants_result: bool = False
    log_bytes: int = LOG_BYTES
    output_bytes: int = OUTPUT_BYTES
    masker: Masker = NOTHING


RESULT_FD = "{result_fd}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a child ended by itself.

    Attributes:
        exit_code: negative for the number of a signal.
        stdout: its first MiB.
        stdout_bytes: how much there was.
        stderr_tail: its last 8 KiB.
        result: what came on the result's descriptor.
        result_bytes: how much there was; more than `result` holds if it was over the limit.
    """

    exit_code: int
    stdout: bytes
    stdout_bytes: int
    stderr_tail: bytes
    result: bytes
    result_bytes: int


async def run_command(command: Command) -> Outcome:
    """Run a child to its end, or end it when cancelled (within about `GRACE_S + DRAIN_S`).

    Raises:
        OSError: if it can't be started, or its log not written.
    """
    loop = asyncio.get_running_loop()
    finished = anyio.Event()
    child = _Child(command)

    def work() -> None:
        try:
            child.run()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(finished.set)

    # Daemon: an interpreter that is told to exit at once must not wait; the guardian kills.
    threading.Thread(target=work, name="orch-child", daemon=True).start()
    try:
        await finished.wait()
    except BaseException:
        child.stop()
        with anyio.CancelScope(shield=True):
            await finished.wait()
        raise
    return child.outcome()


class _Kept:
    """The beginning of a stream, or its end, and how long all of it was."""

    def __init__(self, limit: int, *, tail: bool = False) -> None:
        self.data = bytearray()
        self.total = 0
        self._limit = limit
        self._tail = tail

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        if self._tail:
            self.data += chunk
            del self.data[: -self._limit]
        elif len(self.data) < self._limit:
            self.data += chunk[: self._limit - len(self.data)]


class _Child:
    """The thread's side. `stop` may be called from another thread at any moment."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._stdout = _Kept(min(KEEP_BYTES, command.output_bytes))
        self._stderr = _Kept(TAIL_BYTES, tail=True)
        self._result = _Kept(RESULT_BYTES)
        self._mark = GUARDIAN.mark()
        self._stopping = threading.Event()
        self._wake_r, self._wake_w = os.pipe()
        self._wake_lock = threading.Lock()
        self._error: BaseException | None = None
        self._exit_code: int | None = None

    def stop(self) -> None:
        """Have the child ended; returns at once."""
        self._stopping.set()
        with self._wake_lock:
            if self._wake_w >= 0:
                os.write(self._wake_w, b"!")

    def outcome(self) -> Outcome:
        if self._error is not None:
            raise self._error
        assert self._exit_code is not None
        return Outcome(
            exit_code=self._exit_code,
            stdout=bytes(self._stdout.data),
            stdout_bytes=self._stdout.total,
            stderr_tail=bytes(self._stderr.data),
            result=bytes(self._result.data),
            result_bytes=self._result.total,
        )

    def run(self) -> None:
        """Start the child and return when it and its group are gone."""
        try:
            with StepLog(self._command.log_path, self._command.log_bytes) as log:
                if not self._stopping.is_set():
                    self._live(log)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
        finally:
            with self._wake_lock:
                os.close(self._wake_r)
                os.close(self._wake_w)
                self._wake_w = -1

    def _live(self, log: StepLog) -> None:
        with contextlib.ExitStack() as stack:
            begun = time.monotonic()
            process, result_r = self._start(stack)
            try:
                GUARDIAN.watch(process.pid)
                self._listen(process, result_r, log)
            finally:
                if self._stopping.is_set():  # what came between the kill and now
                    lasted_s = time.monotonic() - begun
                    end_strays(self._mark, child=process.pid, lasted_s=lasted_s)
                self._exit_code = _bury(process)
                GUARDIAN.release(process.pid)

    def _start(self, stack: contextlib.ExitStack) -> tuple[subprocess.Popen[bytes], int | None]:
        command = self._command
        argv = command.argv
        result_r = result_w = None
        if command.wants_result:
            result_r, result_w = os.pipe()
            stack.callback(os.close, result_r)
            argv = tuple(str(result_w) if arg == RESULT_FD else arg for arg in argv)
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "orch", *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=command.cwd,
                env={**command.environ, MARK: self._mark},
                bufsize=0,
                start_new_session=True,
                pass_fds=() if result_w is None else (result_w,),
            )
        finally:
            if result_w is not None:
                os.close(result_w)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            stack.enter_context(pipe)
        return process, result_r

    def _listen(self, process: subprocess.Popen[bytes], result_r: int | None, log: StepLog) -> None:
        """Take in what the child says until it has ended and its pipes have too."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        sinks = {process.stdout.fileno(): self._stdout, process.stderr.fileno(): self._stderr}
        masks = {fd: self._command.masker.stream() for fd in sinks}
        said = dict(sinks)
        if result_r is not None:
            sinks[result_r] = self._result
        end = _End(process.pid, self._mark)
        with selectors.DefaultSelector() as selector, _exit_watch(process.pid) as exit_fd:
            for fd in (*sinks, self._wake_r, *exit_fd):
                selector.register(fd, selectors.EVENT_READ)
            feed = _Feed(process.stdin, b"go\n" + self._command.stdin, selector)
            while not end.reached(stopping=self._stopping.is_set(), quiet=not sinks):
                for key, _ in selector.select(end.wait_s(watched=bool(exit_fd))):
                    fd = key.fd
                    if fd == feed.fd:
                        feed.push()
                    elif fd in sinks:
                        chunk = os.read(fd, _READ_BYTES)
                        if not chunk:
                            selector.unregister(fd)
                            del sinks[fd]
                            continue
                        if fd not in masks:
                            sinks[fd].add(chunk)
                        elif chunk := masks[fd].feed(chunk):
                            sinks[fd].add(chunk)
                            log.add(chunk)
                    else:  # told to stop, or ended: `reached` looks at it; once is enough
                        selector.unregister(fd)
            for fd, mask in masks.items():
                if rest := mask.end():
                    said[fd].add(rest)
                    log.add(rest)
            if sinks:
                log.note("a process that left the step's group still holds its output open")


class _End:
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


class _Feed:
    """What is still to be written to the child's standard input."""

    def __init__(self, stdin: IO[bytes], data: bytes, selector: selectors.BaseSelector) -> None:
        self.fd = stdin.fileno()
        self._stdin = stdin
        self._left = memoryview(data)
        self._selector = selector
        os.set_blocking(self.fd, False)
        selector.register(self.fd, selectors.EVENT_WRITE)

    def push(self) -> None:
        """Write what fits; at the end, or when nobody reads it, close."""
        try:
            self._left = self._left[os.write(self.fd, self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = memoryview(b"")
        if not self._left:
            self._selector.unregister(self.fd)
            self._stdin.close()
            self.fd = -1


@contextlib.contextmanager
def _exit_watch(pid: int) -> Iterator[tuple[int, ...]]:
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


def _bury(process: subprocess.Popen[bytes]) -> int:
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
